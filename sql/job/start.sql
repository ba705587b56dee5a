-- Record that a job starts, before its container does.
--
-- The row says what happened: started; repeated (it is there, the same); differs (the uuid is
-- there with other content); no submit; no input (an input artifact is not in the store);
-- incomplete (a shared value is not in the store yet: intern it).
--
-- job: the job's uuid
-- submit: uuid of the submit that it is part of
-- env: its whole environment, {"name": "value"}
-- inputs: the artifacts that are copied into the container, ["uuid"]
-- container_hash: the container's id, where it is known already

-- JSON rather than an array: how many elements that has, the planner would look at in each run to
-- plan it anew, which takes longer than to run it.
WITH input AS MATERIALIZED (
    SELECT
        u.uuid::uuid AS uuid,
        (
            SELECT sha256sum(a.sha256, a.path)
            FROM artifact AS a
            WHERE a.uuid = u.uuid::uuid
        ) AS file
    FROM jsonb_array_elements_text(:'inputs'::jsonb) AS u (uuid)
),

file AS MATERIALIZED (
    SELECT coalesce(array_agg(i.file), '{}') AS files
    FROM input AS i
),

given AS MATERIALIZED (
    SELECT
        n.sha256 AS environment_sha256,
        -- NULL where an input is not there.
        job_fingerprint(
            :'package'::text, :'version'::text, :'image'::text, :'script'::text, n.sha256,
            f.files
        ) AS fingerprint
    FROM (SELECT environment_sha256(:'env'::jsonb) AS sha256) AS n
    CROSS JOIN file AS f
),

started AS (
    INSERT INTO job (
\if :{?container_hash}
        container_hash,
\endif
        uuid, submit_uuid, endpoint_id, package_id, image_id, environment_id, state, started_at,
        fingerprint, script
    )
    SELECT
\if :{?container_hash}
        :'container_hash'::text AS container_hash,
\endif
        :'job'::uuid AS uuid,
        s.uuid AS submit_uuid,
        e.id,
        p.id,
        i.id,
        n.id,
        'running' AS state,
        :'started_at'::timestamptz AS started_at,
        g.fingerprint,
        :'script'::text AS script
    FROM submit AS s
    CROSS JOIN endpoint AS e
    CROSS JOIN package AS p
    CROSS JOIN image AS i
    CROSS JOIN given AS g
    JOIN environment AS n ON n.sha256 = g.environment_sha256
    WHERE
        s.uuid = :'submit'::uuid
        AND e.name = :'endpoint'::text
        AND p.name = :'package'::text
        AND p.version = :'version'::text
        AND i.name = :'image'::text
        AND g.fingerprint IS NOT NULL
    ON CONFLICT (uuid) DO NOTHING
    RETURNING uuid
),

started_input AS (
    INSERT INTO job_input_artifacts (job_uuid, artifact_uuid)
    SELECT
        j.uuid,
        i.uuid
    FROM started AS j
    CROSS JOIN input AS i
    RETURNING artifact_uuid
),

stored AS (
    SELECT
        j.submit_uuid = :'submit'::uuid
        AND j.started_at = :'started_at'::timestamptz
        AND j.fingerprint = g.fingerprint
        AND e.name = :'endpoint'::text
\if :{?container_hash}
        AND j.container_hash = :'container_hash'::text
\endif
            AS same
    FROM job AS j
    JOIN endpoint AS e ON e.id = j.endpoint_id
    CROSS JOIN given AS g
    WHERE j.uuid = :'job'::uuid
)

SELECT
    CASE
        WHEN EXISTS (SELECT 1 FROM started) THEN 'started'
        WHEN EXISTS (SELECT 1 FROM stored AS s WHERE s.same) THEN 'repeated'
        WHEN EXISTS (SELECT 1 FROM stored) THEN 'differs'
        WHEN NOT EXISTS (SELECT 1 FROM submit AS s WHERE s.uuid = :'submit'::uuid) THEN 'no submit'
        WHEN g.fingerprint IS NULL THEN 'no input'
        ELSE 'incomplete'
    END AS outcome,
    g.fingerprint,
    ARRAY(SELECT i.uuid FROM input AS i WHERE i.file IS NULL ORDER BY i.uuid) AS missing_inputs
FROM given AS g;
