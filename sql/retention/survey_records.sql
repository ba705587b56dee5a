-- What do the rules say of these jobs, newest first, and what holds them?
--
-- What holds a job is given where the rules say that it goes: whether a file of it was released, how often
-- jobs have read its files, and submits reused it; then the jobs that made what it read, one for each file.
--
-- before_at: go on after the job that started then, the last row's; with `before`
-- before: its uuid
-- limit: at most so many jobs

WITH walked AS MATERIALIZED (
    SELECT
        j.uuid,
        j.started_at,
        j.submit_uuid,
        CASE WHEN j.log IS NOT NULL THEN j.log_size ELSE 0 END AS log_bytes
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
        w.submit_uuid,
        w.log_bytes,
        v.stays
    FROM walked AS w
    JOIN retention_job AS v ON v.job_uuid = w.uuid
    WHERE v.what = 'record'
)

SELECT
    d.uuid,
    d.started_at,
    d.stays,
    d.submit_uuid,
    coalesce(h.is_released, FALSE) AS is_released,
    coalesce(h.consumers, 0) AS consumers,
    CASE
        WHEN d.stays IS NULL THEN (SELECT count(*) FROM reuse AS u WHERE u.job_uuid = d.uuid) ELSE 0
    END AS reuses,
    coalesce(h.artifacts, 0) AS artifacts,
    CASE
        WHEN d.stays IS NULL
            THEN (SELECT count(*) FROM job_input_artifacts AS ji WHERE ji.job_uuid = d.uuid)
        ELSE 0
    END AS inputs,
    CASE
        WHEN d.stays IS NULL THEN (SELECT count(*) FROM job_log_chunk AS c WHERE c.job_uuid = d.uuid)
        ELSE 0
    END AS chunks,
    d.log_bytes,
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
        count(*) AS artifacts,
        bool_or(EXISTS (SELECT 1 FROM release AS r WHERE r.artifact_uuid = a.uuid)) AS is_released,
        sum((
            SELECT count(*) FROM job_input_artifacts AS ji WHERE ji.artifact_uuid = a.uuid
        ))::bigint AS consumers
    FROM artifact AS a
    WHERE d.stays IS NULL AND a.job_uuid = d.uuid
) AS h ON TRUE
ORDER BY d.started_at DESC, d.uuid DESC;
