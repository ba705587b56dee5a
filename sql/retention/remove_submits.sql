-- Remove the next submits without jobs that go by the rules, and what they reused with them.
--
-- One row with what was looked at and removed; none at the end of the walk, which retention/begin begins. A
-- submit whose row is locked is left for the next walk. It fails if another session walks now, or if a job
-- of the submit started in this very moment: try again.
--
-- width: at most so many submits are looked at
-- limit: at most so many submits are removed

WITH place AS MATERIALIZED (
    SELECT
        w.started_at,
        w.uuid
    FROM retention_walk AS w
    WHERE w.what = 'submit'
    FOR UPDATE NOWAIT
),

walked AS MATERIALIZED (
    SELECT
        s.uuid,
        s.timestamp
    FROM submit AS s
    WHERE
        (s.timestamp, s.uuid) < ((SELECT p.started_at FROM place AS p), (SELECT p.uuid FROM place AS p))
        -- Whatever is younger stays by each rule.
        AND s.timestamp <= now() - (
            SELECT min(date_part('epoch', r.older_than)) * interval '1 second'
            FROM retention_rule AS r
            WHERE r.what = 'record'
        )
    ORDER BY s.timestamp DESC, s.uuid DESC
    LIMIT :width
),

named AS MATERIALIZED (
    SELECT
        w.uuid,
        w.timestamp
    FROM walked AS w
    JOIN retention_submit AS v ON v.submit_uuid = w.uuid
    WHERE v.stays IS NULL
    ORDER BY w.timestamp DESC, w.uuid DESC
    LIMIT :limit
),

going AS MATERIALIZED (
    SELECT s.uuid
    FROM submit AS s
    WHERE s.uuid = ANY(ARRAY(SELECT n.uuid FROM named AS n))
    ORDER BY s.uuid
    FOR UPDATE SKIP LOCKED
),

removed_reuses AS (
    DELETE FROM reuse AS u
    WHERE u.submit_uuid = ANY(ARRAY(SELECT g.uuid FROM going AS g))
    RETURNING u.job_uuid
),

removed_submits AS (
    DELETE FROM submit AS s
    WHERE s.uuid = ANY(ARRAY(SELECT g.uuid FROM going AS g))
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
                k.timestamp AS started_at,
                k.uuid
            FROM walked AS k
            WHERE (SELECT count(*) FROM named) < :limit
            UNION ALL
            SELECT
                n.timestamp AS started_at,
                n.uuid
            FROM named AS n
        ) AS t
        ORDER BY t.started_at, t.uuid
        LIMIT 1
    ) AS l
    WHERE w.what = 'submit'
    RETURNING w.what
)

SELECT
    (SELECT count(*) FROM walked) AS walked,
    (SELECT count(*) FROM removed_submits) AS submits,
    (SELECT count(*) FROM removed_reuses) AS reuses
FROM moved
ORDER BY walked;
