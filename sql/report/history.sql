-- When did this package last build, which job broke it, and what changed in between?
--
-- One row: the newest success, the first failure after it, the commits of the submits between the two,
-- the digests that the image's name meant, and the inputs that differ. Without a failure since, the
-- columns of the bad job are NULL.
--
-- package: name of the package
-- image, -I: only jobs in this image
-- endpoint, -e: only jobs on this endpoint

WITH ended AS (
    SELECT
        j.uuid,
        j.state,
        j.started_at,
        j.finished_at,
        j.image_sha256,
        p.version,
        s.timestamp,
        g.hash AS repo_hash
    FROM package AS p
    JOIN job AS j ON j.package_id = p.id
    JOIN submit AS s ON s.uuid = j.submit_uuid
    JOIN git_hash AS g ON g.id = s.repo_hash_id
    WHERE
        p.name = :'package'::text
        AND j.state IN ('success', 'error')
\if :{?image}
        AND j.image_id = (SELECT i.id FROM image AS i WHERE i.name = :'image'::text)
\endif
\if :{?endpoint}
        AND j.endpoint_id = (SELECT e.id FROM endpoint AS e WHERE e.name = :'endpoint'::text)
\endif
),

good AS (
    SELECT
        e.uuid,
        e.started_at,
        e.finished_at,
        e.image_sha256,
        e.version,
        e.timestamp,
        e.repo_hash
    FROM ended AS e
    WHERE e.state = 'success'
    ORDER BY e.started_at DESC, e.uuid DESC
    LIMIT 1
),

bad AS (
    SELECT
        e.uuid,
        e.finished_at,
        e.image_sha256,
        e.version,
        e.timestamp,
        e.repo_hash
    FROM ended AS e
    LEFT JOIN good AS g ON TRUE
    WHERE e.state = 'error' AND (g.uuid IS NULL OR (e.started_at, e.uuid) > (g.started_at, g.uuid))
    ORDER BY e.started_at ASC, e.uuid ASC
    LIMIT 1
)

SELECT
    e.jobs,
    g.uuid AS good_job,
    g.version AS good_version,
    g.finished_at AS good_at,
    g.repo_hash AS good_commit,
    g.image_sha256 AS good_image_sha256,
    b.uuid AS bad_job,
    b.version AS bad_version,
    b.finished_at AS bad_at,
    b.repo_hash AS bad_commit,
    b.image_sha256 AS bad_image_sha256,
    c.commits,
    i.inputs
FROM (SELECT count(*) AS jobs FROM ended) AS e
LEFT JOIN good AS g ON TRUE
LEFT JOIN bad AS b ON TRUE
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(t.hash ORDER BY t.first_at, t.hash), '{}') AS commits
    FROM (
        SELECT
            h.hash,
            min(s.timestamp) AS first_at
        FROM submit AS s
        JOIN git_hash AS h ON h.id = s.repo_hash_id
        WHERE s.timestamp > g.timestamp AND s.timestamp <= b.timestamp AND h.hash <> g.repo_hash
        GROUP BY h.hash
    ) AS t
) AS c
CROSS JOIN LATERAL (
    SELECT
        coalesce(
            json_agg(
                json_strip_nulls(
                    json_build_object('path', d.path, 'old', d.old, 'new', d.new, 'job', d.job_uuid)
                ) ORDER BY d.path, d.place
            ), '[]'
        ) AS inputs
    FROM (
        SELECT
            t.path,
            t.place,
            max(t.sha256) FILTER (WHERE t.is_old) AS old,
            max(t.sha256) FILTER (WHERE NOT t.is_old) AS new,
            max(t.job_uuid) FILTER (WHERE NOT t.is_old) AS job_uuid
        FROM (
            -- As in report/explain_miss: equal files first. An unknown content equals itself alone.
            SELECT
                a.path,
                coalesce(encode(a.sha256, 'hex'), 'unknown') AS sha256,
                bool_and(ji.job_uuid <> b.uuid) AS is_old,
                max(a.job_uuid::text) AS job_uuid,
                row_number() OVER (
                    PARTITION BY a.path, bool_and(ji.job_uuid <> b.uuid)
                    ORDER BY a.sha256, CASE WHEN a.sha256 IS NULL THEN a.uuid END
                ) AS place
            FROM job_input_artifacts AS ji
            JOIN artifact AS a ON a.uuid = ji.artifact_uuid
            WHERE ji.job_uuid IN (g.uuid, b.uuid) AND b.uuid IS NOT NULL
            GROUP BY a.path, a.sha256, CASE WHEN a.sha256 IS NULL THEN a.uuid END
            HAVING bool_and(ji.job_uuid <> b.uuid) = bool_or(ji.job_uuid <> b.uuid)
        ) AS t
        GROUP BY t.path, t.place
    ) AS d
) AS i
WHERE e.jobs > 0
ORDER BY g.uuid;
