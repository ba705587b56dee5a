-- How often was a job reused instead of run, and how many seconds did that save?
--
-- A row for each package that was reused or built in the window. A hit is a job that a submit reused, at the
-- time when it chose it; a miss is a job that was started, at its start, however it ends. A hit saves the
-- seconds that the reused job took, none if that job ends before it starts, by a clock that was set back.
-- Without newer_than, the window begins where the 10,000th newest job that the other filters leave started.
--
-- package, -p: only the package of this name
-- per {day|week}: a row for each day, or week from Monday, in UTC, newest first; else one for all time
-- newer_than: only hits and misses at or after this time
-- older_than: only hits and misses before this time
-- limit: at most this many

WITH bound AS (
    SELECT
        coalesce(
\if :{?newer_than}
            :'newer_than'::timestamptz,
\endif
            (
                SELECT min(l.started_at)
                FROM (
                    SELECT n.started_at
                    FROM
\if :{?package}
                        (SELECT p.id FROM package AS p WHERE p.name = :'package'::text) AS p
                        CROSS JOIN LATERAL
\endif
                        (
                            SELECT j.started_at
                            FROM job AS j
                            WHERE
                                TRUE
\if :{?package}
                                AND j.package_id = p.id
\endif
\if :{?older_than}
                                AND j.started_at < :'older_than'::timestamptz
\endif
                            ORDER BY j.started_at DESC
                            LIMIT 10000
                        ) AS n
                    ORDER BY n.started_at DESC
                    LIMIT 10000
                ) AS l
            ),
            '-infinity'
        ) AS since
),

counted AS (
    SELECT
        j.package_id,
        coalesce(
\if :{?per}
            date_trunc(:'per', u.timestamp, 'UTC'),
\endif
            NULL::timestamptz
        ) AS period,
        count(*) AS hits,
        0 AS misses,
        sum(greatest(date_part('epoch', j.finished_at - j.started_at), 0)) AS seconds_saved
    FROM reuse AS u
    JOIN job AS j ON j.uuid = u.job_uuid
    WHERE
        u.timestamp >= (SELECT b.since FROM bound AS b)
        -- Below newer_than is said again, since the planner does not know what a subquery gives.
\if :{?package}
        AND u.package_id = ANY(ARRAY(SELECT p.id FROM package AS p WHERE p.name = :'package'::text))
\endif
\if :{?newer_than}
        AND u.timestamp >= :'newer_than'::timestamptz
\endif
\if :{?older_than}
        AND u.timestamp < :'older_than'::timestamptz
\endif
    GROUP BY j.package_id, period
    UNION ALL
    SELECT
        j.package_id,
        coalesce(
\if :{?per}
            date_trunc(:'per', j.started_at, 'UTC'),
\endif
            NULL::timestamptz
        ) AS period,
        0 AS hits,
        count(*) AS misses,
        0 AS seconds_saved
    FROM job AS j
    WHERE
        j.started_at >= (SELECT b.since FROM bound AS b)
\if :{?package}
        AND j.package_id = ANY(ARRAY(SELECT p.id FROM package AS p WHERE p.name = :'package'::text))
\endif
\if :{?newer_than}
        AND j.started_at >= :'newer_than'::timestamptz
\endif
\if :{?older_than}
        AND j.started_at < :'older_than'::timestamptz
\endif
    GROUP BY j.package_id, period
)

SELECT
    p.name AS package,
    c.period,
    sum(c.hits)::bigint AS hits,
    sum(c.misses)::bigint AS misses,
    (sum(c.hits) / sum(c.hits + c.misses))::double precision AS hit_rate,
    sum(c.seconds_saved) AS seconds_saved
FROM counted AS c
JOIN package AS p ON p.id = c.package_id
GROUP BY c.period, p.name
ORDER BY c.period DESC, seconds_saved DESC, p.name ASC
\if :{?limit}
LIMIT :limit
\endif
;
