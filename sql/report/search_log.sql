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
    l.number AS line_number,
    l.line
FROM job AS j
JOIN package AS p ON p.id = j.package_id
CROSS JOIN LATERAL (
    SELECT
        concat(
            j.log,
            (SELECT string_agg(c.chunk, '' ORDER BY c.seq) FROM job_log_chunk AS c WHERE c.job_uuid = j.uuid)
        ) AS log
) AS whole
CROSS JOIN LATERAL string_to_table(whole.log, E'\n') WITH ORDINALITY AS l (line, number)
WHERE
    l.line <> ''
\if :{?text}
    -- Search the whole log before its lines: to cut logs without the text into lines took 237 ms, so: 20.
    AND strpos(whole.log, :'text'::text) > 0
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
ORDER BY j.started_at DESC, j.uuid DESC, l.number ASC
\if :{?limit}
LIMIT :limit
\endif
;
