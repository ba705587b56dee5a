-- How long do the jobs of each package take in each image and on each endpoint, and how often do they fail?
--
-- Seconds of successful jobs: half of them took at most p50, 19 of 20 at most p95; a job that ended before
-- it started, by a clock that was set back, counts in neither. Lost jobs count as failed, running ones not
-- at all. Without newer_than, it is about the newest 10,000 jobs that the other filters leave, or
-- of a package about those among the newest 1,000 of each version.
--
-- package, -p: only the package of this name
-- image, -I: only jobs in this image
-- endpoint, -e: only jobs on this endpoint
-- newer_than: only jobs started at or after this time
-- older_than: only jobs started before this time
-- limit: at most this many

WITH looked_at AS (
    SELECT
        j.uuid,
        j.package_id,
        j.image_id,
        j.endpoint_id,
        j.state,
        j.started_at,
        j.finished_at
    FROM
\if :{?package}
        (
            SELECT
                p.id,
                -- Start of the 1,000th newest, from the index alone: else all jobs of the package are read.
                (
                    SELECT min(n.started_at)
                    FROM (
                        SELECT n.started_at
                        FROM job AS n
                        WHERE
                            n.package_id = p.id
\if :{?older_than}
                            AND n.started_at < :'older_than'::timestamptz
\endif
\if :{?newer_than}
                            -- No count bounds the window then.
                            AND FALSE
\endif
                        ORDER BY n.started_at DESC
                        LIMIT 1000
                    ) AS n
                ) AS since
            FROM package AS p
            WHERE p.name = :'package'::text
        ) AS p CROSS JOIN LATERAL
\endif
        (
            SELECT
                j.uuid,
                j.package_id,
                j.image_id,
                j.endpoint_id,
                j.state,
                j.started_at,
                j.finished_at
            FROM job AS j
            WHERE
                j.state <> 'running'
\if :{?package}
                AND j.package_id = p.id
                AND j.started_at >= coalesce(p.since, '-infinity')
\endif
\if :{?image}
                AND j.image_id = ANY(ARRAY(SELECT i.id FROM image AS i WHERE i.name = :'image'::text))
\endif
\if :{?endpoint}
                AND j.endpoint_id = ANY(
                    ARRAY(SELECT e.id FROM endpoint AS e WHERE e.name = :'endpoint'::text)
                )
\endif
\if :{?newer_than}
                AND j.started_at >= :'newer_than'::timestamptz
\endif
\if :{?older_than}
                AND j.started_at < :'older_than'::timestamptz
\endif
            ORDER BY
                -- One value each, which = ANY hides: else the planner walks all jobs by time.
\if :{?image}
                j.image_id DESC,
\endif
\if :{?endpoint}
                j.endpoint_id DESC,
\endif
                j.started_at DESC, j.uuid DESC
            LIMIT greatest(
\if :{?newer_than}
                -- All since then.
                9223372036854775807,
\endif
                10000
            )
        ) AS j
    ORDER BY j.started_at DESC, j.uuid DESC
    LIMIT greatest(
\if :{?newer_than}
        -- All since then.
        9223372036854775807,
\endif
        10000
    )
)

SELECT
    p.name AS package,
    i.name AS image,
    e.name AS endpoint,
    count(*) AS jobs,
    count(*) FILTER (WHERE l.state <> 'success') AS failed,
    (count(*) FILTER (WHERE l.state <> 'success'))::double precision / count(*) AS failure_rate,
    percentile_cont(0.5) WITHIN GROUP (
        ORDER BY date_part('epoch', l.finished_at - l.started_at)
    ) FILTER (WHERE l.state = 'success' AND l.finished_at >= l.started_at) AS p50,
    percentile_cont(0.95) WITHIN GROUP (
        ORDER BY date_part('epoch', l.finished_at - l.started_at)
    ) FILTER (WHERE l.state = 'success' AND l.finished_at >= l.started_at) AS p95
FROM looked_at AS l
JOIN package AS p ON p.id = l.package_id
JOIN image AS i ON i.id = l.image_id
JOIN endpoint AS e ON e.id = l.endpoint_id
GROUP BY p.name, i.name, e.name
ORDER BY jobs DESC, p.name ASC, i.name ASC, e.name ASC
\if :{?limit}
LIMIT :limit
\endif
;
