-- What is this artifact?

SELECT
    a.uuid,
    a.path,
    a.sha256,
    a.size,
    a.job_uuid
FROM artifact AS a
WHERE a.uuid = :'artifact'::uuid
ORDER BY a.uuid;
