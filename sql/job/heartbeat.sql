-- Record that the builder of a running job is alive.
--
-- Without a row there is no such job, or it has ended. The job cannot end before this transaction does. The
-- moment is a whole millisecond, which none is that a write knows its job by: job/insert, job/end.

UPDATE job
SET heartbeat_at = date_trunc('milliseconds', now())
WHERE uuid = :'job'::uuid AND state = 'running'
RETURNING uuid;
