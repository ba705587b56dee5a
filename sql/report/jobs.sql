-- Which jobs were run, newest first?
--
-- of_submit, -S: only those of this submit
-- package, -p: only those that build the package of this name
-- version: only those that build this version
-- image, -I: only those in this image
-- endpoint, -e: only those on this endpoint
-- state {running|success|error|lost}: only those in this state
-- env, -E: only those with this variable, NAME=VALUE, in their environment
-- newer_than: only those started at or after this time
-- older_than: only those started before this time
-- before: go on after this job, the last row of the page before
-- limit: at most this many

-- The newest are picked first, by an index that ends in their order; names are joined to the few that
-- are left. `matching` says all that is asked of them. What comes before it in FROM only chooses the
-- index: that of each version of a package, or that of each environment with the variable. Of
-- these, a page of so many jobs is in as many at most: those whose newest jobs are the newest.
WITH matching AS NOT MATERIALIZED (
    SELECT
        n.uuid,
        n.submit_uuid,
        n.package_id,
        n.image_id,
        n.endpoint_id,
        n.environment_id,
        n.state,
        n.started_at,
        n.finished_at,
        n.heartbeat_at,
        n.container_hash,
        n.fingerprint
    FROM job AS n
    WHERE
        TRUE
\if :{?of_submit}
        AND n.submit_uuid = :'of_submit'::uuid
\endif
\if :{?package}
        AND (
            SELECT v.id
            FROM package AS v
            WHERE v.id = n.package_id AND v.name = :'package'::text
        ) IS NOT NULL
\endif
\if :{?version}
        AND n.package_id IN (SELECT v.id FROM package AS v WHERE v.version = :'version'::text)
\endif
\if :{?image}
        AND n.image_id = (SELECT m.id FROM image AS m WHERE m.name = :'image'::text)
\endif
\if :{?endpoint}
        AND n.endpoint_id = (SELECT b.id FROM endpoint AS b WHERE b.name = :'endpoint'::text)
\endif
\if :{?state}
        AND n.state = :'state'::text
\endif
\if :{?env}
        AND (
            SELECT ee.env_id
            FROM environment_envvar AS ee
            WHERE
                ee.environment_id = n.environment_id
                AND ee.env_id = (
                    SELECT v.id
                    FROM envvar AS v
                    WHERE
                        v.name = split_part(:'env'::text, '=', 1)
                        AND v.value_sha256 = text_sha256(substr(:'env'::text, strpos(:'env'::text, '=') + 1))
                )
        ) IS NOT NULL
\endif
\if :{?newer_than}
        AND n.started_at >= :'newer_than'::timestamptz
\endif
\if :{?older_than}
        AND n.started_at < :'older_than'::timestamptz
\endif
\if :{?before}
        AND (n.started_at, n.uuid) < (
            (SELECT b.started_at FROM job AS b WHERE b.uuid = :'before'::uuid), :'before'::uuid
        )
\endif
)

SELECT
    j.uuid,
    j.submit_uuid,
    p.name AS package,
    p.version,
    i.name AS image,
    e.name AS endpoint,
    j.state,
    j.started_at,
    j.finished_at,
    j.heartbeat_at,
    j.container_hash,
    j.fingerprint
FROM (
    SELECT
        j.uuid,
        j.submit_uuid,
        j.package_id,
        j.image_id,
        j.endpoint_id,
        j.state,
        j.started_at,
        j.finished_at,
        j.heartbeat_at,
        j.container_hash,
        j.fingerprint
    FROM
\if :{?package}
        (
            SELECT v.id
            FROM package AS v
            WHERE v.name = :'package'::text
        ) AS of_name
    CROSS JOIN LATERAL
\endif
        (
            SELECT
\if :{?env}
                ee.environment_id,
\endif
                1 AS one
\if :{?env}
            FROM envvar AS v
            JOIN environment_envvar AS ee ON ee.env_id = v.id
            CROSS JOIN LATERAL (
                SELECT
                    m.started_at,
                    m.uuid
                FROM matching AS m
                WHERE m.environment_id = ee.environment_id
                ORDER BY m.started_at DESC, m.uuid DESC
                LIMIT 1
            ) AS newest
            WHERE
                v.name = split_part(:'env'::text, '=', 1)
                AND v.value_sha256 = text_sha256(substr(:'env'::text, strpos(:'env'::text, '=') + 1))
            ORDER BY newest.started_at DESC, newest.uuid DESC
\endif
\if :{?limit}
            LIMIT :'limit'::bigint
\endif
        ) AS of_environment
    CROSS JOIN LATERAL
        (
            SELECT
                m.uuid,
                m.submit_uuid,
                m.package_id,
                m.image_id,
                m.endpoint_id,
                m.state,
                m.started_at,
                m.finished_at,
                m.heartbeat_at,
                m.container_hash,
                m.fingerprint
            FROM matching AS m
            WHERE
                TRUE
\if :{?package}
                AND m.package_id = of_name.id
\endif
\if :{?env}
                AND m.environment_id = of_environment.environment_id
\endif
            ORDER BY m.started_at DESC, m.uuid DESC
\if :{?limit}
            LIMIT :'limit'::bigint
\endif
        ) AS j
    ORDER BY j.started_at DESC, j.uuid DESC
\if :{?limit}
    LIMIT :'limit'::bigint
\endif
) AS j
JOIN package AS p ON p.id = j.package_id
JOIN image AS i ON i.id = j.image_id
JOIN endpoint AS e ON e.id = j.endpoint_id
ORDER BY j.started_at DESC, j.uuid DESC;
