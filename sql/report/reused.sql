-- Which jobs were reused, those whose reuse saved most first?
--
-- Each submit that reused a job saved the seconds that the job had taken; none if the job ends before it
-- starts, by a clock that was set back. Without newer_than, it is about the newest 10,000 reuses that the
-- other filters leave, or of a package about the newest 5,000.
--
-- package, -p: only jobs that built the package of this name
-- newer_than: only what submits chose at or after this time
-- older_than: only what submits chose before this time
-- limit: at most this many

WITH matching AS NOT MATERIALIZED (
    SELECT
        u.submit_uuid,
        u.job_uuid,
        u.package_id,
        u.timestamp
    FROM reuse AS u
    WHERE
        TRUE
\if :{?newer_than}
        AND u.timestamp >= :'newer_than'::timestamptz
\endif
\if :{?older_than}
        AND u.timestamp < :'older_than'::timestamptz
\endif
),

\if :{?package}
-- Time of the 5,000th newest of all its versions, from the index alone: else as many of each are read.
bound AS (
    SELECT min(l.timestamp) AS since
    FROM (
        SELECT n.timestamp
        FROM package AS p
        CROSS JOIN LATERAL (
            SELECT m.timestamp
            FROM matching AS m
            WHERE
                m.package_id = p.id
\if :{?newer_than}
                -- No count bounds the window then.
                AND FALSE
\endif
            ORDER BY m.timestamp DESC
            LIMIT 5000
        ) AS n
        WHERE p.name = :'package'::text
        ORDER BY n.timestamp DESC
        LIMIT 5000
    ) AS l
),
\endif

used AS (
    SELECT
        j.uuid,
        count(*) AS reuses,
        count(*) * greatest(date_part('epoch', j.finished_at - j.started_at), 0) AS seconds_saved,
        max(l.timestamp) AS last_reused_at
    FROM (
        SELECT
            m.job_uuid,
            m.timestamp
        FROM
\if :{?package}
            (SELECT p.id FROM package AS p WHERE p.name = :'package'::text) AS p CROSS JOIN LATERAL
\endif
            (
                SELECT
                    m.submit_uuid,
                    m.job_uuid,
                    m.timestamp
                FROM matching AS m
\if :{?package}
                WHERE
                    m.package_id = p.id
                    AND m.timestamp >= (SELECT coalesce(b.since, '-infinity') FROM bound AS b)
\endif
                ORDER BY m.timestamp DESC, m.job_uuid DESC, m.submit_uuid DESC
                LIMIT greatest(
\if :{?newer_than}
                    -- All since then.
                    9223372036854775807,
\endif
                    least(
\if :{?package}
                        5000,
\endif
                        10000
                    )
                )
            ) AS m
        ORDER BY m.timestamp DESC, m.job_uuid DESC, m.submit_uuid DESC
        LIMIT greatest(
\if :{?newer_than}
            -- All since then.
            9223372036854775807,
\endif
            least(
\if :{?package}
                5000,
\endif
                10000
            )
        )
    ) AS l
    JOIN job AS j ON j.uuid = l.job_uuid
    GROUP BY j.uuid
    ORDER BY seconds_saved DESC, j.uuid ASC
\if :{?limit}
    LIMIT :limit
\endif
)

SELECT
    u.uuid AS job_uuid,
    p.name AS package,
    p.version,
    i.name AS image,
    u.reuses,
    u.seconds_saved,
    u.last_reused_at
FROM used AS u
JOIN job AS j ON j.uuid = u.uuid
JOIN package AS p ON p.id = j.package_id
JOIN image AS i ON i.id = j.image_id
ORDER BY u.seconds_saved DESC, u.uuid ASC;
