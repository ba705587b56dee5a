-- Which jobs were run, newest first?
--
-- of_submit, -S: only those of this submit, and those that it reused, which `reused` marks
-- package, -p: only those that build the package of this name
-- version: only those that build this version
-- image, -I: only those in this image
-- endpoint, -e: only those on this endpoint
-- state {running|success|error|lost}: only those in this state
-- reason: only those that ended for exactly this reason
-- env, -E: only those with this variable, NAME=VALUE, in their environment
-- newer_than: only those started at or after this time
-- older_than: only those started before this time
-- before: go on after this job, the last row of the page before
-- before_at: started_at of that row, with which it goes on also if the job was removed since
-- limit: at most this many

-- Choose the keys of the newest, from an index that ends in their order; then join all else of these few.
WITH
\if :{?env}
variable AS (
    SELECT v.id
    FROM envvar AS v
    WHERE
        v.name = envvar_name(:'env'::text)
        AND v.value_sha256 = envvar_sha256(envvar_value(:'env'::text))
),
\endif

-- The packages that are asked for. In a subquery, since the planner would plan anew for each version.
wanted AS NOT MATERIALIZED (
    SELECT p.id
    FROM package AS p
    WHERE
        TRUE
\if :{?package}
        AND p.name = :'package'::text
\endif
\if :{?version}
        AND p.version = (SELECT :'version'::text)
\endif
),

-- Every filter but of_submit, version and env; that of package serves jobs that are found by their
-- environment.
fitting AS NOT MATERIALIZED (
    SELECT
        j.uuid,
        j.submit_uuid,
        j.started_at,
        j.endpoint_id,
        j.package_id,
        j.environment_id
    FROM job AS j
    WHERE
        TRUE
\if :{?package}
        AND (SELECT p.name FROM package AS p WHERE p.id = j.package_id) = :'package'::text
\endif
\if :{?image}
        AND j.image_id = (SELECT i.id FROM image AS i WHERE i.name = :'image'::text)
\endif
\if :{?endpoint}
        AND j.endpoint_id = ANY(ARRAY(SELECT e.id FROM endpoint AS e WHERE e.name = :'endpoint'::text))
\endif
\if :{?state}
        AND j.state = :'state'
\endif
\if :{?reason}
        -- The index holds the beginning of a reason, which may be long.
        AND "left"(j.reason, 200) = "left"(:'reason'::text, 200) AND j.reason = :'reason'::text
\endif
\if :{?newer_than}
        AND j.started_at >= :'newer_than'::timestamptz
\endif
\if :{?older_than}
        AND j.started_at < :'older_than'::timestamptz
\endif
\if :{?before_at}
        -- In a subquery, since the planner would plan anew for each time.
        AND (j.started_at, j.uuid) < ((SELECT :'before_at'::timestamptz), :'before'::uuid)
\endif
\if :{?before}
        AND (j.started_at, j.uuid) < (
            (
                SELECT
                    coalesce(
\if :{?before_at}
                        -- Nothing is looked up.
                        'infinity',
\endif
                        (SELECT b.started_at FROM job AS b WHERE b.uuid = :'before'::uuid),
                        -- This is no time, but an error: an empty page would be taken for the end.
                        ('before: there is no job ' || :'before'::uuid)::timestamptz
                    )
            ), :'before'::uuid
        )
\endif
),

-- Those that were run, for this submit if it is given.
matching AS NOT MATERIALIZED (
    SELECT
        f.uuid,
        f.started_at,
        f.endpoint_id,
        f.package_id,
        f.environment_id
    FROM fitting AS f
\if :{?of_submit}
    WHERE f.submit_uuid = :'of_submit'::uuid
\endif
),

-- The newest of them: a page; with version or env a thousand, in which most pages are found.
newest AS NOT MATERIALIZED (
    SELECT
        m.uuid,
        m.started_at,
        TRUE
\if :{?version}
        AND m.package_id IN (SELECT w.id FROM wanted AS w)
\endif
\if :{?env}
        AND (
            SELECT ee.envvar_id
            FROM environment_envvar AS ee
            WHERE ee.environment_id = m.environment_id AND ee.envvar_id = (SELECT v.id FROM variable AS v)
        ) IS NOT NULL
\endif
        AS fits
    FROM
\if :{?package}
        wanted AS p CROSS JOIN LATERAL
\endif
        (
            SELECT
                n.uuid,
                n.started_at,
                n.package_id,
                n.environment_id
            FROM matching AS n
\if :{?package}
            WHERE n.package_id = p.id
\endif
\if :{?limit}
            ORDER BY
\if :{?endpoint}
                -- One value, which = ANY hides: else the planner walks all jobs by time, 150 ms, so: 0.2.
                n.endpoint_id DESC,
\endif
                n.started_at DESC, n.uuid DESC
            LIMIT greatest(
\if :{?version}
                1000
\if :{?package}
                -- Of a package only a page: all that are wanted have the version.
                * 0
\endif
                ,
\endif
\if :{?env}
                1000,
\endif
                :limit
            )
\endif
        ) AS m
\if :{?limit}
    ORDER BY m.started_at DESC, m.uuid DESC
    LIMIT greatest(
\if :{?version}
        1000,
\endif
\if :{?env}
        1000,
\endif
        :limit
    )
\endif
),

