-- Which packages are there, and when did a job last build each?
--
-- name: only those of this name
-- limit: at most this many

SELECT
    p.name,
    p.version,
    n.started_at AS last_started_at
FROM package AS p
LEFT JOIN LATERAL (
    SELECT j.started_at
    FROM job AS j
    WHERE j.package_id = p.id
    ORDER BY j.started_at DESC
    LIMIT 1
) AS n ON TRUE
\if :{?name}
WHERE p.name = :'name'::text
\endif
ORDER BY p.name, p.version
\if :{?limit}
LIMIT :limit
\endif
;
