-- Which failures are there, each in how many jobs, and since which commit?
--
-- Jobs whose last error lines are the same, but for numbers, addresses and temporary paths, count as one
-- failure. The most frequent come first. Without newer_than, the newest 10,000 failed jobs that the other
-- filters leave are counted; since when a failure is there, is looked up among all that they leave, or, of a
-- package, among those that are counted.
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

\if :{?package}
-- Start of the 10,000th newest of all its versions, by an index: else as many of each version are read.
bound AS (
    SELECT min(l.started_at) AS since
    FROM (
        SELECT n.started_at
        FROM package AS p
        CROSS JOIN LATERAL (
            SELECT m.started_at
            FROM matching AS m
            WHERE
                m.state = 'error' AND m.package_id = p.id
\if :{?newer_than}
                -- No count bounds the window then.
                AND FALSE
\endif
            ORDER BY m.started_at DESC
            LIMIT 10000
        ) AS n
        WHERE p.name = :'package'::text
        ORDER BY n.started_at DESC
        LIMIT 10000
    ) AS l
),
\endif

-- Also those without a failure: had the planner to leave them out, it would expect few to be left, and read
-- all that failed.
looked_at AS (
    SELECT
        m.uuid,
        m.package_id,
        m.started_at,
        m.failure
    FROM
\if :{?package}
        (SELECT p.id FROM package AS p WHERE p.name = :'package'::text) AS p CROSS JOIN LATERAL
\endif
        (
            SELECT
                m.uuid,
                m.package_id,
                m.started_at,
                m.failure
            FROM matching AS m
            WHERE
                m.state = ANY(ARRAY['error'])
\if :{?package}
                AND m.package_id = p.id
                AND m.started_at >= (SELECT coalesce(b.since, '-infinity') FROM bound AS b)
\endif
            ORDER BY
                -- One value, which = ANY hides: else the planner walks all jobs by time, 64 ms, so: 36.
                m.state DESC,
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

chosen AS (
    SELECT
        l.failure,
        count(*) AS jobs,
        array_agg(DISTINCT l.package_id) AS package_ids,
        max(l.started_at) AS last_at,
        array_agg(l.uuid ORDER BY l.started_at DESC, l.uuid DESC) AS uuids
    FROM looked_at AS l
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
    ARRAY(
        SELECT DISTINCT p.name
        FROM package AS p
        WHERE p.id = ANY(c.package_ids)
        ORDER BY p.name
    ) AS packages,
    j.started_at AS first_at,
    g.hash AS first_commit,
    j.uuid AS first_job,
    c.last_at,
    n.uuid AS last_job,
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
        -- Not looked up: most jobs with this failure may be other packages'.
        AND FALSE
\endif
    ORDER BY m.started_at, m.uuid
    LIMIT 1
) AS f ON TRUE
JOIN job AS j ON j.uuid = coalesce(f.uuid, c.uuids[cardinality(c.uuids)])
JOIN job AS n ON n.uuid = c.uuids[1]
JOIN submit AS s ON s.uuid = j.submit_uuid
JOIN git_hash AS g ON g.id = s.repo_hash_id
ORDER BY c.jobs DESC, c.last_at DESC, c.failure DESC;
