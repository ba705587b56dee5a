-- Which constraints have the tables and domains of the schema that comes first in the search path?
--
-- The result's columns are those of drift/tables. Before PostgreSQL 18 there is no constraint for NOT NULL,
-- which is an aspect of its column. A CHECK or foreign key is made NOT VALID first, so that writers need not
-- wait while the rows are checked.

WITH found AS (
    SELECT
        k.contype,
        k.convalidated,
        quote_ident(k.conname) AS name,
        quote_ident(coalesce(c.relname, t.typname)) AS on_name,
        CASE WHEN c.oid IS NULL THEN 'domain ' ELSE 'table ' END
        || quote_ident(coalesce(c.relname, t.typname)) AS part_of,
        CASE WHEN c.oid IS NULL THEN 'ALTER DOMAIN ' ELSE 'ALTER TABLE ' END
        || quote_ident(coalesce(c.relname, t.typname)) AS alters,
        -- Whether it is valid is an aspect of its own.
        regexp_replace(pg_get_constraintdef(k.oid, TRUE), ' NOT VALID$', '') AS definition,
        i.indisvalid,
        quote_ident(x.relname) AS index_name
    FROM pg_catalog.pg_constraint AS k
    JOIN pg_catalog.pg_namespace AS n ON n.oid = k.connamespace
    LEFT JOIN pg_catalog.pg_class AS c ON c.oid = k.conrelid
    LEFT JOIN pg_catalog.pg_type AS t ON t.oid = k.contypid
    LEFT JOIN pg_catalog.pg_index AS i ON i.indexrelid = k.conindid AND k.contype IN ('p', 'u', 'x')
    LEFT JOIN pg_catalog.pg_class AS x ON x.oid = i.indexrelid
    WHERE n.nspname = current_schema() AND k.contype IN ('c', 'f', 'p', 'u', 'x', 'n')
)

SELECT
    'constraint' AS kind,
    format('%s on %s', k.name, k.on_name) AS object,
    '' AS aspect,
    k.part_of,
    k.definition,
    NULL AS shape,
    CASE
        WHEN k.contype IN ('c', 'f')
            THEN ARRAY[
                format('%s ADD CONSTRAINT %s %s NOT VALID', k.alters, k.name, k.definition),
                format('%s VALIDATE CONSTRAINT %s', k.alters, k.name)
            ]
        ELSE ARRAY[format('%s ADD CONSTRAINT %s %s', k.alters, k.name, k.definition)]
    END AS make,
    ARRAY[format('%s DROP CONSTRAINT %s', k.alters, k.name)] AS remove,
    FALSE AS loses
FROM found AS k
WHERE k.contype <> 'n'
UNION ALL
SELECT
    'constraint' AS kind,
    format('%s on %s', k.name, k.on_name) AS object,
    p.aspect,
    k.part_of,
    p.definition,
    NULL AS shape,
    NULL AS make,
    ARRAY[p.remove] AS remove,
    FALSE AS loses
FROM found AS k
CROSS JOIN LATERAL (
    VALUES
    (
        'validity',
        CASE WHEN NOT k.convalidated THEN 'not valid' END,
        format('%s VALIDATE CONSTRAINT %s', k.alters, k.name)
    ),
    (
        'index',
        CASE WHEN NOT k.indisvalid THEN 'invalid' END,
        'REINDEX INDEX CONCURRENTLY ' || k.index_name
    )
) AS p (aspect, definition, remove)
WHERE p.definition IS NOT NULL
ORDER BY object, aspect;
