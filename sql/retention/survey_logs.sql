-- What do the rules say of the logs of these jobs, newest first, and what holds them?
--
-- What holds a log is given where the rules say that it goes: whether a file of the job was released, and how
-- often jobs of retention_log_reader have read its files; then the jobs that made what it read, one for each
-- file.
--
-- before_at: go on after the job that started then, the last row's; with `before`
-- before: its uuid
-- limit: at most so many jobs

WITH walked AS MATERIALIZED (
    SELECT
        j.uuid,
        j.started_at,
        j.state,
        j.log_size,
        j.log IS NOT NULL AS has_log
    FROM job AS j
\if :{?before_at}
    WHERE (j.started_at, j.uuid) < (:'before_at'::timestamptz, :'before'::uuid)
\endif
    ORDER BY j.started_at DESC, j.uuid DESC
    LIMIT :limit
),

judged AS MATERIALIZED (
    SELECT
        w.uuid,
        w.started_at,
        w.state,
        w.log_size,
        CASE WHEN w.has_log OR w.state = 'running' THEN v.stays ELSE 'removed' END AS stays
    FROM walked AS w
    JOIN retention_job AS v ON v.job_uuid = w.uuid
    WHERE v.what = 'log'
)

SELECT
    d.uuid,
    d.started_at,
    d.stays,
    d.state,
    coalesce(h.is_released, FALSE) AS is_released,
    coalesce(h.consumers, 0) AS consumers,
    CASE WHEN d.stays IS NULL THEN d.log_size ELSE 0 END AS log_bytes,
    CASE
        WHEN d.stays IS NULL THEN (SELECT count(*) FROM job_log_chunk AS c WHERE c.job_uuid = d.uuid)
        ELSE 0
    END AS chunks,
    CASE
        WHEN d.stays IS NULL
            THEN ARRAY(
                SELECT m.job_uuid
                FROM job_input_artifacts AS ji
                JOIN artifact AS m ON m.uuid = ji.artifact_uuid
                WHERE ji.job_uuid = d.uuid AND m.job_uuid IS NOT NULL
                ORDER BY m.job_uuid
            )
        ELSE '{}'
    END AS makers
FROM judged AS d
LEFT JOIN LATERAL (
    SELECT
        bool_or(EXISTS (SELECT 1 FROM release AS r WHERE r.artifact_uuid = a.uuid)) AS is_released,
        sum((
            SELECT count(*)
            FROM retention_log_reader AS c
            WHERE c.artifact_uuid = a.uuid
        ))::bigint AS consumers
    FROM artifact AS a
    WHERE d.stays IS NULL AND a.job_uuid = d.uuid
) AS h ON TRUE
ORDER BY d.started_at DESC, d.uuid DESC;
