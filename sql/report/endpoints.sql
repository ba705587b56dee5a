-- Which endpoints are there, and when did a job last start on each?
--
-- limit: at most this many

SELECT
    e.name,
    n.started_at AS last_started_at
FROM endpoint AS e
LEFT JOIN LATERAL (
    SELECT j.started_at
    FROM job AS j
    WHERE j.endpoint_id = e.id
    ORDER BY j.started_at DESC
    LIMIT 1
) AS n ON TRUE
ORDER BY e.name
\if :{?limit}
LIMIT :limit
\endif
;
