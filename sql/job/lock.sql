-- Lock a running job until the transaction ends.
--
-- Whoever would append to its log waits, so that the next statement sees every chunk.

SELECT j.uuid
FROM job AS j
WHERE j.uuid = :'job'::uuid AND j.state = 'running'
ORDER BY j.uuid
FOR NO KEY UPDATE;
