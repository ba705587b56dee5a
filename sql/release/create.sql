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
    FROM (
        -- The state is no condition, for which the server might read all jobs that have it.
        SELECT CASE WHEN j.state = 'success' THEN j.uuid END AS job_uuid
        FROM job AS j
        WHERE j.submit_uuid = :'submit'::uuid
        UNION ALL
        SELECT u.job_uuid
        FROM reuse AS u
        WHERE u.submit_uuid = :'submit'::uuid
    ) AS d
    -- One probe of an index each, as in job/insert_inputs.
    CROSS JOIN LATERAL (
        SELECT a.uuid
        FROM artifact AS a
        WHERE a.job_uuid = d.job_uuid
        ORDER BY a.uuid
    ) AS a
\endif
),

-- path_sha256 is NULL if there is no such artifact, state if no job made it.
file AS (
    SELECT
        w.uuid,
        a.path_sha256,
        a.state,
        -- A place holds one file: else each further release of these would replace one by the other.
        row_number() OVER (PARTITION BY a.path_sha256 ORDER BY w.uuid DESC) = 1 AS is_last
    FROM wanted AS w
    LEFT JOIN LATERAL (
        SELECT
            a.path_sha256,
            (SELECT j.state FROM job AS j WHERE j.uuid = a.job_uuid) AS state
        FROM artifact AS a
        WHERE a.uuid = w.uuid
        ORDER BY a.uuid
        LIMIT 1
    ) AS a ON TRUE
)

INSERT INTO release (uuid, artifact_uuid, release_store_id, path_sha256, timestamp, actor)
SELECT
    :'release'::uuid,
    f.uuid,
    rs.id,
    f.path_sha256,
    :'timestamp'::timestamptz,
    :'actor'::text
FROM release_store AS rs
CROSS JOIN file AS f
WHERE
    rs.name = :'store'::text
    AND f.is_last
    AND NOT EXISTS (SELECT 1 FROM release AS r WHERE r.uuid = :'release'::uuid)
    AND (
        SELECT c.uuid FROM release_current AS c WHERE c.artifact_uuid = f.uuid AND c.store = rs.name
    ) IS NULL
    -- Every artifact is there, and the job that made it, if any, succeeded.
    AND NOT EXISTS (SELECT 1 FROM file AS v WHERE v.path_sha256 IS NULL OR v.state <> 'success')
RETURNING artifact_uuid;
