-- Add whole environments that are not in the store yet; their variables have to be.
--
-- environments: each {"name": "value"}; give only what is missing, since a conflict burns an id

WITH given AS (
    SELECT DISTINCT
        t.environment,
        -- What is no environment has none, and cannot be stored without.
        CASE
            WHEN jsonb_typeof(t.environment) = 'object'
                AND NOT jsonb_path_exists(t.environment, '$.* ? (@.type() != "string")')
                THEN environment_sha256(t.environment)
        END AS sha256
    FROM unnest(:'environments'::jsonb[]) AS t (environment)
),

variable AS (
    SELECT
        g.sha256,
        v.id
    FROM given AS g
    CROSS JOIN LATERAL jsonb_each_text(g.environment) AS t (name, value)
    LEFT JOIN envvar AS v ON v.name = t.name AND v.value_sha256 = text_sha256(t.value)
),

interned AS (
    INSERT INTO environment (sha256)
    SELECT g.sha256
    FROM given AS g
    WHERE NOT EXISTS (SELECT 1 FROM variable AS v WHERE v.sha256 = g.sha256 AND v.id IS NULL)
    -- Always the same order, so that concurrent writers wait for each other and never in a circle.
    ORDER BY g.sha256
    ON CONFLICT DO NOTHING
    RETURNING id, sha256
),

interned_variable AS (
    INSERT INTO environment_envvar (environment_id, envvar_id)
    SELECT
        i.id,
        v.id
    FROM interned AS i
    JOIN variable AS v ON v.sha256 = i.sha256
    RETURNING envvar_id
)

SELECT
    i.id,
    i.sha256
FROM interned AS i
ORDER BY i.id;
