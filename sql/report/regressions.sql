-- Which packages began to fail, still fail, or were fixed with their newest job in an image?
--
-- Compares the newest two jobs of each package in each image that succeeded or failed, whatever their
-- versions. Without newer_than, it is about the packages and images of the newest 10,000 such jobs that the
-- other filters leave, or of a package of those among the newest 1,000 of each version.
--
-- package, -p: only the package of this name
-- image, -I: only jobs in this image
-- endpoint, -e: only jobs on this endpoint
-- newer_than: only if the newest job started at or after this time
-- limit: at most this many

WITH matching AS NOT MATERIALIZED (
    SELECT
        j.uuid,
        j.package_id,
        j.image_id,
        j.endpoint_id,
        j.state,
        j.started_at
    FROM job AS j
    WHERE
        j.state IN ('success', 'error')
\if :{?image}
        AND j.image_id = ANY(ARRAY(SELECT i.id FROM image AS i WHERE i.name = :'image'::text))
\endif
\if :{?endpoint}
        AND j.endpoint_id = ANY(ARRAY(SELECT e.id FROM endpoint AS e WHERE e.name = :'endpoint'::text))
\endif
),

looked_at AS (
    SELECT
        m.uuid,
        m.package_id,
        m.image_id,
        m.state,
        m.started_at
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
                m.uuid,
                m.package_id,
                m.image_id,
                m.state,
                m.started_at
            FROM matching AS m
            WHERE
                TRUE
\if :{?package}
                AND m.package_id = p.id
                AND m.started_at >= coalesce(p.since, '-infinity')
\endif
\if :{?newer_than}
                AND m.started_at >= :'newer_than'::timestamptz
\endif
            ORDER BY
                -- One value each, which = ANY hides: else the planner walks all jobs by time.
\if :{?image}
                m.image_id DESC,
\endif
\if :{?endpoint}
                m.endpoint_id DESC,
\endif
                m.started_at DESC, m.uuid DESC
            LIMIT greatest(
\if :{?newer_than}
                -- All since then.
                9223372036854775807,
\endif
                10000
            )
        ) AS m
    ORDER BY m.started_at DESC, m.uuid DESC
    LIMIT greatest(
\if :{?newer_than}
        -- All since then.
        9223372036854775807,
\endif
        10000
    )
),

newest AS (
    SELECT DISTINCT ON (p.name, l.image_id)
        p.name,
        p.version,
        l.image_id,
        l.uuid,
        l.state,
        l.started_at
    FROM looked_at AS l
    JOIN package AS p ON p.id = l.package_id
    ORDER BY p.name ASC, l.image_id ASC, l.started_at DESC, l.uuid DESC
)

SELECT
    n.name AS package,
    n.version,
    n.image,
    CASE
        WHEN n.state = 'success' THEN 'fixed'
        WHEN b.state = 'error' THEN 'still failing'
        ELSE 'new failure'
    END AS status,
    n.uuid AS job_uuid,
    n.started_at,
    b.uuid AS previous_job
-- In order first, so that a page looks for no more of the jobs before than it needs.
FROM (
    SELECT
        n.name,
        n.version,
        n.image_id,
        i.name AS image,
        n.uuid,
        n.state,
        n.started_at
    FROM newest AS n
    JOIN image AS i ON i.id = n.image_id
    ORDER BY n.started_at DESC, n.name ASC, i.name ASC
) AS n
-- The job before it; the newest of each version first, then the newest of all.
LEFT JOIN LATERAL (
    SELECT
        m.uuid,
        m.state
    FROM package AS p
    CROSS JOIN LATERAL (
        SELECT
            m.uuid,
            m.state,
            m.started_at
        FROM matching AS m
        WHERE
            m.package_id = p.id
            AND m.image_id = n.image_id
            AND (m.started_at, m.uuid) < (n.started_at, n.uuid)
        ORDER BY m.started_at DESC, m.uuid DESC
        LIMIT 1
    ) AS m
    WHERE p.name = n.name
    ORDER BY m.started_at DESC, m.uuid DESC
    LIMIT 1
) AS b ON TRUE
WHERE 'error' IN (n.state, b.state)
ORDER BY n.started_at DESC, n.name ASC, n.image ASC
\if :{?limit}
LIMIT :limit
\endif
;
