-- Record ended jobs at once, each with its script, log, environment, inputs and outputs.
--
-- All or none. The row says what happened: recorded (those that were not there are now);
-- repeated (all were there, the same); differs (a uuid is there with other content); no submit;
-- no input (an input is neither in the store nor an output of these jobs); incomplete (a shared
-- value is not in the store yet: intern it).
--
-- jobs: what is recorded of each, [{"uuid", "submit", "package", "version", "image", "endpoint",
--   "state", "started_at", "finished_at", "container_hash", "script", "env": {"name": "value"},
--   "inputs": ["uuid"], "outputs": [{"uuid", "path", "sha256": "hexadecimal", "size": 1}]}]
-- logs: the whole log of each, with what is no UTF-8 text escaped as \xHH

WITH given AS (
    SELECT
        j.uuid,
        j.submit,
        j.package,
        j.version,
        j.image,
        j.endpoint,
        j.state,
        j.started_at,
        j.finished_at,
        j.container_hash,
        j.script,
        environment_sha256(j.env) AS environment_sha256,
        j.inputs,
        j.outputs,
        (:'logs'::text[])[t.place] AS log,
        t.place
    FROM jsonb_array_elements(:'jobs'::jsonb) WITH ORDINALITY AS t (job, place)
    CROSS JOIN LATERAL jsonb_to_record(t.job) AS j (
        uuid uuid, submit uuid, package text, version text, image text, endpoint text, state text,
        started_at timestamptz, finished_at timestamptz, container_hash text, script text, env jsonb,
        inputs uuid[], outputs jsonb
    )
),

given_output AS (
    SELECT
        g.uuid AS job_uuid,
        o.uuid,
        o.path,
        decode(o.sha256, 'hex') AS sha256,
        o.size
    FROM given AS g
    CROSS JOIN LATERAL jsonb_to_recordset(g.outputs) AS o (uuid uuid, path text, sha256 text, size bigint)
),

given_input AS (
    SELECT
        g.uuid AS job_uuid,
        t.artifact_uuid,
        coalesce(a.path, o.path) AS path,
        coalesce(a.sha256, o.sha256) AS sha256
    FROM given AS g
    CROSS JOIN LATERAL unnest(g.inputs) AS t (artifact_uuid)
    LEFT JOIN artifact AS a ON a.uuid = t.artifact_uuid
    -- No job reads what it makes itself.
    LEFT JOIN given_output AS o ON o.uuid = t.artifact_uuid AND o.job_uuid <> g.uuid
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
            g.package, g.version, g.image, g.script, g.environment_sha256, i.paths, i.sha256s
        ) AS fingerprint
    FROM given AS g
    LEFT JOIN input AS i ON i.job_uuid = g.uuid
),

stored AS (
    SELECT
        j.uuid,
        j.submit_uuid = g.submit
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
        g.submit AS submit_uuid,
        e.id AS endpoint_id,
        p.id AS package_id,
        i.id AS image_id,
        n.id AS environment_id,
        g.state,
        g.started_at,
        g.finished_at,
        f.fingerprint,
        g.container_hash,
        g.script,
        g.log
    FROM given AS g
    JOIN fingerprinted AS f ON f.uuid = g.uuid
    JOIN submit AS s ON s.uuid = g.submit
    JOIN endpoint AS e ON e.name = g.endpoint
    JOIN package AS p ON p.name = g.package AND p.version = g.version
    JOIN image AS i ON i.name = g.image
    JOIN environment AS n ON n.sha256 = g.environment_sha256
),

recorded AS (
    -- No ON CONFLICT: a uuid that comes from elsewhere in this moment fails the whole statement.
    INSERT INTO job (
        uuid, submit_uuid, endpoint_id, package_id, image_id, environment_id, state, started_at,
        finished_at, fingerprint, container_hash, script, log
    )
    SELECT
        r.uuid,
        r.submit_uuid,
        r.endpoint_id,
        r.package_id,
        r.image_id,
        r.environment_id,
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
        AND (SELECT count(*) FROM resolved) = (SELECT count(*) FROM given)
        AND NOT EXISTS (SELECT FROM given_input AS g WHERE g.path IS NULL)
    RETURNING uuid
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
        WHEN (SELECT count(*) FROM stored) = (SELECT count(*) FROM given) THEN 'repeated'
        WHEN EXISTS (
            SELECT FROM given AS g
            WHERE NOT EXISTS (SELECT FROM submit AS s WHERE s.uuid = g.submit)
        ) THEN 'no submit'
        WHEN EXISTS (SELECT FROM given_input AS g WHERE g.path IS NULL) THEN 'no input'
        ELSE 'incomplete'
    END AS outcome,
    ARRAY(
        SELECT f.fingerprint
        FROM given AS g
        JOIN fingerprinted AS f ON f.uuid = g.uuid
        ORDER BY g.place
    ) AS fingerprints,
    ARRAY(SELECT s.uuid FROM stored AS s WHERE NOT s.same ORDER BY s.uuid) AS differing,
    ARRAY(
        SELECT DISTINCT g.artifact_uuid
        FROM given_input AS g
        WHERE g.path IS NULL
        ORDER BY g.artifact_uuid
    ) AS missing_inputs;
