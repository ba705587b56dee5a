-- Which jobs were run, newest first?
--
-- submit: only those of this submit
-- package: only those that build the package of this name
-- version: only those that build this version
-- image: only those in this image
-- endpoint: only those on this endpoint
-- state: only those that are running, success, error or lost
-- env_name: with env_value, only those with this variable in their environment
-- newer_than: only those started at or after this time
-- older_than: only those started before this time
-- before_started_at: with before_job, go on after this last row of the page before
-- limit: at most this many

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
FROM job AS j
JOIN package AS p ON p.id = j.package_id
JOIN image AS i ON i.id = j.image_id
JOIN endpoint AS e ON e.id = j.endpoint_id
WHERE
    TRUE
\if :{?submit}
    AND j.submit_uuid = :'submit'::uuid
\endif
\if :{?package}
    AND p.name = :'package'::text
\endif
\if :{?version}
    AND p.version = :'version'::text
\endif
\if :{?image}
    AND j.image_id = (SELECT wanted.id FROM image AS wanted WHERE wanted.name = :'image'::text)
\endif
\if :{?endpoint}
    AND j.endpoint_id = (SELECT wanted.id FROM endpoint AS wanted WHERE wanted.name = :'endpoint'::text)
\endif
\if :{?state}
    AND j.state = :'state'::text
\endif
\if :{?env_name}
    AND EXISTS (
        SELECT
        FROM jobenvs AS je
        JOIN envvar AS v ON v.id = je.env_id
        WHERE
            je.job_uuid = j.uuid
            AND v.name = :'env_name'::text
            AND v.value_sha256 = text_sha256(:'env_value'::text)
    )
\endif
\if :{?newer_than}
    AND j.started_at >= :'newer_than'::timestamptz
\endif
\if :{?older_than}
    AND j.started_at < :'older_than'::timestamptz
\endif
\if :{?before_started_at}
    AND (j.started_at, j.uuid) < (:'before_started_at'::timestamptz, :'before_job'::uuid)
\endif
ORDER BY j.started_at DESC, j.uuid DESC
\if :{?limit}
LIMIT :'limit'::bigint
\endif
;
