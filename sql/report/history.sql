-- When did this package last build in each image, which job broke it, and what changed in between?
--
-- A row for each image: the newest success, the first failure after it, how many jobs failed since, the
-- commits of the submits between the two, the digests that the image's name meant, and the inputs that
-- differ. Without a failure since, the columns of the bad job are NULL; where it failed each time, those of
-- the good one. An image in which it neither succeeded nor failed has no row.
--
-- package: name of the package
-- image, -I: only jobs in this image
-- endpoint, -e: only jobs on this endpoint

WITH matching AS NOT MATERIALIZED (
    SELECT
        j.uuid,
        j.package_id,
        j.image_id,
        j.state,
        j.started_at
    FROM job AS j
    WHERE
        TRUE
\if :{?endpoint}
        AND j.endpoint_id = (SELECT e.id FROM endpoint AS e WHERE e.name = :'endpoint'::text)
\endif
),

-- The newest success of each version first, which its index gives, then the newest of all.
good AS (
    SELECT
        i.id AS image_id,
        i.name AS image,
        g.uuid,
        g.started_at
    FROM image AS i
    LEFT JOIN LATERAL (
        SELECT
            m.uuid,
            m.started_at
        FROM package AS p
        CROSS JOIN LATERAL (
            SELECT
                m.uuid,
                m.started_at
            FROM matching AS m
            WHERE m.package_id = p.id AND m.image_id = i.id AND m.state = 'success'
            ORDER BY m.started_at DESC, m.uuid DESC
            LIMIT 1
        ) AS m
        WHERE p.name = :'package'::text
        ORDER BY m.started_at DESC, m.uuid DESC
        LIMIT 1
    ) AS g ON TRUE
\if :{?image}
    WHERE i.name = :'image'::text
\endif
),

fared AS (
    SELECT
        g.image,
        g.uuid AS good_uuid,
        b.uuids[1] AS bad_uuid,
        coalesce(cardinality(b.uuids), 0) AS failed
    FROM good AS g
    CROSS JOIN LATERAL (
        SELECT array_agg(m.uuid ORDER BY m.started_at, m.uuid) AS uuids
        FROM package AS p
        JOIN matching AS m ON m.package_id = p.id
        WHERE
            p.name = :'package'::text
            AND m.image_id = g.image_id
            AND m.state = 'error'
            AND m.started_at >= coalesce(g.started_at, '-infinity')
            AND (g.uuid IS NULL OR (m.started_at, m.uuid) > (g.started_at, g.uuid))
    ) AS b
    WHERE g.uuid IS NOT NULL OR b.uuids IS NOT NULL
),

told AS NOT MATERIALIZED (
    SELECT
        j.uuid,
        p.version,
        j.finished_at,
        j.image_sha256,
        s.timestamp,
        h.hash AS repo_hash
    FROM job AS j
    JOIN package AS p ON p.id = j.package_id
    JOIN submit AS s ON s.uuid = j.submit_uuid
    JOIN git_hash AS h ON h.id = s.repo_hash_id
)

SELECT
    f.image,
    f.failed,
    f.good_uuid AS good_job,
    g.version AS good_version,
    g.finished_at AS good_at,
    g.repo_hash AS good_commit,
    g.image_sha256 AS good_image_sha256,
    f.bad_uuid AS bad_job,
    b.version AS bad_version,
    b.finished_at AS bad_at,
    b.repo_hash AS bad_commit,
    b.image_sha256 AS bad_image_sha256,
    c.commits,
    i.inputs
FROM fared AS f
LEFT JOIN told AS g ON g.uuid = f.good_uuid
LEFT JOIN told AS b ON b.uuid = f.bad_uuid
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
            -- As in report/explain_miss: equal files are left out. An unknown content equals itself alone.
            SELECT
                a.path,
                coalesce(encode(a.sha256, 'hex'), 'unknown') AS sha256,
                bool_and(ji.job_uuid <> f.bad_uuid) AS is_old,
                max(a.job_uuid::text) AS job_uuid,
                row_number() OVER (
                    PARTITION BY a.path, bool_and(ji.job_uuid <> f.bad_uuid)
                    ORDER BY a.sha256, CASE WHEN a.sha256 IS NULL THEN a.uuid END
                ) AS place
            FROM job_input_artifacts AS ji
            JOIN artifact AS a ON a.uuid = ji.artifact_uuid
            WHERE ji.job_uuid IN (f.good_uuid, f.bad_uuid) AND f.bad_uuid IS NOT NULL
            GROUP BY a.path, a.sha256, CASE WHEN a.sha256 IS NULL THEN a.uuid END
            HAVING bool_and(ji.job_uuid <> f.bad_uuid) = bool_or(ji.job_uuid <> f.bad_uuid)
        ) AS t
        GROUP BY t.path, t.place
    ) AS d
) AS i
ORDER BY f.image;
