-- Record a job that has ended, with its script, log, environment, inputs and outputs.
--
-- The row has its fingerprint. Without a row nothing was written: the job is there already, or the
-- submit, an input or a shared value is not. job/record_all finds out which.
--
-- uuid: the job's uuid
-- submit: uuid of the submit that it is part of
-- state: success, error or lost
-- container_hash: the container's id, where it had one
-- log: the whole log, with what is no UTF-8 text escaped as \xHH
-- env: its whole environment, {"name": "value"}
-- inputs: the artifacts that were copied into the container, ["uuid"]
-- outputs: the files that it made,
--   [{"uuid": "…", "path": "…", "sha256": "hexadecimal", "size": 1}], the size in bytes

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
    SELECT coalesce(array_agg(t.file), '{}') AS files
    FROM input AS t
),

given AS MATERIALIZED (
    SELECT
        s.uuid AS submit_uuid,
        e.id AS endpoint_id,
        p.id AS package_id,
        i.id AS image_id,
        n.id AS environment_id,
        -- NULL where an input is not there.
        job_fingerprint(
            :'package'::text, :'version'::text, :'image'::text, :'script'::text, n.sha256,
            f.files
        ) AS fingerprint
    FROM file AS f
    CROSS JOIN submit AS s
    CROSS JOIN endpoint AS e
    CROSS JOIN package AS p
    CROSS JOIN image AS i
    CROSS JOIN environment AS n
    WHERE
        s.uuid = :'submit'::uuid
        AND e.name = :'endpoint'::text
        AND p.name = :'package'::text
        AND p.version = :'version'::text
        AND i.name = :'image'::text
        AND n.sha256 = environment_sha256(:'env'::jsonb)
        AND (SELECT j.uuid FROM job AS j WHERE j.uuid = :'uuid'::uuid) IS NULL
),

recorded AS (
    -- No ON CONFLICT: a uuid that comes from elsewhere in this moment fails the whole statement.
    INSERT INTO job (
\if :{?container_hash}
        container_hash,
\endif
        uuid, submit_uuid, endpoint_id, package_id, image_id, environment_id, state, started_at,
        finished_at, fingerprint, script, log
    )
    SELECT
\if :{?container_hash}
        :'container_hash'::text AS container_hash,
\endif
        :'uuid'::uuid AS uuid,
        g.submit_uuid,
        g.endpoint_id,
        g.package_id,
        g.image_id,
        g.environment_id,
        :'state'::text AS state,
        :'started_at'::timestamptz AS started_at,
        :'finished_at'::timestamptz AS finished_at,
        g.fingerprint,
        :'script'::text AS script,
        :'log'::text AS log
    FROM given AS g
    WHERE g.fingerprint IS NOT NULL
    RETURNING uuid, fingerprint
),

made AS (
    INSERT INTO artifact (uuid, job_uuid, path, sha256, size)
    SELECT
        o.uuid,
        r.uuid,
        o.path,
        decode(o.sha256, 'hex') AS sha256,
        o.size
    FROM recorded AS r
    CROSS JOIN jsonb_to_recordset(:'outputs'::jsonb) AS o (uuid uuid, path text, sha256 text, size bigint)
    RETURNING uuid
),

recorded_input AS (
    INSERT INTO job_input_artifacts (job_uuid, artifact_uuid)
    SELECT
        r.uuid,
        t.uuid
    FROM recorded AS r
    CROSS JOIN input AS t
    RETURNING artifact_uuid
)

SELECT r.fingerprint
FROM recorded AS r;
