-- End a running job: its state, its time, and its log in one text.
--
-- Without a row there is no such job, or it has ended. Run job/lock before, in the same transaction: this
-- would miss a chunk that arrives while it waits for the job.
--
-- at: the moment of this write; job/insert_outputs finds the job by it
-- state: success, error or lost
-- finished_at: when it ended

UPDATE job AS j
SET
    state = :'state'::text,
    finished_at = :'finished_at'::timestamptz,
    heartbeat_at = :'at'::timestamptz,
    log = l.text,
    failure_sha256 = failure_sha256(:'state'::text, l.text),
    log_seq = l.seq
FROM (
    SELECT
        coalesce(string_agg(c.chunk, '' ORDER BY c.seq), '') AS text,
        max(c.seq) AS seq
    FROM job_log_chunk AS c
    WHERE
        c.job_uuid = :'job'::uuid
        -- A text holds 1 GB at most. A log over half of it stays in its chunks.
        AND (
            SELECT sum(octet_length(k.chunk))
            FROM job_log_chunk AS k
            WHERE k.job_uuid = :'job'::uuid
        ) <= 536870912
) AS l
WHERE j.uuid = :'job'::uuid AND j.state = 'running'
RETURNING j.uuid;
