-- End a running job: its state, its time, and its log in one text.
--
-- Without a row there is no such job, or it has ended. Run job/lock before, in the same transaction: this
-- would miss a chunk that arrives while it waits for the job.
--
-- at: the moment of this write; job/insert_outputs finds the job by it
-- state: success, error or lost
-- finished_at: when it ended
-- reason: why it ended so; empty where nobody said
-- exit_code: of the script's process; empty where nobody said
-- measurements: what was measured, {"name": number}; {} for nothing

UPDATE job AS j
SET
    state = :'state'::text,
    finished_at = :'finished_at'::timestamptz,
    reason = nullif(:'reason'::text, ''),
    exit_code = nullif(:'exit_code'::text, '')::bigint,
    measurements = nullif(:'measurements'::jsonb, '{}'),
    heartbeat_at = :'at'::timestamptz,
    log = l.text,
    log_pieces = l.pieces,
    log_size = l.size,
    failure = CASE
        WHEN :'state'::text = 'error'
            THEN failure_lines((
                SELECT coalesce(string_agg(t.chunk, '' ORDER BY t.seq), '')
                FROM (
                    SELECT
                        k.seq,
                        k.chunk,
                        sum(octet_length(k.chunk)) OVER (ORDER BY k.seq DESC)
                        - octet_length(k.chunk) AS octets_after
                    FROM job_log_chunk AS k
                    WHERE k.job_uuid = :'job'::uuid
                ) AS t
                -- All characters that failure_lines() reads, of a log that may be too long for one text.
                WHERE t.octets_after <= 80000
            ))
    END,
    failure_rule = CASE WHEN :'state'::text = 'error' THEN failure_rule() END
FROM (
    SELECT
        coalesce(string_agg(c.chunk, '' ORDER BY c.seq), '') AS text,
        array_agg(char_length(c.chunk) ORDER BY c.seq) FILTER (WHERE c.seq IS NOT NULL) AS pieces,
        s.size
    FROM (
        SELECT coalesce(sum(octet_length(k.chunk)), 0) AS size
        FROM job_log_chunk AS k
        WHERE k.job_uuid = :'job'::uuid
    ) AS s
    -- A text holds 1 GB at most. A log over half of it stays in its chunks.
    LEFT JOIN job_log_chunk AS c ON c.job_uuid = :'job'::uuid AND s.size <= 536870912
    GROUP BY s.size
) AS l
WHERE j.uuid = :'job'::uuid AND j.state = 'running'
RETURNING j.uuid;
