-- What was measured of the jobs of each package, and what is usual?
--
-- Half of the values are at most p50, 19 of 20 at most p95; last is that of the job that started last.
--
-- package, -p: only the package of this name
-- name: only the measurement of this name
-- image, -I: only jobs in this image
-- state {running|success|error|lost}: only jobs in this state; those that succeeded, if not given
-- newer_than: only jobs started at or after this time
-- older_than: only jobs started before this time
-- limit: at most this many

SELECT
    p.name AS package,
    m.name,
    count(*) AS jobs,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY m.value) AS p50,
    percentile_cont(0.95) WITHIN GROUP (ORDER BY m.value) AS p95,
    (array_agg(m.value ORDER BY j.started_at DESC, j.uuid DESC))[1] AS last
FROM job AS j
JOIN package AS p ON p.id = j.package_id
CROSS JOIN LATERAL (
    SELECT
        e.key COLLATE "C" AS name,
        e.value::double precision AS value
    FROM jsonb_each(j.measurements) AS e (key, value)
\if :{?name}
    WHERE e.key = :'name'::text
\endif
) AS m
WHERE
    j.measurements IS NOT NULL
    AND j.state = coalesce(
\if :{?state}
        :'state',
\endif
        'success'
    )
\if :{?package}
    AND j.package_id = ANY(ARRAY(SELECT k.id FROM package AS k WHERE k.name = :'package'::text))
\endif
\if :{?image}
    AND j.image_id = (SELECT i.id FROM image AS i WHERE i.name = :'image'::text)
\endif
\if :{?newer_than}
    AND j.started_at >= :'newer_than'::timestamptz
\endif
\if :{?older_than}
    AND j.started_at < :'older_than'::timestamptz
\endif
GROUP BY p.name, m.name
ORDER BY jobs DESC, p.name ASC, m.name ASC
\if :{?limit}
LIMIT :limit
\endif
;
