-- What was measured of the jobs of each package, and what is usual?
--
-- Half of the values are at most p50, 19 of 20 at most p95; last is that of the job that started last.
-- Without newer_than, it is about the newest 10,000 jobs that the other filters leave, measured or not, or
-- of a package about those among the newest 1,000 of each version.
--
-- package, -p: only the package of this name
-- name: only the measurement of this name
-- image, -I: only jobs in this image
-- state {running|success|error|lost}: only jobs in this state; those that succeeded, if not given
-- newer_than: only jobs started at or after this time
-- older_than: only jobs started before this time
-- limit: at most this many

WITH looked_at AS (
    SELECT
        j.uuid,
        j.package_id,
        j.started_at,
        j.measurements
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
                j.started_at,
                j.measurements
            FROM job AS j
            WHERE
                j.state = coalesce(
\if :{?state}
                    :'state',
\endif
                    'success'
                )
\if :{?package}
                AND j.package_id = p.id
                AND j.started_at >= coalesce(p.since, '-infinity')
\endif
\if :{?image}
                AND j.image_id = ANY(ARRAY(SELECT i.id FROM image AS i WHERE i.name = :'image'::text))
\endif
\if :{?newer_than}
                AND j.started_at >= :'newer_than'::timestamptz
\endif
\if :{?older_than}
                AND j.started_at < :'older_than'::timestamptz
\endif
            ORDER BY
                -- One value, which = ANY hides: else the planner walks all jobs by time.
\if :{?image}
                j.image_id DESC,
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
    m.name,
    count(*) AS jobs,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY m.value) AS p50,
    percentile_cont(0.95) WITHIN GROUP (ORDER BY m.value) AS p95,
    (array_agg(m.value ORDER BY l.started_at DESC, l.uuid DESC))[1] AS last
FROM looked_at AS l
JOIN package AS p ON p.id = l.package_id
CROSS JOIN LATERAL (
    SELECT
        e.key COLLATE "C" AS name,
        e.value::double precision AS value
    FROM jsonb_each(l.measurements) AS e (key, value)
\if :{?name}
    WHERE e.key = :'name'::text
\endif
) AS m
WHERE l.measurements IS NOT NULL
GROUP BY p.name, m.name
ORDER BY jobs DESC, p.name ASC, m.name ASC
\if :{?limit}
LIMIT :limit
\endif
;
