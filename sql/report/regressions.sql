-- Which packages began to fail, still fail, or were fixed with their newest job?
--
-- Compares the newest two jobs of each package that succeeded or failed, whatever their versions.
--
-- package, -p: only the package of this name
-- newer_than: only if the newest job started at or after this time
-- limit: at most this many

SELECT
    n.name AS package,
    t.versions[1] AS version,
    CASE
        WHEN t.states[1] = 'success' THEN 'fixed'
        WHEN t.states[2] = 'error' THEN 'still failing'
        ELSE 'new failure'
    END AS status,
    t.jobs[1] AS job_uuid,
    t.started[1] AS started_at,
    t.jobs[2] AS previous_job
FROM (
    SELECT DISTINCT p.name
    FROM package AS p
\if :{?package}
    WHERE p.name = :'package'::text
\endif
) AS n
CROSS JOIN LATERAL (
    SELECT
        array_agg(x.version ORDER BY x.started_at DESC, x.uuid DESC) AS versions,
        array_agg(x.state ORDER BY x.started_at DESC, x.uuid DESC) AS states,
        array_agg(x.uuid ORDER BY x.started_at DESC, x.uuid DESC) AS jobs,
        array_agg(x.started_at ORDER BY x.started_at DESC, x.uuid DESC) AS started
    FROM package AS p
    CROSS JOIN LATERAL (
        SELECT
            j.uuid,
            j.state,
            j.started_at,
            p.version
        FROM job AS j
        WHERE j.package_id = p.id AND j.state IN ('success', 'error')
        ORDER BY j.started_at DESC, j.uuid DESC
        LIMIT 2
    ) AS x
    WHERE p.name = n.name
) AS t
WHERE
    'error' IN (t.states[1], t.states[2])
\if :{?newer_than}
    AND t.started[1] >= :'newer_than'::timestamptz
\endif
ORDER BY t.started[1] DESC, n.name ASC
\if :{?limit}
LIMIT :limit
\endif
;
