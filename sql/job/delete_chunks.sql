-- Remove the log chunks of a job that job.log has now.

WITH deleted AS (
    DELETE FROM job_log_chunk AS c
    USING job AS j
    -- A chunk that is not in job.log stays.
    WHERE j.uuid = :'job'::uuid AND c.job_uuid = j.uuid AND c.seq < cardinality(j.log_pieces)
    RETURNING c.seq
)

SELECT count(*) AS pieces
FROM deleted
ORDER BY pieces;
