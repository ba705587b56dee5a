-- Which constraints have the tables of the schema that comes first in the search path?
--
-- The result's columns are those of drift/tables. Before PostgreSQL 18 there is no constraint for NOT NULL,
-- which is an aspect of its column. A CHECK or foreign key is made NOT VALID first, so that writers need not
-- wait while the rows are checked.

WITH k AS (
    SELECT
        k.contype,
        k.convalidated,
        k.conrelid,
        quote_ident(k.conname) AS name,
        quote_ident(c.relname) AS table_name,
        -- Whether it is valid is an aspect of its own.
        regexp_replace(pg_get_constraintdef(k.oid, TRUE), ' NOT VALID$', '') AS definition,
        i.indisvalid,
        quote_ident(x.relname) AS index_name
    FROM pg_catalog.pg_constraint AS k
    JOIN pg_catalog.pg_class AS c ON c.oid = k.conrelid
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_index AS i ON i.indexrelid = k.conindid AND k.contype IN ('p', 'u', 'x')
    LEFT JOIN pg_catalog.pg_class AS x ON x.oid = i.indexrelid
    WHERE n.nspname = current_schema() AND k.contype IN ('c', 'f', 'p', 'u', 'x', 'n')
)

SELECT
    'constraint' AS kind,
    format('%s on %s', k.name, k.table_name) AS object,
    '' AS aspect,
    'table ' || k.table_name AS part_of,
    k.definition,
    NULL AS shape,
    CASE
        WHEN k.contype IN ('c', 'f')
            THEN ARRAY[
                format('ALTER TABLE %s ADD CONSTRAINT %s %s NOT VALID', k.table_name, k.name, k.definition),
                format('ALTER TABLE %s VALIDATE CONSTRAINT %s', k.table_name, k.name)
            ]
        ELSE ARRAY[format('ALTER TABLE %s ADD CONSTRAINT %s %s', k.table_name, k.name, k.definition)]
    END AS make,
    ARRAY[format('ALTER TABLE %s DROP CONSTRAINT %s', k.table_name, k.name)] AS remove,
    FALSE AS loses
FROM k
WHERE k.contype <> 'n'
UNION ALL
SELECT
    'constraint' AS kind,
    format('%s on %s', k.name, k.table_name) AS object,
    p.aspect,
    'table ' || k.table_name AS part_of,
    p.definition,
    NULL AS shape,
    NULL AS make,
    ARRAY[p.remove] AS remove,
    FALSE AS loses
FROM k
CROSS JOIN LATERAL (
    VALUES
    (
        'validity',
        CASE WHEN NOT k.convalidated THEN 'not valid' END,
        format('ALTER TABLE %s VALIDATE CONSTRAINT %s', k.table_name, k.name)
    ),
    (
        'index',
        CASE WHEN NOT k.indisvalid THEN 'invalid' END,
        'REINDEX INDEX CONCURRENTLY ' || k.index_name
    )
) AS p (aspect, definition, remove)
WHERE p.definition IS NOT NULL
ORDER BY object, aspect;
