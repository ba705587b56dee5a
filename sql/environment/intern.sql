-- Add environments that are not in the store yet, and whose variables are.
--
-- Run environment/intern_variables after this, in the same transaction.
--
-- environments: each as environment_sha256() takes it; only missing ones, since a conflict uses up an id

INSERT INTO environment (sha256)
SELECT n.sha256
FROM unnest(:'environments'::jsonb[]) AS t (environment)
CROSS JOIN LATERAL (
    SELECT
        -- A value that is none makes this NULL, which the column refuses.
        CASE
            WHEN bool_and(envvar_sha256(w.value) IS NOT NULL) IS NOT FALSE
                THEN environment_sha256(t.environment)
        END AS sha256
    FROM jsonb_each(t.environment) AS w (name, value)
) AS n
WHERE
    n.sha256 IS NULL
    OR NOT EXISTS (
        SELECT 1
        FROM jsonb_each(t.environment) AS w (name, value)
        WHERE (
            SELECT v.id
            FROM envvar AS v
            WHERE v.name = w.name AND v.value_sha256 = envvar_sha256(w.value)
        ) IS NULL
    )
-- One order for all writers, so that they wait for each other instead of deadlocking.
ORDER BY n.sha256
ON CONFLICT (sha256) DO NOTHING
RETURNING id, sha256;
