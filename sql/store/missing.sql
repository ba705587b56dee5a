-- Which of these shared values are not in the store yet?
--
-- Of a missing environment, its missing variables are listed as well, their values as JSON.
--
-- subjects: the table of each value
-- names: the name of each; an environment as environment_sha256() takes it
-- values: the version of each package; empty for the others

WITH missing AS (
    SELECT
        t.subject,
        t.name,
        t.value
    FROM unnest(:'subjects'::text[], :'names'::text[], :'values'::text[]) AS t (subject, name, value)
    WHERE
        CASE t.subject
            WHEN 'endpoint' THEN (SELECT e.id FROM endpoint AS e WHERE e.name = t.name)
            WHEN 'environment' THEN (
                SELECT n.id FROM environment AS n WHERE n.sha256 = environment_sha256(t.name::jsonb)
            )
            WHEN 'git_hash' THEN (SELECT g.id FROM git_hash AS g WHERE g.hash = t.name)
            WHEN 'image' THEN (SELECT i.id FROM image AS i WHERE i.name = t.name)
            WHEN 'package' THEN (
                SELECT p.id FROM package AS p WHERE p.name = t.name AND p.version = t.value
            )
            WHEN 'release_store' THEN (SELECT rs.id FROM release_store AS rs WHERE rs.name = t.name)
        END IS NULL
)

SELECT
    m.subject,
    m.name,
    m.value
FROM missing AS m
UNION
SELECT
    'envvar' AS subject,
    w.name,
    w.value::text
FROM missing AS m
CROSS JOIN LATERAL jsonb_each(
    CASE m.subject WHEN 'environment' THEN m.name::jsonb END
) AS w (name, value)
WHERE (
    SELECT v.id FROM envvar AS v WHERE v.name = w.name AND v.value_sha256 = envvar_sha256(w.value)
) IS NULL
ORDER BY subject, name, value;
