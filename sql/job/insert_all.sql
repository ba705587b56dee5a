-- Add jobs that have ended, all of them or none.
--
-- An input may be an output of another of these jobs. Each row has a job's fingerprint, NULL if the content
-- of an input is unknown. Without rows nothing was added: a job is there already, or a submit, an input or a
-- shared value is missing. job/compare tells which. A uuid that another writer adds at the same time is an
-- error.
--
-- at: the moment of this write; job/insert_outputs and job/insert_inputs find the jobs by it
-- jobs: what is recorded of each, [{"uuid", "submit", "package", "version", "image", "endpoint",
--   "state", "started_at", "finished_at", "image_sha256": "hexadecimal", "container_hash", "script",
--   "env": {"name": "value"}, "reason", "exit_code", "measurements": {"name": number}}]
-- logs: the whole log of each; a byte that text cannot hold is \xHH
-- inputs: the artifacts that were copied into their containers, [{"job": "uuid", "artifact": "uuid"}]
-- outputs: the files that they made, [{"job", "uuid", "path", "sha256", "size"}]

WITH output AS MATERIALIZED (
    SELECT
        o.file ->> 'job' AS job,
        o.file ->> 'uuid' AS uuid,
        coalesce(sha256sum(decode(o.file ->> 'sha256', 'hex'), o.file ->> 'path'), '') AS file
    FROM jsonb_array_elements(:'outputs'::jsonb) AS o (file)
),

input AS MATERIALIZED (
    SELECT
        i.job::uuid AS job_uuid,
        -- Empty if its content is unknown, NULL if it is not there.
        array_agg(
            coalesce(
                (
                    SELECT coalesce(sha256sum(a.sha256, a.path), '')
                    FROM artifact AS a
                    WHERE a.uuid = i.artifact::uuid
                ),
                o.file
            )
        ) AS files
    FROM jsonb_to_recordset(:'inputs'::jsonb) AS i (job text, artifact text)
    -- No job reads what it makes itself.
    LEFT JOIN output AS o ON o.uuid = i.artifact AND o.job <> i.job
    GROUP BY i.job
),

-- Look-ups are scalar subqueries, or in LATERAL with an order: index probes. The planner expects a hundred
-- jobs of a JSON function, and would read large tables in full to join them.
given AS MATERIALIZED (
    SELECT
        d.uuid,
        (SELECT s.uuid FROM submit AS s WHERE s.uuid = d.submit) AS submit_uuid,
        (SELECT e.id FROM endpoint AS e WHERE e.name = d.endpoint) AS endpoint_id,
        (SELECT p.id FROM package AS p WHERE p.name = d.package AND p.version = d.version) AS package_id,
        (SELECT i.id FROM image AS i WHERE i.name = d.image) AS image_id,
        n.id AS environment_id,
        d.state,
        d.started_at,
        d.finished_at,
        job_fingerprint(
            d.package, d.version, d.image, decode(d.image_sha256, 'hex'), d.script, n.sha256,
            coalesce(array_replace(f.files, '', NULL), '{}')
        ) AS fingerprint,
        decode(d.image_sha256, 'hex') AS image_sha256,
        d.container_hash,
        d.script,
        d.reason,
        d.exit_code,
        d.measurements,
        (:'logs'::text[])[t.place] AS log,
        array_position(f.files, NULL) IS NOT NULL AS lacks_input,
        (SELECT j.uuid FROM job AS j WHERE j.uuid = d.uuid) IS NOT NULL AS is_stored
    FROM jsonb_array_elements(:'jobs'::jsonb) WITH ORDINALITY AS t (job, place)
    CROSS JOIN LATERAL jsonb_to_record(t.job) AS d (
        uuid uuid, submit uuid, package text, version text, image text, endpoint text, state text,
        started_at timestamptz, finished_at timestamptz, image_sha256 text, container_hash text,
        script text, env jsonb, reason text, exit_code bigint, measurements jsonb
    )
    LEFT JOIN LATERAL (
        SELECT
            n.id,
            n.sha256
        FROM environment AS n
        WHERE n.sha256 = environment_sha256(d.env)
        ORDER BY n.id
        LIMIT 1
    ) AS n ON TRUE
    LEFT JOIN input AS f ON f.job_uuid = d.uuid
)

INSERT INTO job (
    uuid, submit_uuid, endpoint_id, package_id, image_id, environment_id, state, started_at,
    finished_at, heartbeat_at, fingerprint, image_sha256, container_hash, script, reason, exit_code,
    measurements, log, log_size, failure, failure_rule
)
SELECT
    g.uuid,
    g.submit_uuid,
    g.endpoint_id,
    g.package_id,
    g.image_id,
    g.environment_id,
    g.state,
    g.started_at,
    g.finished_at,
    :'at'::timestamptz,
    g.fingerprint,
    g.image_sha256,
    g.container_hash,
    g.script,
    g.reason,
    g.exit_code,
    g.measurements,
    g.log,
    octet_length(g.log) AS log_size,
    CASE WHEN g.state = 'error' THEN failure_lines(g.log) END AS failure,
    CASE WHEN g.state = 'error' THEN failure_rule() END AS failure_rule
FROM given AS g
WHERE
    NOT EXISTS (
        SELECT 1
        FROM given AS a
        WHERE
            a.is_stored
            OR a.lacks_input
            OR num_nulls(a.submit_uuid, a.endpoint_id, a.package_id, a.image_id, a.environment_id) > 0
    )
RETURNING uuid, fingerprint;
