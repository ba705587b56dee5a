-- Which comments have the objects of the schema that comes first in the search path?
--
-- The result's columns are those of drift/tables.

WITH found AS (
    SELECT
        k.what,
        quote_ident(c.relname) AS name,
        k.what || ' ' || quote_ident(c.relname) AS part_of,
        d.description AS text
    FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    CROSS JOIN LATERAL (
        SELECT
            CASE c.relkind
                WHEN 'v' THEN 'view'
                WHEN 'm' THEN 'materialized view'
                WHEN 'i' THEN 'index'
                WHEN 'S' THEN 'sequence'
                ELSE 'table'
            END AS what
    ) AS k
    JOIN pg_catalog.pg_description AS d
        ON d.classoid = 'pg_class'::regclass AND d.objoid = c.oid AND d.objsubid = 0
    WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p', 'v', 'm', 'i', 'S')
    UNION ALL
    SELECT
        'column' AS what,
        format('%s.%s', quote_ident(c.relname), quote_ident(a.attname)) AS name,
        CASE c.relkind
            WHEN 'v' THEN 'view ' || quote_ident(c.relname)
            WHEN 'm' THEN 'materialized view ' || quote_ident(c.relname)
            ELSE format('column %s.%s', quote_ident(c.relname), quote_ident(a.attname))
        END AS part_of,
        d.description AS text
    FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid
    JOIN pg_catalog.pg_description AS d
        ON d.classoid = 'pg_class'::regclass AND d.objoid = c.oid AND d.objsubid = a.attnum
    WHERE
        n.nspname = current_schema()
        AND c.relkind IN ('r', 'p', 'v', 'm')
        AND a.attnum > 0
        AND NOT a.attisdropped
    UNION ALL
    SELECT
        'function' AS what,
        format('%I(%s)', p.proname, oidvectortypes(p.proargtypes)) AS name,
        format('function %I(%s)', p.proname, oidvectortypes(p.proargtypes)) AS part_of,
        d.description AS text
    FROM pg_catalog.pg_proc AS p
    JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
    JOIN pg_catalog.pg_description AS d ON d.classoid = 'pg_proc'::regclass AND d.objoid = p.oid
    WHERE n.nspname = current_schema()
    UNION ALL
    SELECT
        'domain' AS what,
        quote_ident(t.typname) AS name,
        'domain ' || quote_ident(t.typname) AS part_of,
        d.description AS text
    FROM pg_catalog.pg_type AS t
    JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace
    JOIN pg_catalog.pg_description AS d ON d.classoid = 'pg_type'::regclass AND d.objoid = t.oid
    WHERE n.nspname = current_schema() AND t.typtype = 'd'
    UNION ALL
    SELECT
        'constraint' AS what,
        format('%s on %s', quote_ident(k.conname), quote_ident(c.relname)) AS name,
        format('constraint %s on %s', quote_ident(k.conname), quote_ident(c.relname)) AS part_of,
        d.description AS text
    FROM pg_catalog.pg_constraint AS k
    JOIN pg_catalog.pg_class AS c ON c.oid = k.conrelid
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_description AS d ON d.classoid = 'pg_constraint'::regclass AND d.objoid = k.oid
    WHERE n.nspname = current_schema()
)

SELECT
    'comment' AS kind,
    format('%s %s', o.what, o.name) AS object,
    '' AS aspect,
    o.part_of,
    o.text AS definition,
    '' AS shape,
    ARRAY[format('COMMENT ON %s %s IS %L', upper(o.what), o.name, o.text)] AS make,
    ARRAY[format('COMMENT ON %s %s IS NULL', upper(o.what), o.name)] AS remove,
    FALSE AS loses
FROM found AS o
ORDER BY object;
