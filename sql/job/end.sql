-- End a running job: its state, its time, and its log in one piece.
--
-- Without a row there is no such job, or it has ended. Lock it before, with job/lock: a piece of the log
-- that arrives while this waits would not be seen.
--
-- job: the job's uuid
-- at: the moment of this write, by which its other statements know the job that it ended
-- state: success, error or lost
-- finished_at: when it ended

UPDATE job AS j
SET
    state = :'state'::text,
    finished_at = :'finished_at'::timestamptz,
    heartbeat_at = :'at'::timestamptz,
    log = l.text,
    log_seq = l.seq
FROM (
    SELECT
        coalesce(string_agg(c.chunk, '' ORDER BY c.seq), '') AS text,
        max(c.seq) AS seq
    FROM job_log_chunk AS c
    WHERE
        c.job_uuid = :'job'::uuid
        -- A text holds 1 GB. A log that comes near it stays in its chunks.
        AND (
            SELECT sum(octet_length(k.chunk))
            FROM job_log_chunk AS k
            WHERE k.job_uuid = :'job'::uuid
        ) <= 536870912
) AS l
WHERE j.uuid = :'job'::uuid AND j.state = 'running'
RETURNING j.uuid;
