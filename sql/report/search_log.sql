-- Which lines of which logs have this text, newest jobs first?
--
-- Reads the logs of all jobs that the other filters leave, so give some.
--
-- text: only lines that contain this
-- regex, -r: only lines that match this regular expression of PostgreSQL
-- of_submit, -S: only jobs of this submit
-- package, -p: only jobs of the package of this name
-- state {running|success|error|lost}: only jobs in this state
-- newer_than: only jobs started at or after this time
-- older_than: only jobs started before this time
-- limit: at most this many lines

SELECT
    j.uuid AS job_uuid,
    p.name AS package,
    p.version,
    j.state,
    j.started_at,
    piece.lines_before + l.number AS line_number,
    l.line
FROM job AS j
JOIN package AS p ON p.id = j.package_id
CROSS JOIN LATERAL (
    SELECT
        j.log AS text,
        0 AS lines_before
    WHERE j.log <> ''
    UNION ALL
    -- A text holds 1 GB at most, so that what is in chunks is searched in pieces of 16 MiB. These are the
    -- lines that begin in one: its last goes on in the next piece, to that one's first line break. So of a
    -- line that goes on beyond the next piece only the beginning is searched.
    SELECT
        CASE
            WHEN row_number() OVER pieces = 1 THEN q.text
            WHEN strpos(q.text, E'\n') > 0 THEN substr(q.text, strpos(q.text, E'\n') + 1)
        END || coalesce(lead(split_part(q.text, E'\n', 1)) OVER pieces, '') AS text,
        coalesce(
            sum(octet_length(q.text) - octet_length(replace(q.text, E'\n', ''))) OVER pieces + 1, 0
        ) AS lines_before
    FROM (
        SELECT
            min(t.seq) AS seq,
            string_agg(t.chunk, '' ORDER BY t.seq) AS text
        FROM (
            SELECT
                c.seq,
                c.chunk,
                sum(octet_length(c.chunk)) OVER (ORDER BY c.seq) - octet_length(c.chunk) AS octets_before
            FROM job_log_chunk AS c
            WHERE c.job_uuid = j.uuid
        ) AS t
        GROUP BY t.octets_before / 16777216
    ) AS q
    WINDOW pieces AS (ORDER BY q.seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
) AS piece
CROSS JOIN LATERAL string_to_table(piece.text, E'\n') WITH ORDINALITY AS l (line, number)
WHERE
    l.line <> ''
\if :{?text}
    -- Search the whole piece before its lines: to cut logs without the text into lines took 237 ms, so: 20.
    AND strpos(piece.text, :'text'::text) > 0
    AND strpos(l.line, :'text'::text) > 0
\endif
\if :{?regex}
    AND l.line ~ :'regex'::text
\endif
\if :{?of_submit}
    AND j.submit_uuid = :'of_submit'::uuid
\endif
\if :{?package}
    AND p.name = :'package'::text
\endif
\if :{?state}
    AND j.state = :'state'
\endif
\if :{?newer_than}
    AND j.started_at >= :'newer_than'::timestamptz
\endif
\if :{?older_than}
    AND j.started_at < :'older_than'::timestamptz
\endif
ORDER BY j.started_at DESC, j.uuid DESC, line_number ASC
\if :{?limit}
LIMIT :limit
\endif
;
