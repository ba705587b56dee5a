-- Write the failures of jobs anew whose lines come of an older rule, newest first.
--
-- Each row is a job that was done. A job whose log was removed keeps the failure that it has. One whose row
-- is locked is left for another time.
--
-- before: go on after this job, the last row of the run before
-- limit: at most this many in one go

WITH old AS MATERIALIZED (
    SELECT
        j.uuid,
        j.started_at
    FROM job AS j
    WHERE
        j.state = 'error'
        AND j.log IS NOT NULL
        AND coalesce(j.failure_rule, 0) < failure_rule()
\if :{?before}
        AND (j.started_at, j.uuid) < (
            -- From the newest again, if that one was removed since; what is done is left out.
            coalesce((SELECT b.started_at FROM job AS b WHERE b.uuid = :'before'::uuid), 'infinity'),
            :'before'::uuid
        )
\endif
    ORDER BY j.started_at DESC, j.uuid DESC
    LIMIT :limit
    FOR NO KEY UPDATE SKIP LOCKED
),

done AS (
    UPDATE job AS j
    SET
        failure = failure_lines(j.log || coalesce((
            SELECT string_agg(t.chunk, '' ORDER BY t.seq)
            FROM (
                SELECT
                    c.seq,
                    c.chunk,
                    sum(octet_length(c.chunk)) OVER (ORDER BY c.seq DESC)
                    - octet_length(c.chunk) AS octets_after
                FROM job_log_chunk AS c
                WHERE c.job_uuid = j.uuid
            ) AS t
            -- A log over 512 MiB is in its chunks: at least as many characters as failure_lines() reads.
            WHERE t.octets_after <= 80000
        ), '')),
        failure_rule = failure_rule(),
        -- For this alone: a builder, who may not write this column, gets an error. The policy of job would
        -- leave it no ended job, without a word.
        started_at = j.started_at
    FROM old AS o
    WHERE j.uuid = o.uuid
    RETURNING j.uuid, j.started_at
)

SELECT d.uuid
FROM done AS d
ORDER BY d.started_at DESC, d.uuid DESC;
