-- How many seconds will the next job of this package take in each image?
--
-- From the newest 20 successful jobs in each; not from one that ended before it started, by a clock that
-- was set back. No row where there is none.
--
-- package: name of the package
-- version: only jobs of this version
-- image, -I: only jobs in this image
-- endpoint, -e: only jobs on this endpoint

SELECT
    i.name AS image,
    count(*) AS jobs,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY n.seconds) AS p50,
    percentile_cont(0.95) WITHIN GROUP (ORDER BY n.seconds) AS p95
FROM image AS i
CROSS JOIN LATERAL (
    SELECT date_part('epoch', j.finished_at - j.started_at) AS seconds
    FROM package AS p
    -- The newest of each version first, which its index gives, then the newest of all.
    CROSS JOIN LATERAL (
        SELECT
            j.uuid,
            j.started_at,
            j.finished_at
        FROM job AS j
        WHERE
            j.package_id = p.id
            AND j.image_id = i.id
            AND j.state = 'success'
            AND j.finished_at >= j.started_at
\if :{?endpoint}
            AND j.endpoint_id = (SELECT e.id FROM endpoint AS e WHERE e.name = :'endpoint'::text)
\endif
        ORDER BY j.started_at DESC, j.uuid DESC
        LIMIT 20
    ) AS j
    WHERE
        p.name = :'package'::text
\if :{?version}
        AND p.version = :'version'::text
\endif
    ORDER BY j.started_at DESC, j.uuid DESC
    LIMIT 20
) AS n
\if :{?image}
WHERE i.name = :'image'::text
\endif
GROUP BY i.name
ORDER BY i.name;
