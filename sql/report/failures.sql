-- Which failures are there, each in how many jobs, and since which commit?
--
-- Jobs whose last error lines are the same, but for numbers, addresses and temporary paths, count as one
-- failure. The most frequent come first.
--
-- package, -p: only jobs of the package of this name
-- failure, -f: only this failure, by its SHA-256
-- newer_than: only jobs started at or after this time
-- older_than: only jobs started before this time
-- limit: at most this many

SELECT
    text_sha256(f.failure) AS failure_sha256,
    f.jobs,
    f.packages,
    f.first_at,
    g.hash AS first_commit,
    f.first_job,
    f.last_at,
    f.last_job,
    lj.reason,
    f.failure AS lines
FROM (
    SELECT
        j.failure,
        count(*) AS jobs,
        array_agg(DISTINCT p.name ORDER BY p.name) AS packages,
        min(j.started_at) AS first_at,
        (array_agg(j.uuid ORDER BY j.started_at, j.uuid))[1] AS first_job,
        max(j.started_at) AS last_at,
        (array_agg(j.uuid ORDER BY j.started_at DESC, j.uuid DESC))[1] AS last_job
    FROM job AS j
    JOIN package AS p ON p.id = j.package_id
    WHERE
        j.state = 'error'
        AND j.failure IS NOT NULL
\if :{?package}
        AND p.name = :'package'::text
\endif
\if :{?failure}
        AND text_sha256(j.failure) = :'failure'::bytea
\endif
\if :{?newer_than}
        AND j.started_at >= :'newer_than'::timestamptz
\endif
\if :{?older_than}
        AND j.started_at < :'older_than'::timestamptz
\endif
    GROUP BY j.failure
    ORDER BY jobs DESC, last_at DESC, j.failure DESC
\if :{?limit}
    LIMIT :limit
\endif
) AS f
JOIN job AS fj ON fj.uuid = f.first_job
JOIN job AS lj ON lj.uuid = f.last_job
JOIN submit AS s ON s.uuid = fj.submit_uuid
JOIN git_hash AS g ON g.id = s.repo_hash_id
ORDER BY f.jobs DESC, f.last_at DESC, f.failure DESC;
