-- Add the variables of environments that the same transaction added.
--
-- environments: each as environment_sha256() takes it

INSERT INTO environment_envvar (environment_id, envvar_id)
SELECT
    n.id,
    v.id
FROM unnest(:'environments'::jsonb[]) AS t (environment)
-- One probe of an index each, as in job/insert_inputs.
CROSS JOIN LATERAL (
    SELECT n.id
    FROM environment AS n
    WHERE n.sha256 = environment_sha256(t.environment)
    ORDER BY n.id
) AS n
CROSS JOIN LATERAL jsonb_each(t.environment) AS w (name, value)
CROSS JOIN LATERAL (
    SELECT v.id
    FROM envvar AS v
    WHERE v.name = w.name AND v.value_sha256 = envvar_sha256(w.value)
    ORDER BY v.id
) AS v
ORDER BY n.id, v.id
ON CONFLICT (environment_id, envvar_id) DO NOTHING
RETURNING environment_id, envvar_id;
