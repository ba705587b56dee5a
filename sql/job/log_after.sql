-- What has this job written to its log since it was last asked?
--
-- after: place of the last chunk that was read; a running job goes on after it
-- characters: how many characters were read so far; an ended job goes on after them, in one text

SELECT
    j.state,
    CASE
        WHEN j.state = 'running' THEN n.text
        ELSE substr(concat(j.log, (
            SELECT string_agg(c.chunk, '' ORDER BY c.seq)
            FROM job_log_chunk AS c
            WHERE c.job_uuid = j.uuid
        )), :'characters'::bigint::int + 1)
    END AS text,
    n.seq
FROM job AS j
CROSS JOIN LATERAL (
    SELECT
        coalesce(string_agg(c.chunk, '' ORDER BY c.seq), '') AS text,
        max(c.seq) AS seq
    FROM job_log_chunk AS c
    WHERE
        c.job_uuid = j.uuid
\if :{?after}
        AND c.seq > :'after'::bigint
\endif
) AS n
WHERE j.uuid = :'job'::uuid
ORDER BY j.uuid;
