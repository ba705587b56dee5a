-- Record ended jobs at once, each with its script, log, environment, inputs and outputs.
--
-- All or none. The row says what happened: recorded (those that were not there are now);
-- repeated (all were there, the same); differs (a uuid is there with other content); no submit;
-- no input (an input is neither in the store nor an output of these jobs); incomplete (a shared
-- value is not in the store yet: intern it).
--
-- jobs: the jobs' uuids, beside submits to logs
-- submits: the submit that each is part of
-- states: success, error or lost
-- container_hashes: the container's id of each; NULL where it is not known
-- logs: the whole log of each, with what is no UTF-8 text escaped as \xHH
-- env_jobs: for each variable of an environment its job, beside env_names and env_values
-- input_jobs: for each input its job, beside input_artifacts
-- output_jobs: for each output its job, beside output_uuids to output_sizes
-- output_sha256s: the SHA-256 of each output's content
-- output_sizes: the size of each output in bytes

WITH given AS (
    SELECT
        t.uuid,
        t.submit_uuid,
        t.package,
        t.version,
        t.image,
        t.endpoint,
        t.state,
        t.started_at,
        t.finished_at,
        t.container_hash,
        t.script,
        t.log
    FROM unnest(
        :'jobs'::uuid[], :'submits'::uuid[], :'packages'::text[], :'versions'::text[],
        :'images'::text[], :'endpoints'::text[], :'states'::text[],
        :'started_ats'::timestamptz[], :'finished_ats'::timestamptz[],
        :'container_hashes'::text[], :'scripts'::text[], :'logs'::text[]
    ) AS t (
        uuid, submit_uuid, package, version, image, endpoint, state, started_at, finished_at, container_hash,
        script, log
    )
),

given_env AS (
    SELECT
        t.job_uuid,
        t.name,
        t.value,
        v.id
    FROM unnest(:'env_jobs'::uuid[], :'env_names'::text[], :'env_values'::text[]) AS t (job_uuid, name, value)
    LEFT JOIN envvar AS v ON v.name = t.name AND v.value_sha256 = text_sha256(t.value)
),

given_output AS (
    SELECT
        t.job_uuid,
        t.uuid,
        t.path,
        t.sha256,
        t.size
    FROM unnest(
        :'output_jobs'::uuid[], :'output_uuids'::uuid[], :'output_paths'::text[], :'output_sha256s'::bytea[],
        :'output_sizes'::bigint[]
    ) AS t (job_uuid, uuid, path, sha256, size)
),

given_input AS (
    SELECT
        t.job_uuid,
        t.artifact_uuid,
        coalesce(a.path, o.path) AS path,
        coalesce(a.sha256, o.sha256) AS sha256
    FROM unnest(:'input_jobs'::uuid[], :'input_artifacts'::uuid[]) AS t (job_uuid, artifact_uuid)
    LEFT JOIN artifact AS a ON a.uuid = t.artifact_uuid
    -- No job reads what it makes itself.
    LEFT JOIN given_output AS o ON o.uuid = t.artifact_uuid AND o.job_uuid <> t.job_uuid
),

env AS (
    SELECT
        g.job_uuid,
        array_agg(g.name) AS names,
        array_agg(g.value) AS values
    FROM given_env AS g
    GROUP BY g.job_uuid
),

input AS (
    SELECT
        g.job_uuid,
        array_agg(g.path) AS paths,
        array_agg(g.sha256) AS sha256s
    FROM given_input AS g
    GROUP BY g.job_uuid
),

fingerprinted AS (
    SELECT
        g.uuid,
        job_fingerprint(
            g.package, g.version, g.image, g.script, e.names, e.values, i.paths, i.sha256s
        ) AS fingerprint
    FROM given AS g
    LEFT JOIN env AS e ON e.job_uuid = g.uuid
    LEFT JOIN input AS i ON i.job_uuid = g.uuid
),

stored AS (
    SELECT
        j.uuid,
        j.submit_uuid = g.submit_uuid
        AND j.fingerprint = f.fingerprint
        AND e.name = g.endpoint
        AND j.state = g.state
        AND j.started_at = g.started_at
        AND j.finished_at = g.finished_at
        AND coalesce(j.container_hash, '') = coalesce(g.container_hash, '')
        AND j.log = g.log
        AND NOT EXISTS (
            SELECT
                o.path,
                o.sha256,
                o.size
            FROM given_output AS o
            WHERE o.job_uuid = j.uuid
            EXCEPT
            SELECT
                a.path,
                a.sha256,
                a.size
            FROM artifact AS a
            WHERE a.job_uuid = j.uuid
        )
        AND (SELECT count(*) FROM given_output AS o WHERE o.job_uuid = j.uuid)
        = (SELECT count(*) FROM artifact AS a WHERE a.job_uuid = j.uuid) AS same
    FROM given AS g
    JOIN fingerprinted AS f ON f.uuid = g.uuid
    JOIN job AS j ON j.uuid = g.uuid
    JOIN endpoint AS e ON e.id = j.endpoint_id
),

