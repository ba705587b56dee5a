-- What do the rules say of these jobs, and what holds each?
--
-- A row for each job and what holds it: a release, a job that read one of its files, or a submit that reused
-- it, with a job of that submit; or one row where nothing does.
--
-- what: log or record
-- jobs: uuids of jobs

SELECT
    v.job_uuid,
    v.position,
    CASE
        WHEN v.what = 'log' AND j.log IS NULL AND j.state <> 'running' THEN 'removed' ELSE v.stays
    END AS stays,
    h.release_uuid,
    h.submit_uuid,
    h.holder_uuid
FROM retention_job AS v
JOIN job AS j ON j.uuid = v.job_uuid
LEFT JOIN LATERAL (
    SELECT
        r.uuid AS release_uuid,
        NULL::uuid AS submit_uuid,
        NULL::uuid AS holder_uuid
    FROM artifact AS a
    JOIN release AS r ON r.artifact_uuid = a.uuid
    WHERE a.job_uuid = v.job_uuid
    UNION
    SELECT
        NULL::uuid AS release_uuid,
        NULL::uuid AS submit_uuid,
        ji.job_uuid AS holder_uuid
    FROM artifact AS a
    JOIN job_input_artifacts AS ji ON ji.artifact_uuid = a.uuid
    WHERE a.job_uuid = v.job_uuid AND v.what = 'record'
    UNION
    SELECT
        NULL::uuid AS release_uuid,
        NULL::uuid AS submit_uuid,
        c.job_uuid AS holder_uuid
    FROM artifact AS a
    JOIN retention_log_reader AS c ON c.artifact_uuid = a.uuid
    WHERE a.job_uuid = v.job_uuid AND v.what = 'log'
    UNION
    SELECT
        NULL::uuid AS release_uuid,
        u.submit_uuid,
        k.uuid AS holder_uuid
    FROM reuse AS u
    LEFT JOIN job AS k ON k.submit_uuid = u.submit_uuid
    WHERE
        u.job_uuid = v.job_uuid
        AND v.what = 'record'
        -- One without jobs that goes itself holds none.
        AND NOT EXISTS (
            SELECT 1
            FROM retention_submit AS r
            WHERE r.submit_uuid = u.submit_uuid AND r.stays IS NULL
        )
) AS h ON TRUE
WHERE v.what = :'what'::text AND v.job_uuid = ANY(:'jobs'::uuid[])
ORDER BY v.job_uuid, h.release_uuid, h.submit_uuid, h.holder_uuid;
