-- Record which container a running job got.
--
-- Without a row the job has a container already, it has ended, or there is no such job.
--
-- container_hash: the container's id

UPDATE job
SET
    container_hash = :'container_hash'::text,
    heartbeat_at = date_trunc('milliseconds', now())
WHERE uuid = :'job'::uuid AND state = 'running' AND container_hash IS NULL
RETURNING uuid;