-- Those of them that fit, looked for only until they fill the page.
found AS (
    SELECT
        n.uuid,
        n.started_at
    FROM newest AS n
    WHERE n.fits
\if :{?limit}
    ORDER BY n.started_at DESC, n.uuid DESC
    LIMIT :limit
\endif
),

-- Whether they are the page: they fill it, or there are no more jobs.
page AS (
    SELECT
        FALSE
\if :{?limit}
        OR (SELECT count(*) FROM found) >= :limit
        OR (SELECT count(*) FROM newest) < greatest(1000, :limit)
\endif
        AS is_full
),

chosen AS (
    SELECT
        f.uuid,
        f.started_at,
        FALSE AS reused
    FROM found AS f
    WHERE
        TRUE
\if :{?version}
        AND (SELECT page.is_full FROM page)
\endif
\if :{?env}
        AND (SELECT page.is_full FROM page)
\endif
\if :{?env}
    UNION ALL
    -- If not, from the environments with the variable that were used last: a page of jobs is in no more
    -- of them. Without uuid the index alone tells when: 0.2 s for 17,000 environments, with it 0.5.
    SELECT
        m.uuid,
        m.started_at,
        FALSE AS reused
    FROM (
        SELECT ee.environment_id
        FROM environment_envvar AS ee
        CROSS JOIN LATERAL (
            SELECT n.started_at
            FROM matching AS n
            WHERE
                n.environment_id = ee.environment_id
\if :{?version}
                AND n.package_id = ANY(ARRAY(SELECT w.id FROM wanted AS w))
\endif
            ORDER BY n.started_at DESC
            LIMIT 1
        ) AS latest
        WHERE ee.envvar_id = (SELECT v.id FROM variable AS v) AND NOT (SELECT page.is_full FROM page)
        ORDER BY latest.started_at DESC
\if :{?limit}
        FETCH FIRST (:limit) ROWS WITH TIES
\endif
    ) AS last_used
    CROSS JOIN LATERAL (
        SELECT
            n.uuid,
            n.started_at
        FROM matching AS n
        WHERE
            n.environment_id = last_used.environment_id
\if :{?version}
            AND n.package_id = ANY(ARRAY(SELECT w.id FROM wanted AS w))
\endif
        ORDER BY n.started_at DESC, n.uuid DESC
\if :{?limit}
        LIMIT :limit
\endif
    ) AS m
\endif
\if :{?version}
    UNION ALL
    -- If not, from the packages of the version that were built last, in the same way.
    SELECT
        m.uuid,
        m.started_at,
        FALSE AS reused
    FROM (
        SELECT w.id
        FROM wanted AS w
        CROSS JOIN LATERAL (
            SELECT n.started_at
            FROM matching AS n
            WHERE n.package_id = w.id
            ORDER BY n.started_at DESC
            LIMIT 1
        ) AS latest
        WHERE
            NOT (SELECT page.is_full FROM page)
\if :{?env}
            -- Found by their environment.
            AND FALSE
\endif
        ORDER BY latest.started_at DESC
\if :{?limit}
        FETCH FIRST (:limit) ROWS WITH TIES
\endif
    ) AS last_built
    CROSS JOIN LATERAL (
        SELECT
            n.uuid,
            n.started_at
        FROM matching AS n
        WHERE n.package_id = last_built.id
        ORDER BY n.started_at DESC, n.uuid DESC
\if :{?limit}
        LIMIT :limit
\endif
    ) AS m
\endif
\if :{?of_submit}
    UNION ALL
    -- All that the submit reused, which is at most as much as its tree has packages.
    SELECT
        f.uuid,
        f.started_at,
        TRUE AS reused
    FROM reuse AS u
    JOIN fitting AS f ON f.uuid = u.job_uuid
    WHERE
        u.submit_uuid = :'of_submit'::uuid
\if :{?version}
        AND f.package_id = ANY(ARRAY(SELECT w.id FROM wanted AS w))
\endif
\if :{?env}
        AND EXISTS (
            SELECT 1
            FROM environment_envvar AS ee
            WHERE ee.environment_id = f.environment_id AND ee.envvar_id = (SELECT v.id FROM variable AS v)
        )
\endif
\endif
\if :{?limit}
    ORDER BY started_at DESC, uuid DESC
    LIMIT :limit
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
    j.reason,
    j.exit_code,
    j.measurements,
    j.heartbeat_at,
    j.image_sha256,
    j.container_hash,
    j.fingerprint,
    j.log_size,
    j.state <> 'running' AND j.log IS NULL AS log_removed,
    c.reused
FROM chosen AS c
JOIN job AS j ON j.uuid = c.uuid
JOIN package AS p ON p.id = j.package_id
JOIN image AS i ON i.id = j.image_id
JOIN endpoint AS e ON e.id = j.endpoint_id
ORDER BY j.started_at DESC, j.uuid DESC;
