-- How long do the jobs of each package take on each endpoint, and how often do they fail?
--
-- Seconds of successful jobs: half of them took at most p50, 19 of 20 at most p95. Lost jobs count
-- as failed, running ones not at all.
--
-- package, -p: only the package of this name
-- endpoint, -e: only jobs on this endpoint
-- newer_than: only jobs started at or after this time
-- older_than: only jobs started before this time
-- limit: at most this many

SELECT
    p.name AS package,
    e.name AS endpoint,
    count(*) AS jobs,
    count(*) FILTER (WHERE j.state <> 'success') AS failed,
    (count(*) FILTER (WHERE j.state <> 'success'))::double precision / count(*) AS failure_rate,
    percentile_cont(0.5) WITHIN GROUP (
        ORDER BY date_part('epoch', j.finished_at - j.started_at)
    ) FILTER (WHERE j.state = 'success') AS p50,
    percentile_cont(0.95) WITHIN GROUP (
        ORDER BY date_part('epoch', j.finished_at - j.started_at)
    ) FILTER (WHERE j.state = 'success') AS p95
FROM job AS j
JOIN package AS p ON p.id = j.package_id
JOIN endpoint AS e ON e.id = j.endpoint_id
WHERE
    j.state <> 'running'
\if :{?package}
    AND p.name = :'package'::text
\endif
\if :{?endpoint}
    AND e.name = :'endpoint'::text
\endif
\if :{?newer_than}
    AND j.started_at >= :'newer_than'::timestamptz
\endif
\if :{?older_than}
    AND j.started_at < :'older_than'::timestamptz
\endif
GROUP BY p.name, e.name
ORDER BY jobs DESC, p.name ASC, e.name ASC
\if :{?limit}
LIMIT :limit
\endif
;
