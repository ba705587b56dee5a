-- Which jobs have ended, but still have pieces of their log beside it?
--
-- A log over 512 MiB stays in its pieces. Reads the key of job_log_chunk from one job to the next, and
-- 10,000 jobs at most. 0.2 ms with 100,000 jobs of bench/generate.py.

WITH RECURSIVE chunk (job_uuid, place) AS (
    (
        SELECT
            c.job_uuid,
            1 AS place
        FROM job_log_chunk AS c
        ORDER BY c.job_uuid
        LIMIT 1
    )
    UNION ALL
    SELECT
        n.job_uuid,
        k.place + 1 AS place
    FROM chunk AS k
    CROSS JOIN LATERAL (
        SELECT c.job_uuid
        FROM job_log_chunk AS c
        WHERE c.job_uuid > k.job_uuid
        ORDER BY c.job_uuid
        LIMIT 1
    ) AS n
    WHERE k.place < 10000
)

SELECT
    f.verdict,
    f.object,
    f.jobs::text AS value,
    '0' AS "limit",
    CASE f.verdict
        WHEN 'warn'
            THEN format(
                'Their logs show these pieces again. Look at one, sql/job/log.sql, and: '
                'DELETE FROM job_log_chunk WHERE job_uuid = %L;', f.one
            )
    END AS advice,
    f.jobs::double precision AS number
FROM (
    SELECT
        CASE WHEN count(*) = 0 THEN 'ok' ELSE 'warn' END AS verdict,
        coalesce('jobs such as ' || min(j.uuid::text), 'ended jobs') AS object,
        count(*) AS jobs,
        min(j.uuid::text) AS one
    FROM chunk AS k
    JOIN job AS j ON j.uuid = k.job_uuid
    WHERE j.state <> 'running' AND (j.log IS NULL OR j.log_size <= 536870912)
) AS f
ORDER BY f.object COLLATE "C";
