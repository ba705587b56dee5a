-- Which file from outside has this path and content?
--
-- sha256: SHA-256 of its content

SELECT
    a.uuid,
    a.path,
    a.sha256,
    a.size,
    a.job_uuid
FROM artifact AS a
WHERE
    a.path_sha256 = text_sha256(:'path'::text)
    AND a.sha256 = :'sha256'::bytea
    AND a.job_uuid IS NULL
ORDER BY a.uuid;
