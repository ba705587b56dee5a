-- Which files did this job make?

SELECT
    a.uuid,
    a.path,
    a.sha256,
    a.size,
    a.job_uuid
FROM artifact AS a
WHERE a.job_uuid = :'job'::uuid
ORDER BY a.path, a.uuid;
