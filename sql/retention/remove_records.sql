-- Remove the next jobs that go by the rules and are not kept, each submit with the last of its jobs.
--
-- One row with what was looked at and removed; none at the end of the walk, which retention/begin begins. A
-- job stays that made a released file, that a job in the store read from, or that a submit in the store
-- reused. What is locked is left for the next walk. It fails if another session walks now, or if a job was
-- used in this very moment: try again.
--
-- width: at most so many jobs are looked at
-- limit: at most so many jobs are removed

WITH RECURSIVE place AS MATERIALIZED (
    SELECT
        w.started_at,
        w.uuid
    FROM retention_walk AS w
    WHERE w.what = 'record'
    FOR UPDATE NOWAIT
),

walked AS MATERIALIZED (
    SELECT
        j.uuid,
        j.started_at
    FROM job AS j
    WHERE
        (j.started_at, j.uuid) < ((SELECT p.started_at FROM place AS p), (SELECT p.uuid FROM place AS p))
        -- Whatever is younger stays by each rule.
        AND j.started_at <= now() - (
            SELECT min(date_part('epoch', r.older_than)) * interval '1 second'
            FROM retention_rule AS r
            WHERE r.what = 'record'
        )
    ORDER BY j.started_at DESC, j.uuid DESC
    LIMIT :width
),

named AS MATERIALIZED (
    SELECT
        w.uuid,
        w.started_at
    FROM walked AS w
    JOIN retention_job AS v ON v.job_uuid = w.uuid
    WHERE v.what = 'record' AND v.stays IS NULL
    ORDER BY w.started_at DESC, w.uuid DESC
    LIMIT :limit
),

locked AS MATERIALIZED (
    SELECT j.uuid
    FROM job AS j
    WHERE j.uuid = ANY(ARRAY(SELECT n.uuid FROM named AS n))
    ORDER BY j.uuid
    FOR UPDATE SKIP LOCKED
),

-- Whoever uses one now has its row locked, and is not waited for: two could wait for each other.
outputs AS MATERIALIZED (
    SELECT a.uuid
    FROM artifact AS a
    WHERE a.job_uuid = ANY(ARRAY(SELECT l.uuid FROM locked AS l))
    ORDER BY a.uuid
    FOR UPDATE SKIP LOCKED
),

-- Those that a release, a submit, or a job that stays holds; then what these were made from.
held (uuid) AS (
    SELECT t.uuid
    FROM (
        SELECT u.job_uuid AS uuid
        FROM reuse AS u
        WHERE u.job_uuid = ANY(ARRAY(SELECT l.uuid FROM locked AS l))
        UNION ALL
        SELECT a.job_uuid
        FROM artifact AS a
        WHERE
            a.job_uuid = ANY(ARRAY(SELECT l.uuid FROM locked AS l))
            AND (
                a.uuid NOT IN (SELECT o.uuid FROM outputs AS o)
                OR EXISTS (SELECT 1 FROM release AS r WHERE r.artifact_uuid = a.uuid)
                OR EXISTS (
                    SELECT 1
                    FROM job_input_artifacts AS ji
                    WHERE
                        ji.artifact_uuid = a.uuid
                        AND ji.job_uuid NOT IN (SELECT l.uuid FROM locked AS l)
                )
            )
    ) AS t
    UNION
    SELECT a.job_uuid
    FROM held AS h
    JOIN job_input_artifacts AS ji ON ji.job_uuid = h.uuid
    JOIN artifact AS a ON a.uuid = ji.artifact_uuid
    WHERE a.job_uuid IN (SELECT l.uuid FROM locked AS l)
),

going AS MATERIALIZED (
    SELECT l.uuid
    FROM locked AS l
    WHERE l.uuid NOT IN (SELECT h.uuid FROM held AS h)
),

left_submits AS MATERIALIZED (
    SELECT s.uuid
    FROM submit AS s
    WHERE
        s.uuid = ANY(ARRAY(
            SELECT j.submit_uuid
            FROM job AS j
            WHERE j.uuid = ANY(ARRAY(SELECT g.uuid FROM going AS g))
        ))
        AND NOT EXISTS (
            SELECT 1
            FROM job AS o
            WHERE o.submit_uuid = s.uuid AND o.uuid NOT IN (SELECT g.uuid FROM going AS g)
        )
    ORDER BY s.uuid
    FOR UPDATE SKIP LOCKED
),

removed_inputs AS (
    DELETE FROM job_input_artifacts AS ji
    WHERE ji.job_uuid = ANY(ARRAY(SELECT g.uuid FROM going AS g))
    RETURNING ji.job_uuid
),

removed_artifacts AS (
    DELETE FROM artifact AS a
    WHERE a.job_uuid = ANY(ARRAY(SELECT g.uuid FROM going AS g))
    RETURNING a.uuid
),

removed_chunks AS (
    DELETE FROM job_log_chunk AS c
    WHERE c.job_uuid = ANY(ARRAY(SELECT g.uuid FROM going AS g))
    RETURNING c.seq
),

removed_jobs AS (
    DELETE FROM job AS j
    WHERE j.uuid = ANY(ARRAY(SELECT g.uuid FROM going AS g))
    RETURNING CASE WHEN j.log IS NOT NULL THEN j.log_size END AS log_size
),

removed_reuses AS (
    DELETE FROM reuse AS u
    WHERE u.submit_uuid = ANY(ARRAY(SELECT s.uuid FROM left_submits AS s))
    RETURNING u.job_uuid
),

removed_submits AS (
    DELETE FROM submit AS s
    WHERE s.uuid = ANY(ARRAY(SELECT f.uuid FROM left_submits AS f))
    RETURNING s.uuid
),

moved AS (
    UPDATE retention_walk AS w
    SET started_at = l.started_at, uuid = l.uuid
    FROM (
        SELECT
            t.started_at,
            t.uuid
        FROM (
            SELECT
                k.started_at,
                k.uuid
            FROM walked AS k
            WHERE (SELECT count(*) FROM named) < :limit
            UNION ALL
            SELECT
                n.started_at,
                n.uuid
            FROM named AS n
        ) AS t
        ORDER BY t.started_at, t.uuid
        LIMIT 1
    ) AS l
    WHERE w.what = 'record'
    RETURNING w.what
)

SELECT
    (SELECT count(*) FROM walked) AS walked,
    (SELECT count(*) FROM removed_jobs) AS jobs,
    (SELECT count(*) FROM removed_submits) AS submits,
    (SELECT count(*) FROM removed_artifacts) AS artifacts,
    (SELECT count(*) FROM removed_inputs) AS inputs,
    (SELECT count(*) FROM removed_reuses) AS reuses,
    (SELECT count(*) FROM removed_chunks) AS chunks,
    (SELECT coalesce(sum(r.log_size), 0)::bigint FROM removed_jobs AS r) AS log_bytes
FROM moved
ORDER BY walked;
