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

-- The newest are picked first, for each version of a package and for each environment that has the
-- variable, by the index that ends in their order; names are joined to the few that are left.
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
FROM
\if :{?package}
    package AS wanted CROSS JOIN LATERAL
\endif
\if :{?env}
    (
        SELECT ee.environment_id
        FROM envvar AS v
        JOIN environment_envvar AS ee ON ee.env_id = v.id
        WHERE
            v.name = split_part(:'env'::text, '=', 1)
            AND v.value_sha256 = text_sha256(substr(:'env'::text, strpos(:'env'::text, '=') + 1))
    ) AS having_env CROSS JOIN LATERAL
\endif
    (
        SELECT
            n.uuid,
            n.submit_uuid,
            n.package_id,
            n.image_id,
            n.endpoint_id,
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
            AND n.package_id = wanted.id
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
            AND n.environment_id = having_env.environment_id
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
        ORDER BY n.started_at DESC, n.uuid DESC
\if :{?limit}
        LIMIT :'limit'::bigint
\endif
    ) AS j
JOIN package AS p ON p.id = j.package_id
JOIN image AS i ON i.id = j.image_id
JOIN endpoint AS e ON e.id = j.endpoint_id
\if :{?package}
WHERE wanted.name = :'package'::text
\endif
ORDER BY j.started_at DESC, j.uuid DESC
\if :{?limit}
LIMIT :'limit'::bigint
\endif
;
