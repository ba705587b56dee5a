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

-- The newest are picked first, by an index that ends in their order; then names are looked up for the
-- few that are left. LIMIT 1, of a key, changes no row there: it keeps the planner from joining a
-- page with all packages. `matching` says all that is asked of a job but the variable. With that and
-- a limit the newest thousand (or limit, if that is more) are looked at first. Where too few of them
-- have it and there are more, each environment with it is asked for its newest job: a page of so
-- many jobs is in as many environments at most, those whose newest jobs are the newest.
WITH
\if :{?env}
variable AS (
    SELECT v.id
    FROM envvar AS v
    WHERE
        v.name = split_part(:'env'::text, '=', 1)
        AND v.value_sha256 = text_sha256(substr(:'env'::text, strpos(:'env'::text, '=') + 1))
),
\endif

matching AS NOT MATERIALIZED (
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
        AND n.state = :'state'
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
),

page AS (
    SELECT
        j.uuid,
        j.submit_uuid,
        j.package_id,
        j.image_id,
        j.endpoint_id,
        j.environment_id,
        j.state,
        j.started_at,
        j.finished_at,
        j.heartbeat_at,
        j.container_hash,
        j.fingerprint,
        TRUE
\if :{?env}
        AND (
            SELECT ee.envvar_id
            FROM environment_envvar AS ee
            WHERE ee.environment_id = j.environment_id AND ee.envvar_id = (SELECT v.id FROM variable AS v)
        ) IS NOT NULL
\endif
        AS has_variable
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
                m.uuid,
                m.submit_uuid,
                m.package_id,
                m.image_id,
                m.endpoint_id,
                m.environment_id,
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
            ORDER BY m.started_at DESC, m.uuid DESC
\if :{?limit}
            LIMIT greatest(
\if :{?env}
                1000,
\endif
                :limit
            )
\endif
        ) AS j
    ORDER BY j.started_at DESC, j.uuid DESC
\if :{?limit}
    LIMIT greatest(
\if :{?env}
        1000,
\endif
        :limit
    )
\endif
),

-- Whether `page` is all that is needed: it has enough jobs with the variable, or there are no more.
enough AS (
    SELECT
        TRUE
\if :{?env}
        AND (
            FALSE
\if :{?limit}
            OR (
                SELECT
                    count(*) FILTER (WHERE g.has_variable) >= :limit
                    OR count(*) < greatest(1000, :limit)
                FROM page AS g
            )
\endif
        )
\endif
        AS is_so
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
        g.uuid,
        g.submit_uuid,
        g.package_id,
        g.image_id,
        g.endpoint_id,
        g.state,
        g.started_at,
        g.finished_at,
        g.heartbeat_at,
        g.container_hash,
        g.fingerprint
    FROM page AS g
    WHERE g.has_variable AND (SELECT e.is_so FROM enough AS e)
\if :{?env}
    UNION ALL
    SELECT
        o.uuid,
        o.submit_uuid,
        o.package_id,
        o.image_id,
        o.endpoint_id,
        o.state,
        o.started_at,
        o.finished_at,
        o.heartbeat_at,
        o.container_hash,
        o.fingerprint
    FROM (
        SELECT ee.environment_id
        FROM environment_envvar AS ee
        CROSS JOIN LATERAL (
            SELECT
                m.started_at,
                m.uuid
            FROM matching AS m
            WHERE m.environment_id = ee.environment_id
            ORDER BY m.started_at DESC, m.uuid DESC
            LIMIT 1
        ) AS latest
        WHERE ee.envvar_id = (SELECT v.id FROM variable AS v) AND NOT (SELECT e.is_so FROM enough AS e)
        ORDER BY latest.started_at DESC, latest.uuid DESC
\if :{?limit}
        LIMIT :limit
\endif
    ) AS of_environment
    CROSS JOIN LATERAL (
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
        WHERE m.environment_id = of_environment.environment_id
        ORDER BY m.started_at DESC, m.uuid DESC
\if :{?limit}
        LIMIT :limit
\endif
    ) AS o
\endif
    ORDER BY started_at DESC, uuid DESC
\if :{?limit}
    LIMIT :limit
\endif
) AS j
CROSS JOIN LATERAL (
    SELECT
        v.name,
        v.version
    FROM package AS v
    WHERE v.id = j.package_id
\if :{?limit}
    ORDER BY v.id
    LIMIT 1
\endif
) AS p
CROSS JOIN LATERAL (
    SELECT v.name
    FROM image AS v
    WHERE v.id = j.image_id
\if :{?limit}
    ORDER BY v.id
    LIMIT 1
\endif
) AS i
CROSS JOIN LATERAL (
    SELECT v.name
    FROM endpoint AS v
    WHERE v.id = j.endpoint_id
\if :{?limit}
    ORDER BY v.id
    LIMIT 1
\endif
) AS e
ORDER BY j.started_at DESC, j.uuid DESC;
