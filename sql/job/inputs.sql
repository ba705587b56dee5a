-- Which files did this job read?

SELECT
    a.uuid,
    a.path,
    a.sha256,
    a.size,
    a.job_uuid
FROM job_input_artifacts AS ji
-- One probe of an index each, as in job/insert_inputs.
CROSS JOIN LATERAL (
    SELECT
        f.uuid,
        f.path,
        f.sha256,
        f.size,
        f.job_uuid
    FROM artifact AS f
    WHERE f.uuid = ji.artifact_uuid
    ORDER BY f.uuid
    LIMIT 1
) AS a
WHERE ji.job_uuid = :'job'::uuid
ORDER BY a.path, a.uuid;
