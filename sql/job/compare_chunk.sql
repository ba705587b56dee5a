-- Does the log of a job have this chunk in its place already?
--
-- No row if there is no such job. "same" is NULL if the log has no chunk there. Of an ended job only the
-- last chunk can be told: one that is sent again, because its answer was lost, is the last.
--
-- seq: place of the chunk in the log, counted from 0
-- chunk: its text; a byte that text cannot hold is \xHH

SELECT
    j.state,
    CASE
        WHEN j.log_seq = :'seq'::bigint THEN right(j.log, length(:'chunk'::text)) = :'chunk'::text
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
