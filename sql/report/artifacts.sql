-- Which artifacts are there, newest first?
--
-- The newest have the highest uuids, since a UUIDv7 begins with its time.
--
-- job, -J: only those that this job made
-- path: only those with this path
-- sha256: only those with this SHA-256 of the content
-- before: go on after this artifact, the last row of the page before
-- limit: at most this many

SELECT
    a.uuid,
    a.path,
    a.sha256,
    a.size,
    a.job_uuid
FROM artifact AS a
WHERE
    TRUE
\if :{?job}
    AND a.job_uuid = :'job'::uuid
\endif
\if :{?path}
    AND a.path_sha256 = text_sha256(:'path'::text)
\endif
\if :{?sha256}
    AND a.sha256 = :'sha256'::bytea
\endif
\if :{?before}
    AND a.uuid < :'before'::uuid
\endif
ORDER BY a.uuid DESC
\if :{?limit}
LIMIT :limit
\endif
;
