-- Which of these shared values are not in the store yet?
--
-- environments: whole environments, each {"name": "value"}; what is missing of one are also those of
--   its variables that are
-- package_names: names of packages, beside package_versions
-- package_versions: their versions
-- images: names of images
-- endpoints: names of endpoints
-- hashes: git hashes
-- release_stores: names of release stores

WITH missing_environment AS (
    SELECT DISTINCT t.environment
    FROM unnest(:'environments'::jsonb[]) AS t (environment)
    WHERE NOT EXISTS (SELECT 1 FROM environment AS n WHERE n.sha256 = environment_sha256(t.environment))
)

SELECT
    'environment' AS subject,
    m.environment::text AS name,
    '' AS value
FROM missing_environment AS m
UNION ALL
SELECT DISTINCT
    'envvar' AS subject,
    t.name,
    t.value
FROM missing_environment AS m
CROSS JOIN LATERAL jsonb_each_text(m.environment) AS t (name, value)
WHERE
    NOT EXISTS (
        SELECT 1 FROM envvar AS v
        WHERE v.name = t.name AND v.value_sha256 = text_sha256(t.value)
    )
UNION ALL
SELECT
    'package' AS subject,
    t.name,
    t.version AS value
FROM unnest(:'package_names'::text[], :'package_versions'::text[]) AS t (name, version)
WHERE NOT EXISTS (SELECT 1 FROM package AS p WHERE p.name = t.name AND p.version = t.version)
UNION ALL
SELECT
    'image' AS subject,
    t.name,
    '' AS value
FROM unnest(:'images'::text[]) AS t (name)
WHERE NOT EXISTS (SELECT 1 FROM image AS i WHERE i.name = t.name)
UNION ALL
SELECT
    'endpoint' AS subject,
    t.name,
    '' AS value
FROM unnest(:'endpoints'::text[]) AS t (name)
WHERE NOT EXISTS (SELECT 1 FROM endpoint AS e WHERE e.name = t.name)
UNION ALL
SELECT
    'git_hash' AS subject,
    t.hash AS name,
    '' AS value
FROM unnest(:'hashes'::text[]) AS t (hash)
WHERE NOT EXISTS (SELECT 1 FROM git_hash AS g WHERE g.hash = t.hash)
UNION ALL
SELECT
    'release_store' AS subject,
    t.name,
    '' AS value
FROM unnest(:'release_stores'::text[]) AS t (name)
WHERE NOT EXISTS (SELECT 1 FROM release_store AS rs WHERE rs.name = t.name)
ORDER BY subject, name, value;
