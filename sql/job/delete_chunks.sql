-- Remove the log chunks of a job that job/end has folded into job.log.

WITH deleted AS (
    DELETE FROM job_log_chunk AS c
    USING job AS j
    -- A chunk that is not in job.log stays: one of a log that is too long, or that arrived since.
    WHERE j.uuid = :'job'::uuid AND c.job_uuid = j.uuid AND c.seq < cardinality(j.log_pieces)
    RETURNING c.seq
)

SELECT count(*) AS pieces
FROM deleted
ORDER BY pieces;
