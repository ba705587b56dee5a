-- Tell that the builder of a running job is alive.
--
-- Without a row there is no such job, or it has ended. Until the transaction ends, the job does not.
--
-- job: the job's uuid

UPDATE job
SET heartbeat_at = now()
WHERE uuid = :'job'::uuid AND state = 'running'
RETURNING uuid;
