-- What is this job, and how did it end?

SELECT
    j.uuid,
    j.submit_uuid,
    p.name AS package,
    p.version,
    i.name AS image,
    e.name AS endpoint,
    j.state,
    j.started_at,
    j.finished_at,
    j.reason,
    j.exit_code,
    j.measurements,
    j.heartbeat_at,
    j.image_sha256,
    j.container_hash,
    j.fingerprint,
    j.log_size,
    j.state <> 'running' AND j.log IS NULL AS log_removed
FROM job AS j
JOIN package AS p ON p.id = j.package_id
JOIN image AS i ON i.id = j.image_id
JOIN endpoint AS e ON e.id = j.endpoint_id
WHERE j.uuid = :'job'::uuid
ORDER BY j.uuid;
