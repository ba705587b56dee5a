-- Add the next chunk to the log of a running job.
--
-- Without a row the job does not run, the place is taken, or the chunk before this one is missing:
-- job/compare_chunk tells which. Run job/heartbeat before, in the same transaction, so that the job does
-- not end meanwhile.
--
-- seq: place of the chunk in the log, counted from 0
-- chunk: its text; a byte that text cannot hold is \xHH

INSERT INTO job_log_chunk (job_uuid, seq, chunk)
SELECT
    j.uuid,
    :'seq'::bigint,
    :'chunk'::text
FROM job AS j
WHERE
    j.uuid = :'job'::uuid
    AND j.state = 'running'
    AND (
        :'seq'::bigint = 0
        OR EXISTS (
            SELECT 1
            FROM job_log_chunk AS c
            WHERE c.job_uuid = :'job'::uuid AND c.seq = :'seq'::bigint - 1
        )
    )
ON CONFLICT (job_uuid, seq) DO NOTHING
RETURNING seq;
