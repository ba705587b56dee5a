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
-- env: the additional environment, {"name": "value"}

WITH created AS (
    INSERT INTO submit (
        uuid, timestamp, requested_image_id, requested_package_id, repo_hash_id, environment_id, tree,
        buildplan
    )
    SELECT
        :'submit'::uuid,
        :'timestamp'::timestamptz,
        i.id,
        p.id,
        g.id,
        n.id,
        :'tree'::jsonb,
        :'buildplan'::jsonb
    FROM image AS i
    CROSS JOIN package AS p
    CROSS JOIN git_hash AS g
    CROSS JOIN environment AS n
    WHERE
        i.name = :'image'::text
        AND p.name = :'package'::text
        AND p.version = :'version'::text
        AND g.hash = :'repo_hash'::text
        AND n.sha256 = environment_sha256(:'env'::jsonb)
    ON CONFLICT (uuid) DO NOTHING
    RETURNING uuid
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
        AND n.sha256 = environment_sha256(:'env'::jsonb) AS same
    FROM submit AS s
    JOIN image AS i ON i.id = s.requested_image_id
    JOIN package AS p ON p.id = s.requested_package_id
    JOIN git_hash AS g ON g.id = s.repo_hash_id
    JOIN environment AS n ON n.id = s.environment_id
    WHERE s.uuid = :'submit'::uuid
)

SELECT
    CASE
        WHEN EXISTS (SELECT 1 FROM created) THEN 'created'
        WHEN EXISTS (SELECT 1 FROM stored AS s WHERE s.same) THEN 'repeated'
        WHEN EXISTS (SELECT 1 FROM stored) THEN 'differs'
        ELSE 'incomplete'
    END AS outcome;
