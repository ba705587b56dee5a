-- Which images are there, and when did a job last start in each?
--
-- limit: at most this many

SELECT
    i.name,
    n.started_at AS last_started_at
FROM image AS i
LEFT JOIN LATERAL (
    SELECT j.started_at
    FROM job AS j
    WHERE j.image_id = i.id
    ORDER BY j.started_at DESC
    LIMIT 1
) AS n ON TRUE
ORDER BY i.name
\if :{?limit}
LIMIT :limit
\endif
;
