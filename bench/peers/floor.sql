-- What writes to the store's tables when every id is known, in the sections of aiosql.

-- name: environments
SELECT n.sha256, n.id FROM environment AS n;
-- name: packages
SELECT p.name, p.version, p.id FROM package AS p;
-- name: images
SELECT i.name, i.id FROM image AS i;
-- name: endpoints
SELECT e.name, e.id FROM endpoint AS e;
-- name: add_job!
INSERT INTO job (
    uuid, submit_uuid, endpoint_id, package_id, image_id, environment_id, state, started_at, finished_at,
    heartbeat_at, fingerprint, container_hash, script, log, log_size
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15);
-- name: add_output!
INSERT INTO artifact (uuid, job_uuid, path, sha256, size) VALUES ($1, $2, $3, $4, $5);
-- name: add_input!
INSERT INTO job_input_artifacts (job_uuid, artifact_uuid) VALUES ($1, $2);
-- name: copy_jobs!
COPY job (
    uuid, submit_uuid, endpoint_id, package_id, image_id, environment_id, state, started_at, finished_at,
    heartbeat_at, fingerprint, container_hash, script, log, log_size
) FROM STDIN (FORMAT binary);
-- name: copy_outputs!
COPY artifact (uuid, job_uuid, path, sha256, size) FROM STDIN (FORMAT binary);
-- name: copy_inputs!
COPY job_input_artifacts (job_uuid, artifact_uuid) FROM STDIN (FORMAT binary);
