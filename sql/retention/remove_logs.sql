-- Remove the next logs that go by the rules and are not kept.
--
-- One row with what was looked at and removed; none at the end of the walk, which retention/begin begins. The
-- log of a job stays if a file of the job was released, or if retention_log_reader has a job that read one. A
-- job whose row is locked is left for the next walk. It fails if another session walks now.
--
-- width: at most so many jobs are looked at
-- limit: at most so many logs are removed

WITH RECURSIVE place AS MATERIALIZED (
    SELECT
        w.started_at,
        w.uuid
    FROM retention_walk AS w
    WHERE w.what = 'log'
    FOR UPDATE NOWAIT
),

walked AS MATERIALIZED (
    SELECT
        j.uuid,
        j.started_at,
        j.log IS NOT NULL AS has_log
    FROM job AS j
    WHERE
        (j.started_at, j.uuid) < ((SELECT p.started_at FROM place AS p), (SELECT p.uuid FROM place AS p))
        -- Whatever is younger stays by each rule.
        AND j.started_at <= now() - (
            SELECT min(date_part('epoch', r.older_than)) * interval '1 second'
            FROM retention_rule AS r
            WHERE r.what = 'log'
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
    WHERE w.has_log AND v.what = 'log' AND v.stays IS NULL
    ORDER BY w.started_at DESC, w.uuid DESC
    LIMIT :limit
),

locked AS MATERIALIZED (
    SELECT j.uuid
    FROM job AS j
    WHERE j.uuid = ANY(ARRAY(SELECT n.uuid FROM named AS n))
    ORDER BY j.uuid
    FOR NO KEY UPDATE SKIP LOCKED
),

-- Those that a release holds, or a job whose log is there and stays; then what these were made from.
held (uuid) AS (
    SELECT a.job_uuid
    FROM artifact AS a
    WHERE
        a.job_uuid = ANY(ARRAY(SELECT l.uuid FROM locked AS l))
        AND (
            EXISTS (SELECT 1 FROM release AS r WHERE r.artifact_uuid = a.uuid)
            OR EXISTS (
                SELECT 1
                FROM retention_log_reader AS c
                WHERE
                    c.artifact_uuid = a.uuid
                    AND c.job_uuid NOT IN (SELECT l.uuid FROM locked AS l)
            )
        )
    UNION
    SELECT a.job_uuid
    FROM held AS h
    JOIN job AS c ON c.uuid = h.uuid
    JOIN job_input_artifacts AS ji ON ji.job_uuid = h.uuid
    JOIN artifact AS a ON a.uuid = ji.artifact_uuid
    WHERE c.state = 'success' AND a.job_uuid IN (SELECT l.uuid FROM locked AS l)
),

going AS MATERIALIZED (
    SELECT l.uuid
    FROM locked AS l
    WHERE l.uuid NOT IN (SELECT h.uuid FROM held AS h)
),

removed_chunks AS (
    DELETE FROM job_log_chunk AS c
    WHERE c.job_uuid = ANY(ARRAY(SELECT g.uuid FROM going AS g))
    RETURNING c.seq
),

removed AS (
    UPDATE job AS j
    SET log = NULL, log_pieces = NULL
    WHERE j.uuid = ANY(ARRAY(SELECT g.uuid FROM going AS g))
    RETURNING j.log_size
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
    WHERE w.what = 'log'
    RETURNING w.what
)

SELECT
    (SELECT count(*) FROM walked) AS walked,
    (SELECT count(*) FROM removed) AS logs,
    (SELECT count(*) FROM removed_chunks) AS chunks,
    (SELECT coalesce(sum(r.log_size), 0)::bigint FROM removed AS r) AS log_bytes
FROM moved
ORDER BY walked;
