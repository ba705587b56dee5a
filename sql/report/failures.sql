-- Which failures are there, each in how many jobs, and since which commit?
--
-- Jobs whose last error lines are the same, but for numbers, addresses and temporary paths, count as one
-- failure. The most frequent come first. Without package and newer_than, the newest 10,000 failed jobs that
-- the other filters leave are counted; since when a failure is there, is looked up among all.
--
-- package, -p: only jobs of the package of this name
-- failure, -f: only this failure, by its SHA-256
-- newer_than: only jobs started at or after this time
-- older_than: only jobs started before this time
-- limit: at most this many

WITH matching AS NOT MATERIALIZED (
    SELECT
        j.uuid,
        j.package_id,
        j.state,
        j.started_at,
        j.failure
    FROM job AS j
    WHERE
        TRUE
\if :{?failure}
        AND text_sha256(j.failure) = :'failure'::bytea
\endif
\if :{?newer_than}
        AND j.started_at >= :'newer_than'::timestamptz
\endif
\if :{?older_than}
        AND j.started_at < :'older_than'::timestamptz
\endif
),

-- Without what their log tells: the planner takes it that few have it, and reads all that failed.
looked_at AS (
    SELECT
        m.uuid,
        m.package_id,
        m.started_at,
        m.failure
    FROM matching AS m
    WHERE
        m.state = 'error'
\if :{?package}
        AND m.package_id = ANY(ARRAY(SELECT p.id FROM package AS p WHERE p.name = :'package'::text))
\endif
    ORDER BY m.started_at DESC, m.uuid DESC
    LIMIT greatest(
\if :{?package}
        9223372036854775807,
\endif
\if :{?newer_than}
        9223372036854775807,
\endif
        10000
    )
),

chosen AS (
    SELECT
        l.failure,
        count(*) AS jobs,
        array_agg(DISTINCT p.name ORDER BY p.name) AS packages,
        (array_agg(l.uuid ORDER BY l.started_at, l.uuid))[1] AS first_job,
        max(l.started_at) AS last_at,
        (array_agg(l.uuid ORDER BY l.started_at DESC, l.uuid DESC))[1] AS last_job
    FROM looked_at AS l
    JOIN package AS p ON p.id = l.package_id
    WHERE l.failure IS NOT NULL
    GROUP BY l.failure
    ORDER BY jobs DESC, last_at DESC, l.failure DESC
\if :{?limit}
    LIMIT :limit
\endif
)

SELECT
    text_sha256(c.failure) AS failure_sha256,
    c.jobs,
    c.packages,
    j.started_at AS first_at,
    g.hash AS first_commit,
    j.uuid AS first_job,
    c.last_at,
    c.last_job,
    n.reason,
    c.failure AS lines
FROM chosen AS c
LEFT JOIN LATERAL (
    SELECT m.uuid
    FROM matching AS m
    WHERE
        text_sha256(m.failure) = text_sha256(c.failure)
        AND m.failure IS NOT NULL
\if :{?package}
        -- All jobs of the package have been looked at.
        AND FALSE
\endif
    ORDER BY m.started_at, m.uuid
    LIMIT 1
) AS f ON TRUE
JOIN job AS j ON j.uuid = coalesce(f.uuid, c.first_job)
JOIN job AS n ON n.uuid = c.last_job
JOIN submit AS s ON s.uuid = j.submit_uuid
JOIN git_hash AS g ON g.id = s.repo_hash_id
ORDER BY c.jobs DESC, c.last_at DESC, c.failure DESC;
