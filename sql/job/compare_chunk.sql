-- Does the log of a job have this chunk in its place already?
--
-- No row if there is no such job. "same" is NULL if the log has no chunk there, or if it was removed.
--
-- seq: place of the chunk in the log, counted from 0
-- chunk: its text; a byte that text cannot hold is \xHH

SELECT
    j.state,
    coalesce(
        (
            SELECT substr(j.log, p.first::int, p.characters) = :'chunk'::text
            FROM (
                SELECT
                    t.characters,
                    t.number - 1 AS seq,
                    -- In job.log a chunk begins after all before it.
                    1 + sum(t.characters) OVER (ORDER BY t.number) - t.characters AS first
                FROM unnest(j.log_pieces) WITH ORDINALITY AS t (characters, number)
            ) AS p
            WHERE p.seq = :'seq'::bigint
        ),
        (
            SELECT c.chunk = :'chunk'::text
            FROM job_log_chunk AS c
            WHERE c.job_uuid = j.uuid AND c.seq = :'seq'::bigint
        )
    ) AS same,
    coalesce((SELECT max(c.seq) + 1 FROM job_log_chunk AS c WHERE c.job_uuid = j.uuid), 0) AS next_seq
FROM job AS j
WHERE j.uuid = :'job'::uuid
ORDER BY j.uuid;
