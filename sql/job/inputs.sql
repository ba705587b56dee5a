-- Which files did this job read?

SELECT
    a.uuid,
    a.path,
    a.sha256,
    a.size,
    a.job_uuid
FROM job_input_artifacts AS ji
JOIN artifact AS a ON a.uuid = ji.artifact_uuid
WHERE ji.job_uuid = :'job'::uuid
ORDER BY a.path, a.uuid;
