-- Record that the builder of a running job is alive.
--
-- Without a row there is no such job, or it has ended. The job cannot end before this transaction does.

UPDATE job
SET heartbeat_at = now()
WHERE uuid = :'job'::uuid AND state = 'running'
RETURNING uuid;
