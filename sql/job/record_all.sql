-- Record jobs that have ended, all of them or none.
--
-- An input may be an output of another of these jobs. The row says what happened: recorded (those
-- that were not there are now); repeated (all were there, the same); differs (a uuid is there with
-- other content); no submit; no input (an input is neither in the store nor an output of these
-- jobs); incomplete (a shared value is not in the store yet: intern it).
--
-- jobs: what is recorded of each, [{"uuid", "submit", "package", "version", "image", "endpoint",
--   "state", "started_at", "finished_at", "container_hash", "script", "env": {"name": "value"}}]
-- logs: the whole log of each, with what is no UTF-8 text escaped as \xHH
-- inputs: the artifacts that were copied into their containers, [{"job", "artifact"}]
-- outputs: the files that they made, [{"job", "uuid", "path", "sha256": "hexadecimal", "size": 1}]

-- What is looked up, is so by scalar subqueries, which are index probes. A join would be planned
-- for the hundred jobs that a JSON function is taken to give, and read large tables in full.
WITH document AS MATERIALIZED (
    SELECT
        d.uuid,
        d.submit,
        d.package,
        d.version,
        d.image,
        d.endpoint,
        d.state,
        d.started_at,
        d.finished_at,
        d.container_hash,
        d.script,
        environment_sha256(d.env) AS environment_sha256,
        (:'logs'::text[])[t.place] AS log,
        t.place
    FROM jsonb_array_elements(:'jobs'::jsonb) WITH ORDINALITY AS t (job, place)
    CROSS JOIN LATERAL jsonb_to_record(t.job) AS d (
        uuid uuid, submit uuid, package text, version text, image text, endpoint text, state text,
        started_at timestamptz, finished_at timestamptz, container_hash text, script text, env jsonb
    )
),

output AS MATERIALIZED (
    SELECT
        o.job AS job_uuid,
        o.uuid,
        o.path,
        decode(o.sha256, 'hex') AS sha256,
        o.size
    FROM jsonb_to_recordset(:'outputs'::jsonb) AS o (job uuid, uuid uuid, path text, sha256 text, size bigint)
),

input AS MATERIALIZED (
    SELECT
        i.job AS job_uuid,
        i.artifact AS artifact_uuid,
        coalesce(
            (
                SELECT sha256sum(a.sha256, a.path)
                FROM artifact AS a
                WHERE a.uuid = i.artifact
            ),
            sha256sum(o.sha256, o.path)
        ) AS file
    FROM jsonb_to_recordset(:'inputs'::jsonb) AS i (job uuid, artifact uuid)
    -- No job reads what it makes itself.
    LEFT JOIN output AS o ON o.uuid = i.artifact AND o.job_uuid <> i.job
),

given AS MATERIALIZED (
    SELECT
        d.uuid,
        (SELECT s.uuid FROM submit AS s WHERE s.uuid = d.submit) AS submit_uuid,
        (SELECT e.id FROM endpoint AS e WHERE e.name = d.endpoint) AS endpoint_id,
        (SELECT p.id FROM package AS p WHERE p.name = d.package AND p.version = d.version) AS package_id,
        (SELECT i.id FROM image AS i WHERE i.name = d.image) AS image_id,
        (SELECT n.id FROM environment AS n WHERE n.sha256 = d.environment_sha256) AS environment_id,
        d.state,
        d.started_at,
        d.finished_at,
        job_fingerprint(
            d.package, d.version, d.image, d.script, d.environment_sha256, coalesce(f.files, '{}')
        ) AS fingerprint,
        d.container_hash,
        d.script,
        d.log,
        d.place,
        (SELECT j.uuid FROM job AS j WHERE j.uuid = d.uuid) IS NOT NULL AS is_stored
    FROM document AS d
    LEFT JOIN (
        SELECT
            i.job_uuid,
            array_agg(i.file) AS files
        FROM input AS i
        GROUP BY i.job_uuid
    ) AS f ON f.job_uuid = d.uuid
),

stored AS MATERIALIZED (
    SELECT
        g.uuid,
        (
            SELECT
                j.submit_uuid = g.submit_uuid
                AND j.fingerprint = g.fingerprint
                AND j.endpoint_id = g.endpoint_id
                AND j.state = g.state
                AND j.started_at = g.started_at
                AND j.finished_at = g.finished_at
                AND coalesce(j.container_hash, '') = coalesce(g.container_hash, '')
                AND j.log = g.log
            FROM job AS j
            WHERE j.uuid = g.uuid
        )
        IS TRUE
        AND ARRAY(
            SELECT ROW(a.path, a.sha256, a.size)::text
            FROM artifact AS a
            WHERE a.job_uuid = g.uuid
            ORDER BY a.path COLLATE "C"
        ) = ARRAY(
            SELECT ROW(o.path, o.sha256, o.size)::text
            FROM output AS o
            WHERE o.job_uuid = g.uuid
            ORDER BY o.path COLLATE "C"
        ) AS same
    FROM given AS g
    WHERE g.is_stored
),

ready AS MATERIALIZED (
    SELECT
        NOT EXISTS (SELECT 1 FROM stored AS s WHERE NOT s.same)
        AND NOT EXISTS (SELECT 1 FROM input AS i WHERE i.file IS NULL)
        AND NOT EXISTS (
            SELECT 1 FROM given AS g
            WHERE
                num_nulls(g.submit_uuid, g.endpoint_id, g.package_id, g.image_id, g.environment_id) > 0
        ) AS ready
),

recorded AS (
    -- No ON CONFLICT: a uuid that comes from elsewhere in this moment fails the whole statement.
    INSERT INTO job (
        uuid, submit_uuid, endpoint_id, package_id, image_id, environment_id, state, started_at,
        finished_at, fingerprint, container_hash, script, log
    )
    SELECT
        g.uuid,
        g.submit_uuid,
        g.endpoint_id,
        g.package_id,
        g.image_id,
        g.environment_id,
        g.state,
        g.started_at,
        g.finished_at,
        g.fingerprint,
        g.container_hash,
        g.script,
        g.log
    FROM given AS g
    WHERE NOT g.is_stored AND (SELECT r.ready FROM ready AS r)
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
    JOIN output AS o ON o.job_uuid = r.uuid
    RETURNING uuid
),

recorded_input AS (
    INSERT INTO job_input_artifacts (job_uuid, artifact_uuid)
    SELECT
        r.uuid,
        i.artifact_uuid
    FROM recorded AS r
    JOIN input AS i ON i.job_uuid = r.uuid
    RETURNING artifact_uuid
)

SELECT
    CASE
        WHEN EXISTS (SELECT 1 FROM recorded) THEN 'recorded'
        WHEN EXISTS (SELECT 1 FROM stored AS s WHERE NOT s.same) THEN 'differs'
        WHEN NOT EXISTS (SELECT 1 FROM given AS g WHERE NOT g.is_stored) THEN 'repeated'
        WHEN EXISTS (SELECT 1 FROM given AS g WHERE g.submit_uuid IS NULL) THEN 'no submit'
        WHEN EXISTS (SELECT 1 FROM input AS i WHERE i.file IS NULL) THEN 'no input'
        ELSE 'incomplete'
    END AS outcome,
    ARRAY(SELECT g.fingerprint FROM given AS g ORDER BY g.place) AS fingerprints,
    ARRAY(SELECT s.uuid FROM stored AS s WHERE NOT s.same ORDER BY s.uuid) AS differing,
    ARRAY(
        SELECT DISTINCT i.artifact_uuid
        FROM input AS i
        WHERE i.file IS NULL
        ORDER BY i.artifact_uuid
    ) AS missing_inputs;
