-- How do these jobs differ from what is in the store under their uuids?
--
-- Asked when a write did nothing. A row for each, in their order; state is NULL if there is no such job.
--
-- jobs: [{"uuid": "…", …}]; only the keys that a job has are compared. "submit", "package", "version",
--   "image", "endpoint", "state", "container_hash", "reason", "exit_code" and "measurements" as they are;
--   "env" as environment_sha256() takes it; "started_at" and "finished_at" as rfc3339() writes them;
--   "image_sha256", and "script" as its SHA-256, in hexadecimal; "log" {"sha256": "hexadecimal",
--   "size": 1}, by its size alone if it was removed or is in chunks; "inputs" sorted, ["uuid"]; "outputs"
--   {"path": {"sha256": "hexadecimal", "size": 1}}

SELECT
    t.uuid,
    j.state,
    j.fingerprint,
    ARRAY(
        SELECT s.name
        FROM jsonb_each(t.said) AS s (name, value)
        WHERE j.stored -> s.name IS DISTINCT FROM s.value
        ORDER BY s.name COLLATE "C"
    ) AS differing,
    CASE
        WHEN (SELECT s.uuid FROM submit AS s WHERE s.uuid = t.submit) IS NULL THEN t.submit
    END AS missing_submit,
    ARRAY(
        SELECT i.uuid::uuid AS uuid
        FROM jsonb_array_elements_text(t.said -> 'inputs') AS i (uuid)
        WHERE (SELECT a.uuid FROM artifact AS a WHERE a.uuid = i.uuid::uuid) IS NULL
        ORDER BY uuid
    ) AS missing_inputs
FROM (
    SELECT
        d.said,
        (d.said ->> 'uuid')::uuid AS uuid,
        (d.said ->> 'submit')::uuid AS submit,
        d.place
    FROM jsonb_array_elements(:'jobs'::jsonb) WITH ORDINALITY AS d (said, place)
) AS t
LEFT JOIN LATERAL (
    SELECT
        b.state,
        b.fingerprint,
        jsonb_build_object(
            'uuid', b.uuid, 'submit', b.submit_uuid, 'package', p.name, 'version', p.version,
            'image', i.name, 'endpoint', e.name, 'state', b.state,
            'started_at', rfc3339(b.started_at), 'finished_at', rfc3339(b.finished_at),
            'image_sha256', encode(b.image_sha256, 'hex'), 'container_hash', b.container_hash,
            'reason', b.reason, 'exit_code', b.exit_code, 'measurements', b.measurements,
            'script', CASE WHEN t.said ? 'script' THEN encode(text_sha256(b.script), 'hex') END,
            'log', jsonb_build_object(
                'sha256', CASE
                    WHEN t.said ? 'log' AND octet_length(b.log) = b.log_size
                        THEN encode(text_sha256(b.log), 'hex')
                    ELSE t.said -> 'log' ->> 'sha256'
                END,
                'size', b.log_size
            ),
            'env', CASE
                WHEN n.sha256 = environment_sha256(t.said -> 'env') THEN t.said -> 'env'
            END,
            'inputs', (
                SELECT coalesce(jsonb_agg(ji.artifact_uuid ORDER BY ji.artifact_uuid), '[]')
                FROM job_input_artifacts AS ji
                WHERE ji.job_uuid = b.uuid
            ),
            'outputs', (
                SELECT
                    coalesce(
                        jsonb_object_agg(
                            a.path, jsonb_build_object('sha256', encode(a.sha256, 'hex'), 'size', a.size)
                        ), '{}'
                    )
                FROM artifact AS a
                WHERE a.job_uuid = b.uuid
            )
        ) AS stored
    FROM job AS b
    JOIN package AS p ON p.id = b.package_id
    JOIN image AS i ON i.id = b.image_id
    JOIN endpoint AS e ON e.id = b.endpoint_id
    JOIN environment AS n ON n.id = b.environment_id
    WHERE b.uuid = t.uuid
) AS j ON TRUE
ORDER BY t.place;
