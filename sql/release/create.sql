-- Release artifacts, or all that a submit delivered, to a release store.
--
-- All or none. An artifact that is in the release store already stays as it is. Of several with one path
-- the one with the highest uuid is released. If nothing was released there is no row, and release/compare
-- tells why.
--
-- release: uuid of this act of releasing
-- store: name of the release store
-- timestamp: when it is released
-- actor: who releases it
-- artifacts: uuids of artifacts
-- submit: all that successful jobs of this submit made, or jobs that it reused

WITH wanted AS (
    -- No row: what the optional clauses add to.
    SELECT NULL::uuid AS uuid
    WHERE FALSE
\if :{?artifacts}
    UNION
    SELECT t.uuid
    FROM unnest(:'artifacts'::uuid[]) AS t (uuid)
\endif
\if :{?submit}
    UNION
    SELECT a.uuid
    FROM job AS j
    JOIN artifact AS a ON a.job_uuid = j.uuid
    WHERE j.submit_uuid = :'submit'::uuid AND j.state = 'success'
    UNION
    SELECT a.uuid
    FROM reuse AS u
    JOIN artifact AS a ON a.job_uuid = u.job_uuid
    WHERE u.submit_uuid = :'submit'::uuid
\endif
)

INSERT INTO release (uuid, artifact_uuid, release_store_id, path_sha256, timestamp, actor)
SELECT
    :'release'::uuid,
    w.uuid,
    rs.id,
    a.path_sha256,
    :'timestamp'::timestamptz,
    :'actor'::text
FROM release_store AS rs
CROSS JOIN wanted AS w
JOIN artifact AS a ON a.uuid = w.uuid
WHERE
    rs.name = :'store'::text
    AND NOT EXISTS (SELECT 1 FROM release AS r WHERE r.uuid = :'release'::uuid)
    AND NOT EXISTS (
        SELECT 1 FROM release_current AS c WHERE c.artifact_uuid = w.uuid AND c.store = rs.name
    )
    -- A place holds one file: else each further release of these would replace one by the other.
    AND NOT EXISTS (
        SELECT 1
        FROM wanted AS v
        JOIN artifact AS b ON b.uuid = v.uuid
        WHERE b.path_sha256 = a.path_sha256 AND b.uuid > a.uuid
    )
    -- Every artifact is there, and the job that made it, if any, succeeded.
    AND NOT EXISTS (
        SELECT 1
        FROM wanted AS v
        LEFT JOIN artifact AS b ON b.uuid = v.uuid
        LEFT JOIN job AS j ON j.uuid = b.job_uuid
        WHERE b.uuid IS NULL OR j.state <> 'success'
    )
RETURNING artifact_uuid;
