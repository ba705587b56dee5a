-- Add whole environments that are not in the store yet; their variables have to be.
--
-- Run environment/intern_variables after it, in the same transaction.
--
-- environments: each {"name": "value"}; give only what is missing, since a conflict burns an id

INSERT INTO environment (sha256)
SELECT n.sha256
FROM unnest(:'environments'::jsonb[]) AS t (environment)
CROSS JOIN LATERAL (
    SELECT
        -- What is no environment has none, and cannot be stored without.
        CASE
            WHEN NOT jsonb_path_exists(t.environment, '$.* ? (@.type() != "string")')
                THEN environment_sha256(t.environment)
        END AS sha256
) AS n
WHERE
    n.sha256 IS NULL
    OR NOT EXISTS (
        SELECT 1
        FROM jsonb_each_text(t.environment) AS w (name, value)
        LEFT JOIN envvar AS v ON v.name = w.name AND v.value_sha256 = text_sha256(w.value)
        WHERE v.id IS NULL
    )
-- Always the same order, so that concurrent writers wait for each other and never in a circle.
ORDER BY n.sha256
ON CONFLICT (sha256) DO NOTHING
RETURNING id, sha256;
