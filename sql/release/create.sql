-- Release artifacts, or all that the successful jobs of a submit made, to a release store.
--
-- The row says what happened: released (with the artifacts that were not there before); differs
-- (the uuid is there with other content); no artifact (with those missing); not successful (with
-- those whose job did not end well); nothing (there is no artifact to release); incomplete (the
-- release store is not in the store yet: intern it).
--
-- release: uuid of this act of releasing
-- store: name of the release store
-- timestamp: when it is released
-- actor: who releases it
-- artifacts: uuids of artifacts
-- submit: all that the successful jobs of this submit made

WITH wanted AS (
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
\endif
),

refused AS (
    SELECT
        w.uuid,
        a.uuid IS NULL AS missing
    FROM wanted AS w
    LEFT JOIN artifact AS a ON a.uuid = w.uuid
    LEFT JOIN job AS j ON j.uuid = a.job_uuid
    WHERE a.uuid IS NULL OR j.state <> 'success'
),

differing AS (
    SELECT r.artifact_uuid
    FROM release AS r
    JOIN release_store AS rs ON rs.id = r.release_store_id
    WHERE
        r.uuid = :'release'::uuid
        AND (rs.name, r.timestamp, r.actor) <> (:'store'::text, :'timestamp'::timestamptz, :'actor'::text)
),

released AS (
    INSERT INTO release (uuid, artifact_uuid, release_store_id, timestamp, actor)
    SELECT
        :'release'::uuid,
        w.uuid,
        rs.id,
        :'timestamp'::timestamptz,
        :'actor'::text
    FROM release_store AS rs
    CROSS JOIN wanted AS w
    WHERE
        rs.name = :'store'::text
        AND NOT EXISTS (SELECT 1 FROM refused)
        AND NOT EXISTS (SELECT 1 FROM differing)
        -- What this act released before, even if that was taken back, or another one has.
        AND NOT EXISTS (
            SELECT 1 FROM release AS r WHERE r.uuid = :'release'::uuid AND r.artifact_uuid = w.uuid
        )
        AND NOT EXISTS (
            SELECT 1 FROM release_current AS c WHERE c.artifact_uuid = w.uuid AND c.store = rs.name
        )
    ON CONFLICT (uuid, artifact_uuid) DO NOTHING
    RETURNING artifact_uuid
)

SELECT
    CASE
        WHEN EXISTS (SELECT 1 FROM differing) THEN 'differs'
        WHEN EXISTS (SELECT 1 FROM refused AS r WHERE r.missing) THEN 'no artifact'
        WHEN EXISTS (SELECT 1 FROM refused) THEN 'not successful'
        WHEN NOT EXISTS (SELECT 1 FROM wanted) THEN 'nothing'
        WHEN NOT EXISTS (SELECT 1 FROM release_store AS rs WHERE rs.name = :'store'::text) THEN 'incomplete'
        ELSE 'released'
    END AS outcome,
    ARRAY(
        SELECT r.artifact_uuid FROM released AS r
        UNION
        SELECT r.uuid FROM refused AS r
        ORDER BY artifact_uuid
    ) AS artifacts;
