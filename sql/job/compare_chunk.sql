-- Does the log of a job have this chunk in its place already?
--
-- No row if there is no such job. "same" is NULL if the log has no chunk there. In the log of an ended job
-- only the last chunk has a place; of one before it there is only to see that the log has its text.
--
-- seq: place of the chunk in the log, counted from 0
-- chunk: its text; a byte that text cannot hold is \xHH

SELECT
    j.state,
    CASE
        WHEN j.log_seq = :'seq'::bigint THEN right(j.log, length(:'chunk'::text)) = :'chunk'::text
        WHEN j.log_seq > :'seq'::bigint AND position(:'chunk'::text IN j.log) > 0 THEN TRUE
        ELSE (
            SELECT c.chunk = :'chunk'::text
            FROM job_log_chunk AS c
            WHERE c.job_uuid = j.uuid AND c.seq = :'seq'::bigint
        )
    END AS same,
    coalesce((SELECT max(c.seq) + 1 FROM job_log_chunk AS c WHERE c.job_uuid = j.uuid), 0) AS next_seq
FROM job AS j
WHERE j.uuid = :'job'::uuid
ORDER BY j.uuid;
