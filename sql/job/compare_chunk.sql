-- How does this piece differ from what the log of a job has in its place?
--
-- No row where there is no such job. "same" is NULL where the log has nothing there. Of the pieces of an
-- ended job only the last is known: one that is sent again, since its answer was lost, is the last.
--
-- job: the job's uuid
-- seq: place of the piece in the log, counted from 0
-- chunk: the piece, with what is no UTF-8 text escaped as \xHH

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
