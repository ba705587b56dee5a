-- What has this job written to its log since it was last asked?
--
-- At most 16 MiB and one chunk at a time of what is in chunks. "seq" is NULL if no chunk is left; "text",
-- if the log was removed.
--
-- after: place of the last chunk that was read; go on after it
-- characters: how many characters were read so far; an ended job goes on after them, in one text

SELECT
    j.state,
    CASE
        WHEN j.state = 'running' THEN ''
        -- What was read in chunks may be more than an integer holds; the log then has nothing after it.
        ELSE substr(j.log, least(:'characters'::bigint, 2147483646)::int + 1)
    END || n.text AS text,
    n.seq
FROM job AS j
CROSS JOIN LATERAL (
    SELECT
        coalesce(string_agg(t.chunk, '' ORDER BY t.seq), '') AS text,
        max(t.seq) AS seq
    FROM (
        SELECT
            c.seq,
            c.chunk,
            sum(octet_length(c.chunk)) OVER (ORDER BY c.seq) - octet_length(c.chunk) AS octets_before
        FROM job_log_chunk AS c
        WHERE
            c.job_uuid = j.uuid
\if :{?after}
            AND c.seq > :'after'::bigint
\endif
        ORDER BY c.seq
        LIMIT 1000
    ) AS t
    WHERE t.octets_before < 16777216
) AS n
WHERE j.uuid = :'job'::uuid
ORDER BY j.uuid;
