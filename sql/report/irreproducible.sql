-- Which files differ between jobs that did exactly the same?
--
-- A row for each path that successful jobs with one fingerprint made with more than one content. What is
-- unknown, of an input or of what was made, equals nothing and differs from nothing.
--
-- package, -p: only the package of this name
-- newer_than: only jobs started at or after this time
-- older_than: only jobs started before this time
-- limit: at most this many

SELECT
    j.fingerprint,
    p.name AS package,
    p.version,
    a.path,
    count(DISTINCT a.sha256) AS contents,
    json_agg(
        json_build_object('job', j.uuid, 'sha256', encode(a.sha256, 'hex'))
        ORDER BY j.started_at, j.uuid
    ) AS jobs
FROM job AS j
JOIN package AS p ON p.id = j.package_id
JOIN artifact AS a ON a.job_uuid = j.uuid
WHERE
    j.state = 'success'
    AND j.fingerprint IS NOT NULL
    AND a.sha256 IS NOT NULL
\if :{?package}
    AND p.name = :'package'::text
\endif
\if :{?newer_than}
    AND j.started_at >= :'newer_than'::timestamptz
\endif
\if :{?older_than}
    AND j.started_at < :'older_than'::timestamptz
\endif
GROUP BY j.fingerprint, p.name, p.version, a.path
HAVING count(DISTINCT a.sha256) > 1
ORDER BY max(j.started_at) DESC, j.fingerprint ASC, a.path ASC
\if :{?limit}
LIMIT :limit
\endif
;
