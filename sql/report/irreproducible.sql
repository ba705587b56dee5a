-- Which files differ between jobs that did exactly the same?
--
-- A row for each path that successful jobs with one fingerprint made with more than one content. What is
-- unknown, of an input or of what was made, equals nothing and differs from nothing. Without newer_than,
-- only paths which one of the newest 10,000 successful jobs that the other filters leave was the last to
-- make, or of a package one of the newest 1,000 of each version.
--
-- package, -p: only the package of this name
-- newer_than: only jobs started at or after this time
-- older_than: only jobs started before this time
-- limit: at most this many

WITH matching AS NOT MATERIALIZED (
    SELECT
        j.uuid,
        j.package_id,
        j.fingerprint,
        j.started_at
    FROM job AS j
    WHERE
        j.state = 'success'
\if :{?newer_than}
        AND j.started_at >= :'newer_than'::timestamptz
\endif
\if :{?older_than}
        AND j.started_at < :'older_than'::timestamptz
\endif
),

looked_at AS (
    SELECT
        m.uuid,
        m.package_id,
        m.fingerprint,
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
                m.uuid,
                m.package_id,
                m.fingerprint,
                m.started_at
            FROM matching AS m
\if :{?package}
            WHERE m.package_id = p.id AND m.started_at >= coalesce(p.since, '-infinity')
\endif
            ORDER BY m.started_at DESC, m.uuid DESC
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

-- From the newest back, so that a page ends the search. Each path is found at the last job that made it.
chosen AS (
    SELECT
        l.fingerprint,
        l.package_id,
        l.started_at,
        a.path,
        a.path_sha256
    FROM looked_at AS l
    CROSS JOIN LATERAL (
        SELECT
            a.path,
            a.path_sha256,
            a.sha256
        FROM artifact AS a
        WHERE a.job_uuid = l.uuid
        ORDER BY a.path
    ) AS a
    WHERE
        -- Most did what no other has done, which the index alone tells.
        (
            SELECT count(*)
            FROM (
                SELECT 1
                FROM matching AS m
                WHERE m.fingerprint = l.fingerprint
                ORDER BY m.started_at
                LIMIT 2
            ) AS t
        ) = 2
        AND l.uuid = (
            SELECT m.uuid
            FROM matching AS m
            JOIN artifact AS o ON o.job_uuid = m.uuid
            WHERE m.fingerprint = l.fingerprint AND o.path_sha256 = a.path_sha256 AND o.sha256 IS NOT NULL
            ORDER BY m.started_at DESC, m.uuid DESC
            LIMIT 1
        )
        AND (
            SELECT m.uuid
            FROM matching AS m
            JOIN artifact AS o ON o.job_uuid = m.uuid
            WHERE m.fingerprint = l.fingerprint AND o.path_sha256 = a.path_sha256 AND o.sha256 <> a.sha256
            ORDER BY m.started_at DESC, m.uuid DESC
            LIMIT 1
        ) IS NOT NULL
    ORDER BY l.started_at DESC, l.fingerprint ASC, a.path ASC
\if :{?limit}
    LIMIT :limit
\endif
)

SELECT
    c.fingerprint,
    p.name AS package,
    p.version,
    c.path,
    t.contents,
    t.jobs
FROM chosen AS c
JOIN package AS p ON p.id = c.package_id
CROSS JOIN LATERAL (
    SELECT
        count(DISTINCT a.sha256) AS contents,
        json_agg(
            json_build_object('job', m.uuid, 'sha256', encode(a.sha256, 'hex'))
            ORDER BY m.started_at, m.uuid
        ) AS jobs
    FROM matching AS m
    JOIN artifact AS a ON a.job_uuid = m.uuid
    WHERE m.fingerprint = c.fingerprint AND a.path_sha256 = c.path_sha256 AND a.sha256 IS NOT NULL
) AS t
ORDER BY c.started_at DESC, c.fingerprint ASC, c.path ASC;
