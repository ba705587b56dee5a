-- What has this job written to its log since it was last asked?
--
-- job: the job's uuid
-- after: place of the last piece that was read, while the job was running
-- characters: how many characters were read

SELECT
    j.state,
    CASE
        WHEN j.state = 'running' THEN n.text
        -- The end of a job makes one text of the pieces.
        ELSE substr(
            concat(
                j.log,
                (
                    SELECT string_agg(c.chunk, '' ORDER BY c.seq)
                    FROM job_log_chunk AS c
                    WHERE c.job_uuid = j.uuid
                )
            ), :'characters'::bigint::int + 1
        )
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
