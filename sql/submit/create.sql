-- Record a submit, with the environment that it adds to its jobs.
--
-- The row says what happened: created; repeated (it is there, the same); differs (the uuid is
-- there with other content); incomplete (a shared value is not in the store yet: intern it).
--
-- submit: the submit's uuid
-- timestamp: when the request was made
-- repo_hash: HEAD of the package repository
-- tree: {"root": 0, "nodes": [{"name", "version", "dependencies": [1, 2]}]}
-- buildplan: {"jobs": [{"uuid", "package", "version", "needs": [uuid]}]}
-- env_names: names of the additional environment, beside env_values
-- env_values: its values

WITH env AS (
    SELECT v.id
    FROM unnest(:'env_names'::text[], :'env_values'::text[]) AS t (name, value)
    JOIN envvar AS v ON v.name = t.name AND v.value_sha256 = text_sha256(t.value)
),

created AS (
    INSERT INTO submit (
        uuid, timestamp, requested_image_id, requested_package_id, repo_hash_id, tree, buildplan
    )
    SELECT
        :'submit'::uuid,
        :'timestamp'::timestamptz,
        i.id,
        p.id,
        g.id,
        :'tree'::jsonb,
        :'buildplan'::jsonb
    FROM image AS i
    CROSS JOIN package AS p
    CROSS JOIN git_hash AS g
    WHERE
        i.name = :'image'::text
        AND p.name = :'package'::text
        AND p.version = :'version'::text
        AND g.hash = :'repo_hash'::text
        AND (SELECT count(*) FROM env) = cardinality(:'env_names'::text[])
    ON CONFLICT (uuid) DO NOTHING
    RETURNING uuid
),

created_env AS (
    INSERT INTO submitenvs (submit_uuid, env_id)
    SELECT
        c.uuid,
        e.id
    FROM created AS c
    CROSS JOIN env AS e
    RETURNING env_id
),

stored AS (
    SELECT
        s.timestamp = :'timestamp'::timestamptz
        AND i.name = :'image'::text
        AND p.name = :'package'::text
        AND p.version = :'version'::text
        AND g.hash = :'repo_hash'::text
        AND s.tree = :'tree'::jsonb
        AND s.buildplan = :'buildplan'::jsonb
        AND (SELECT count(*) FROM env) = cardinality(:'env_names'::text[])
        AND ARRAY(SELECT e.id FROM env AS e ORDER BY e.id)
        = ARRAY(SELECT se.env_id FROM submitenvs AS se WHERE se.submit_uuid = s.uuid ORDER BY se.env_id)
            AS same
    FROM submit AS s
    JOIN image AS i ON i.id = s.requested_image_id
    JOIN package AS p ON p.id = s.requested_package_id
    JOIN git_hash AS g ON g.id = s.repo_hash_id
    WHERE s.uuid = :'submit'::uuid
)

SELECT
    CASE
        WHEN EXISTS (SELECT FROM created) THEN 'created'
        WHEN EXISTS (SELECT FROM stored AS s WHERE s.same) THEN 'repeated'
        WHEN EXISTS (SELECT FROM stored) THEN 'differs'
        ELSE 'incomplete'
    END AS outcome;
