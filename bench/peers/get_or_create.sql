-- What the get-or-create pattern sends, in the sections that aiosql cuts a file into.

-- name: add_envvar(name, value)!
INSERT INTO envvars (name, value) VALUES (:name, :value) ON CONFLICT DO NOTHING;
-- name: envvar(name, value)$
SELECT id FROM envvars WHERE name = :name AND value = :value;
-- name: add_githash(hash)!
INSERT INTO githashes (hash) VALUES (:hash) ON CONFLICT DO NOTHING;
-- name: githash(hash)$
SELECT id FROM githashes WHERE hash = :hash;
-- name: add_package(name, version)!
INSERT INTO packages (name, version) VALUES (:name, :version) ON CONFLICT DO NOTHING;
-- name: package(name, version)$
SELECT id FROM packages WHERE name = :name AND version = :version;
-- name: add_image(name)!
INSERT INTO images (name) VALUES (:name) ON CONFLICT DO NOTHING;
-- name: image(name)$
SELECT id FROM images WHERE name = :name;
-- name: add_endpoint(name)!
INSERT INTO endpoints (name) VALUES (:name) ON CONFLICT DO NOTHING;
-- name: endpoint(name)$
SELECT id FROM endpoints WHERE name = :name;
-- name: add_submit(uuid, at, image, package, hash, tree, buildplan)!
INSERT INTO submits
(uuid, submit_time, requested_image_id, requested_package_id, repo_hash_id, tree, buildplan)
VALUES (:uuid, :at, :image, :package, :hash, :tree, :buildplan) ON CONFLICT DO NOTHING;
-- name: submit(uuid)$
SELECT id FROM submits WHERE uuid = :uuid;
-- name: add_submit_env(submit, env)!
INSERT INTO submit_envs (submit_id, env_id) VALUES (:submit, :env) ON CONFLICT DO NOTHING;
-- name: add_job(submit, endpoint, package, image, container_hash, script, log, uuid, state, started_at, finished_at)!
INSERT INTO jobs
(
    submit_id, endpoint_id, package_id, image_id, container_hash, script_text, log_text, uuid, state,
    started_at, finished_at
)
VALUES (
    :submit, :endpoint, :package, :image, :container_hash, :script, :log, :uuid, :state, :started_at,
    :finished_at
) ON CONFLICT DO NOTHING;
-- name: job(uuid)$
SELECT id FROM jobs WHERE uuid = :uuid;
-- name: add_job_env(job, env)!
INSERT INTO job_envs (job_id, env_id) VALUES (:job, :env) ON CONFLICT DO NOTHING;
-- name: add_artifact(path, job, uuid, sha256, size)!
INSERT INTO artifacts (path, job_id, uuid, sha256, size)
VALUES (:path, :job, :uuid, :sha256, :size) ON CONFLICT DO NOTHING;
-- name: artifact(uuid)$
SELECT id FROM artifacts WHERE uuid = :uuid;
-- name: add_input(job, artifact)!
INSERT INTO job_input_artifacts (job_id, artifact_id) VALUES (:job, :artifact) ON CONFLICT DO NOTHING;
