-- Which domains has the schema that comes first in the search path?
--
-- The result's columns are those of drift/tables. What a domain checks is in drift/constraints.

WITH found AS (
    SELECT
        quote_ident(t.typname) AS name,
        'ALTER DOMAIN ' || quote_ident(t.typname) AS alters,
        format_type(t.typbasetype, t.typtypmod)
        || coalesce(' COLLATE ' || nullif(t.typcollation, b.typcollation)::regcollation, '') AS type,
        t.typnotnull,
        t.typdefault AS expression
    FROM pg_catalog.pg_type AS t
    JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace
    JOIN pg_catalog.pg_type AS b ON b.oid = t.typbasetype
    WHERE n.nspname = current_schema() AND t.typtype = 'd'
)

SELECT
    'domain' AS kind,
    d.name AS object,
    '' AS aspect,
    NULL AS part_of,
    d.type AS definition,
    NULL AS shape,
    ARRAY[format('CREATE DOMAIN %s AS %s', d.name, d.type)] AS make,
    ARRAY['DROP DOMAIN ' || d.name] AS remove,
    FALSE AS loses
FROM found AS d
UNION ALL
SELECT
    'domain' AS kind,
    d.name AS object,
    p.aspect,
    NULL AS part_of,
    p.definition,
    '' AS shape,
    ARRAY[p.make] AS make,
    ARRAY[p.remove] AS remove,
    FALSE AS loses
FROM found AS d
CROSS JOIN LATERAL (
    VALUES
    (
        'default',
        d.expression,
        format('%s SET DEFAULT %s', d.alters, d.expression),
        d.alters || ' DROP DEFAULT'
    ),
    (
        'nullability',
        CASE WHEN d.typnotnull THEN 'NOT NULL' END,
        d.alters || ' SET NOT NULL',
        d.alters || ' DROP NOT NULL'
    )
) AS p (aspect, definition, make, remove)
WHERE p.definition IS NOT NULL
ORDER BY object, aspect;