resolved AS (
    SELECT
        g.uuid,
        g.submit_uuid,
        e.id AS endpoint_id,
        p.id AS package_id,
        i.id AS image_id,
        g.state,
        g.started_at,
        g.finished_at,
        f.fingerprint,
        g.container_hash,
        g.script,
        g.log
    FROM given AS g
    JOIN fingerprinted AS f ON f.uuid = g.uuid
    JOIN submit AS s ON s.uuid = g.submit_uuid
    JOIN endpoint AS e ON e.name = g.endpoint
    JOIN package AS p ON p.name = g.package AND p.version = g.version
    JOIN image AS i ON i.name = g.image
),

recorded AS (
    -- No ON CONFLICT: a uuid that comes from elsewhere in this moment fails the whole statement.
    INSERT INTO job (
        uuid, submit_uuid, endpoint_id, package_id, image_id, state, started_at, finished_at, fingerprint,
        container_hash, script, log
    )
    SELECT
        r.uuid,
        r.submit_uuid,
        r.endpoint_id,
        r.package_id,
        r.image_id,
        r.state,
        r.started_at,
        r.finished_at,
        r.fingerprint,
        r.container_hash,
        r.script,
        r.log
    FROM resolved AS r
    WHERE
        r.uuid NOT IN (SELECT s.uuid FROM stored AS s)
        AND NOT EXISTS (SELECT FROM stored AS s WHERE NOT s.same)
        AND (SELECT count(*) FROM resolved) = cardinality(:'jobs'::uuid[])
        AND NOT EXISTS (SELECT FROM given_env AS g WHERE g.id IS NULL)
        AND NOT EXISTS (SELECT FROM given_input AS g WHERE g.path IS NULL)
    RETURNING uuid
),

recorded_env AS (
    INSERT INTO jobenvs (job_uuid, env_id)
    SELECT
        r.uuid,
        g.id
    FROM recorded AS r
    JOIN given_env AS g ON g.job_uuid = r.uuid
    RETURNING env_id
),

made AS (
    INSERT INTO artifact (uuid, job_uuid, path, sha256, size)
    SELECT
        o.uuid,
        r.uuid,
        o.path,
        o.sha256,
        o.size
    FROM recorded AS r
    JOIN given_output AS o ON o.job_uuid = r.uuid
    RETURNING uuid
),

recorded_input AS (
    INSERT INTO job_input_artifacts (job_uuid, artifact_uuid)
    SELECT
        r.uuid,
        g.artifact_uuid
    FROM recorded AS r
    JOIN given_input AS g ON g.job_uuid = r.uuid
    RETURNING artifact_uuid
)

SELECT
    CASE
        WHEN EXISTS (SELECT FROM recorded) THEN 'recorded'
        WHEN EXISTS (SELECT FROM stored AS s WHERE NOT s.same) THEN 'differs'
        WHEN (SELECT count(*) FROM stored) = cardinality(:'jobs'::uuid[]) THEN 'repeated'
        WHEN EXISTS (
            SELECT FROM given AS g
            WHERE NOT EXISTS (SELECT FROM submit AS s WHERE s.uuid = g.submit_uuid)
        ) THEN 'no submit'
        WHEN EXISTS (SELECT FROM given_input AS g WHERE g.path IS NULL) THEN 'no input'
        ELSE 'incomplete'
    END AS outcome,
    ARRAY(
        SELECT f.fingerprint
        FROM unnest(:'jobs'::uuid[]) WITH ORDINALITY AS t (uuid, place)
        JOIN fingerprinted AS f ON f.uuid = t.uuid
        ORDER BY t.place
    ) AS fingerprints,
    ARRAY(SELECT s.uuid FROM stored AS s WHERE NOT s.same ORDER BY s.uuid) AS differing,
    ARRAY(
        SELECT DISTINCT g.artifact_uuid
        FROM given_input AS g
        WHERE g.path IS NULL
        ORDER BY g.artifact_uuid
    ) AS missing_inputs;
