-- Record a file from outside, which no job made; the same path and content is one artifact.
--
-- Without a row it is there already, perhaps under another uuid: artifact/registered has it.
--
-- artifact: the uuid that it gets if it is not there yet
-- path: relative to the root of the store that holds the file
-- sha256: SHA-256 of its content
-- size: its size in bytes

INSERT INTO artifact (uuid, path, sha256, size)
VALUES (:'artifact'::uuid, :'path'::text, :'sha256'::bytea, :'size'::bigint)
ON CONFLICT (path_sha256, sha256) WHERE job_uuid IS NULL DO NOTHING
RETURNING uuid;
