-- Add the next piece to the log of a running job.
--
-- Without a row the job does not run, the place is taken, or a piece before this one is missing;
-- job/compare_chunk tells. Run job/heartbeat before, so that the job does not end meanwhile.
--
-- job: the job's uuid
-- seq: place of the piece in the log, counted from 0
-- chunk: the piece, with what is no UTF-8 text escaped as \xHH

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
