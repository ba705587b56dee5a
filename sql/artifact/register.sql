-- Record a file from outside, which no job made; the same path and content is one artifact.
--
-- The row has the artifact, which may be there already under another uuid; none where somebody
-- else added the file in this moment: ask again.
--
-- artifact: the uuid that it gets when it is not there yet
-- sha256: SHA-256 of its content
-- size: its size in bytes

WITH stored AS (
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
),

registered AS (
    INSERT INTO artifact (uuid, path, sha256, size)
    SELECT
        :'artifact'::uuid,
        :'path'::text,
        :'sha256'::bytea,
        :'size'::bigint
    WHERE NOT EXISTS (SELECT 1 FROM stored)
    ON CONFLICT (path_sha256, sha256) WHERE job_uuid IS NULL DO NOTHING
    RETURNING uuid, path, sha256, size, job_uuid
)

SELECT
    s.uuid,
    s.path,
    s.sha256,
    s.size,
    s.job_uuid
FROM stored AS s
UNION ALL
SELECT
    r.uuid,
    r.path,
    r.sha256,
    r.size,
    r.job_uuid
FROM registered AS r
ORDER BY uuid;
