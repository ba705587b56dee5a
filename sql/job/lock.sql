-- Which running job is this, kept as it is until the transaction ends?
--
-- Whoever would append to its log now waits, so that what comes next sees all pieces.
--
-- job: the job's uuid

SELECT j.uuid
FROM job AS j
WHERE j.uuid = :'job'::uuid AND j.state = 'running'
ORDER BY j.uuid
FOR NO KEY UPDATE;
