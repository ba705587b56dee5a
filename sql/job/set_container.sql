-- Record which container a running job got.
--
-- Without a row it has one, it has ended, or there is no such job.
--
-- job: the job's uuid
-- container_hash: the container's id

UPDATE job
SET
    container_hash = :'container_hash'::text,
    heartbeat_at = now()
WHERE uuid = :'job'::uuid AND state = 'running' AND container_hash IS NULL
RETURNING uuid;
