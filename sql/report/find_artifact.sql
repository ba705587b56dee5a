-- Which files can stand for this package's build, released ones first, then newest first?
--
-- Only what successful jobs made. This is looser than artifact/reusable, which asks for an equal build:
-- like butido, it ignores inputs, and whatever no filter is given for.
--
-- package: name of the package
-- version: only this version
-- image, -I: only from jobs in this image
-- image_sha256: only from jobs whose image's name meant this digest
-- allow_image: only from jobs in one of these images
-- deny_image: not from jobs in one of these images
-- script: only from jobs that ran exactly this script
-- env, -E: only from jobs whose whole environment is exactly these NAME=VALUE; a single empty one for
--          the empty environment
-- limit: at most this many

-- There are two ways. If the package has fewer builds than there are releases, of any package, then by
-- build: read the files of all its builds and sort them. If it has more, that took up to 10 s at ten
-- million jobs, so by release: start at all that is released, and add a page of the newest other files of
-- each version: 15 ms.
WITH of_name AS (
    SELECT
        p.id,
        p.version
    FROM package AS p
    WHERE
        p.name = :'package'::text
\if :{?version}
        AND p.version = :'version'::text
\endif
),

-- Every filter but package and version.
fitting AS NOT MATERIALIZED (
    SELECT
        j.uuid,
        j.package_id,
        j.started_at
    FROM job AS j
    WHERE
        j.state = 'success'
\if :{?image}
        AND j.image_id = (SELECT i.id FROM image AS i WHERE i.name = :'image'::text)
\endif
\if :{?image_sha256}
        AND j.image_sha256 = :'image_sha256'::bytea
\endif
\if :{?allow_image}
        AND j.image_id IN (SELECT i.id FROM image AS i WHERE i.name = ANY(:'allow_image'::text[]))
\endif
\if :{?deny_image}
        AND j.image_id IN (SELECT i.id FROM image AS i WHERE i.name <> ALL(:'deny_image'::text[]))
\endif
\if :{?script}
        AND j.script = :'script'::text
\endif
\if :{?env}
        AND j.environment_id = (
            SELECT n.id
            FROM environment AS n
            WHERE n.sha256 = environment_sha256((
                SELECT
                    coalesce(
                        jsonb_object_agg(envvar_name(w.entry), envvar_value(w.entry)), '{}'
                    )
                FROM unnest(:'env'::text[]) AS w (entry)
                WHERE w.entry <> ''
            ))
        )
\endif
),

made AS NOT MATERIALIZED (
    SELECT
        a.uuid,
        a.path,
        a.job_uuid,
        t.package_id,
        t.started_at,
        EXISTS(SELECT 1 FROM release_current AS c WHERE c.artifact_uuid = a.uuid) AS is_released
    FROM fitting AS t
    JOIN artifact AS a ON a.job_uuid = t.uuid
),

builds AS (
    SELECT count(*) AS number
    FROM of_name AS p
    CROSS JOIN LATERAL (
        -- Read from the index alone, which has no uuid: 6 ms, with it 13.
        SELECT j.started_at
        FROM job AS j
        WHERE j.package_id = p.id
        ORDER BY j.started_at
        LIMIT 20000
    ) AS t
),

way AS (
    SELECT
        -- The count of builds ends at 20,000: too many to read, however many releases there are.
        b.number < 20000
        AND b.number <= (
            SELECT count(*)
            FROM (
                SELECT r.uuid
                FROM release AS r
                ORDER BY r.uuid
                LIMIT (SELECT builds.number FROM builds)
            ) AS t
        ) AS by_build
    FROM builds AS b
),

found AS (
    SELECT
        m.uuid,
        m.path,
        m.job_uuid,
        m.started_at,
        m.is_released
    FROM of_name AS p
    JOIN made AS m ON m.package_id = p.id
    WHERE (SELECT way.by_build FROM way)
    UNION ALL
    SELECT
        r.uuid,
        r.path,
        r.job_uuid,
        j.started_at,
        TRUE AS is_released
    FROM (
        SELECT DISTINCT
            c.artifact_uuid AS uuid,
            c.path,
            c.job_uuid
        FROM release_current AS c
        WHERE NOT (SELECT way.by_build FROM way)
    ) AS r
    -- LIMIT 1 of a key changes no row; without it the planner begins at all builds of the package: 11 ms,
    -- so: 7.
    CROSS JOIN LATERAL (
        SELECT
            t.package_id,
            t.started_at
        FROM fitting AS t
        WHERE t.uuid = r.job_uuid
        ORDER BY t.uuid
        LIMIT 1
    ) AS j
    JOIN of_name AS p ON p.id = j.package_id
    UNION ALL
    SELECT
        o.uuid,
        o.path,
        o.job_uuid,
        o.started_at,
        FALSE AS is_released
    FROM of_name AS p
    CROSS JOIN LATERAL (
        SELECT
            m.uuid,
            m.path,
            m.job_uuid,
            m.started_at
        FROM made AS m
        WHERE m.package_id = p.id AND NOT m.is_released
        ORDER BY m.started_at DESC, m.job_uuid DESC, m.path ASC, m.uuid ASC
\if :{?limit}
        LIMIT :limit
\endif
    ) AS o
    WHERE NOT (SELECT way.by_build FROM way)
),

chosen AS (
    SELECT
        f.uuid,
        f.is_released
    FROM found AS f
\if :{?limit}
    ORDER BY f.is_released DESC, f.started_at DESC, f.job_uuid DESC, f.path ASC, f.uuid ASC
    LIMIT :limit
\endif
)

SELECT
    a.uuid,
    a.path,
    a.sha256,
    a.size,
    a.job_uuid,
    p.version,
    i.name AS image,
    j.image_sha256,
    j.finished_at,
    ARRAY(
        SELECT DISTINCT r.store
        FROM release_current AS r
        WHERE r.artifact_uuid = a.uuid
        ORDER BY r.store
    ) AS released
FROM chosen AS c
JOIN artifact AS a ON a.uuid = c.uuid
JOIN job AS j ON j.uuid = a.job_uuid
JOIN package AS p ON p.id = j.package_id
JOIN image AS i ON i.id = j.image_id
ORDER BY c.is_released DESC, j.started_at DESC, a.job_uuid DESC, a.path ASC, a.uuid ASC;
