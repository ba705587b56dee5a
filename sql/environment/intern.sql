-- Add whole environments that are not in the store yet; their variables have to be.
--
-- Run environment/intern_variables after it, in the same transaction.
--
-- environments: each {"name": "value"}; give only what is missing, since a conflict burns an id

INSERT INTO environment (sha256)
SELECT
    -- What is no environment has none, and cannot be stored without.
    CASE
        WHEN NOT jsonb_path_exists(t.environment, '$.* ? (@.type() != "string")')
            THEN environment_sha256(t.environment)
    END
FROM unnest(:'environments'::jsonb[]) AS t (environment)
WHERE
    NOT EXISTS (
        SELECT 1
        FROM jsonb_each_text(t.environment) AS w (name, value)
        WHERE
            w.value IS NOT NULL
            AND (
                SELECT v.id
                FROM envvar AS v
                WHERE v.name = w.name AND v.value_sha256 = text_sha256(w.value)
            ) IS NULL
    )
-- Always the same order, so that concurrent writers wait for each other and never in a circle.
ORDER BY environment_sha256(t.environment)
ON CONFLICT (sha256) DO NOTHING
RETURNING id, sha256;
