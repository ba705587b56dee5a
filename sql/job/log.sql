-- What has this job written to its log so far?
--
-- In one row; a log over 256 MiB in more of them, in order, since a text holds 1 GB at most. NULL if the
-- log was removed.

SELECT p.log
FROM job AS j
CROSS JOIN LATERAL (
    SELECT
        min(t.seq) AS seq,
        string_agg(t.chunk, '' ORDER BY t.seq) AS log
    FROM (
        SELECT
            w.seq,
            w.chunk,
            octet_length(w.chunk) AS octets,
            sum(octet_length(w.chunk)) OVER (ORDER BY w.seq) AS total
        FROM (
            SELECT
                -1 AS seq,
                CASE WHEN j.state = 'running' THEN '' ELSE j.log END AS chunk
            UNION ALL
            SELECT
                c.seq,
                c.chunk
            FROM job_log_chunk AS c
            WHERE c.job_uuid = j.uuid
        ) AS w
    ) AS t
    -- A chunk across a multiple of 256 MiB is a row of its own.
    GROUP BY (t.total - t.octets) / 268435456, t.total / 268435456
) AS p
WHERE j.uuid = :'job'::uuid
ORDER BY p.seq;
