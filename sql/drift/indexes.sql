-- Which indexes has the schema that comes first in the search path, but for those of constraints?
--
-- The result's columns are those of drift/tables.

WITH found AS (
    SELECT
        quote_ident(x.relname) AS name,
        quote_ident(c.relname) AS table_name,
        CASE c.relkind WHEN 'm' THEN 'materialized view' ELSE 'table' END AS what,
        i.indisvalid AND i.indisready AND i.indislive AS valid,
        pg_get_indexdef(i.indexrelid, 0, TRUE) AS definition
    FROM pg_catalog.pg_index AS i
    JOIN pg_catalog.pg_class AS x ON x.oid = i.indexrelid
    JOIN pg_catalog.pg_class AS c ON c.oid = i.indrelid
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE
        n.nspname = current_schema()
        AND NOT EXISTS (
            SELECT 1
            FROM pg_catalog.pg_constraint AS k
            WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x')
        )
)

SELECT
    'index' AS kind,
    i.name AS object,
    '' AS aspect,
    i.what || ' ' || i.table_name AS part_of,
    i.definition,
    NULL AS shape,
    ARRAY[regexp_replace(i.definition, '^CREATE (UNIQUE )?INDEX', 'CREATE \1INDEX CONCURRENTLY')] AS make,
    ARRAY['DROP INDEX CONCURRENTLY ' || i.name] AS remove,
    FALSE AS loses
FROM found AS i
UNION ALL
SELECT
    'index' AS kind,
    i.name AS object,
    'validity' AS aspect,
    i.what || ' ' || i.table_name AS part_of,
    'invalid' AS definition,
    NULL AS shape,
    NULL AS make,
    ARRAY['REINDEX INDEX CONCURRENTLY ' || i.name] AS remove,
    FALSE AS loses
FROM found AS i
WHERE NOT i.valid
ORDER BY object, aspect;
