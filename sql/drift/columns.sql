-- Which columns have the tables of the schema that comes first in the search path?
--
-- The result's columns are those of drift/tables. No query depends on the order of columns, so that it is
-- not compared.

WITH found AS (
    SELECT
        a.attgenerated AS generated,
        a.attnotnull,
        a.attoptions,
        quote_ident(c.relname) AS table_name,
        quote_ident(a.attname) AS name,
        format('%s.%s', quote_ident(c.relname), quote_ident(a.attname)) AS object,
        format('ALTER TABLE %s ALTER COLUMN %s', quote_ident(c.relname), quote_ident(a.attname)) AS alters,
        format_type(a.atttypid, a.atttypmod) AS type,
        coalesce(' COLLATE ' || nullif(a.attcollation, t.typcollation)::regcollation, '') AS collation,
        pg_get_expr(d.adbin, d.adrelid) AS expression,
        -- NULL, or up to PostgreSQL 16 -1, is the default.
        nullif(a.attstattarget, -1) AS statistics,
        CASE a.attcompression WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4' END AS compression,
        CASE nullif(a.attstorage, t.typstorage)
            WHEN 'p' THEN 'plain' WHEN 'e' THEN 'external' WHEN 'm' THEN 'main' WHEN 'x' THEN 'extended'
        END AS storage,
        CASE t.typstorage
            WHEN 'p' THEN 'plain' WHEN 'e' THEN 'external' WHEN 'm' THEN 'main' WHEN 'x' THEN 'extended'
        END AS default_storage
    FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid
    JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid
    LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE
        n.nspname = current_schema()
        AND c.relkind IN ('r', 'p', 'f')
        AND a.attnum > 0
        AND NOT a.attisdropped
),

whole AS (
    SELECT
        a.object,
        format(
            'ALTER TABLE %s ADD COLUMN %s %s%s%s%s',
            a.table_name,
            a.name,
            a.type,
            a.collation,
            CASE
                WHEN a.generated = 's' THEN format(' GENERATED ALWAYS AS (%s) STORED', a.expression)
                WHEN a.generated = 'v' THEN format(' GENERATED ALWAYS AS (%s) VIRTUAL', a.expression)
                ELSE ' DEFAULT ' || a.expression
            END,
            CASE WHEN a.attnotnull THEN ' NOT NULL' END
        ) AS make,
        format('ALTER TABLE %s DROP COLUMN %s', a.table_name, a.name) AS remove
    FROM found AS a
)

SELECT
    'column' AS kind,
    a.object,
    '' AS aspect,
    'table ' || a.table_name AS part_of,
    CASE a.generated WHEN '' THEN 'given' WHEN 's' THEN 'stored' ELSE 'virtual' END AS definition,
    NULL AS shape,
    ARRAY[f.make] AS make,
    ARRAY[f.remove] AS remove,
    a.generated = '' AS loses
FROM found AS a
JOIN whole AS f ON f.object = a.object
UNION ALL
SELECT
    'column' AS kind,
    a.object,
    p.aspect,
    'table ' || a.table_name AS part_of,
    p.definition,
    '' AS shape,
    p.make,
    p.remove,
    FALSE AS loses
FROM found AS a
JOIN whole AS f ON f.object = a.object
CROSS JOIN LATERAL (
    VALUES
    (
        'type',
        a.type || a.collation,
        ARRAY[
            format(
                '%s TYPE %s%s%s',
                a.alters,
                a.type,
                a.collation,
                CASE a.generated WHEN '' THEN format(' USING %s::%s', a.name, a.type) END
            )
        ],
        NULL
    ),
    (
        'nullability',
        CASE WHEN a.attnotnull THEN 'NOT NULL' ELSE 'NULL' END,
        ARRAY[format('%s %s NOT NULL', a.alters, CASE WHEN a.attnotnull THEN 'SET' ELSE 'DROP' END)],
        NULL
    ),
    (
        'expression',
        CASE WHEN a.generated <> '' THEN a.expression END,
        -- Up to PostgreSQL 16 only another column has another expression. What it holds is computed anew.
        ARRAY[f.remove, f.make],
        NULL
    ),
    (
        'default',
        CASE WHEN a.generated = '' THEN a.expression END,
        ARRAY[format('%s SET DEFAULT %s', a.alters, a.expression)],
        ARRAY[a.alters || ' DROP DEFAULT']
    ),
    (
        'storage',
        a.storage,
        ARRAY[format('%s SET STORAGE %s', a.alters, a.storage)],
        ARRAY[format('%s SET STORAGE %s', a.alters, a.default_storage)]
    ),
    (
        'compression',
        a.compression,
        ARRAY[format('%s SET COMPRESSION %s', a.alters, a.compression)],
        ARRAY[a.alters || ' SET COMPRESSION default']
    ),
    (
        'statistics target',
        a.statistics::text,
        ARRAY[format('%s SET STATISTICS %s', a.alters, a.statistics)],
        ARRAY[a.alters || ' SET STATISTICS -1']
    ),
    (
        'options',
        array_to_string(a.attoptions, ', '),
        ARRAY[format('%s SET (%s)', a.alters, array_to_string(a.attoptions, ', '))],
        ARRAY[a.alters || ' RESET (n_distinct, n_distinct_inherited)']
    )
) AS p (aspect, definition, make, remove)
WHERE p.definition IS NOT NULL
ORDER BY kind, object, aspect;
