-- Which storage parameters are set, of tables and their TOAST tables, views and indexes of constraints?
--
-- The result's columns are those of drift/tables. Those of other indexes are part of their definitions.

WITH found AS (
    SELECT
        c.relkind,
        c.reloptions,
        quote_ident(c.relname) AS name,
        '' AS prefix
    FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE
        n.nspname = current_schema()
        AND (
            c.relkind IN ('r', 'p', 'v', 'm')
            OR EXISTS (
                SELECT 1
                FROM pg_catalog.pg_constraint AS k
                WHERE k.conindid = c.oid AND k.contype IN ('p', 'u', 'x')
            )
        )
    UNION ALL
    SELECT
        c.relkind,
        t.reloptions,
        quote_ident(c.relname) AS name,
        'toast.' AS prefix
    FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_class AS t ON t.oid = c.reltoastrelid
    WHERE n.nspname = current_schema()
)

SELECT
    'storage parameter' AS kind,
    format('%s.%s', r.name, p.name) AS object,
    '' AS aspect,
    r.what || ' ' || r.name AS part_of,
    p.value AS definition,
    '' AS shape,
    ARRAY[format('ALTER %s %s SET (%s = %L)', upper(r.what), r.name, p.name, p.value)] AS make,
    ARRAY[format('ALTER %s %s RESET (%s)', upper(r.what), r.name, p.name)] AS remove,
    FALSE AS loses
FROM (
    SELECT
        r.name,
        r.prefix,
        r.reloptions,
        CASE r.relkind
            WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'i' THEN 'index' ELSE 'table'
        END AS what
    FROM found AS r
) AS r
CROSS JOIN LATERAL unnest(r.reloptions) AS o (text)
CROSS JOIN LATERAL (
    SELECT
        r.prefix || split_part(o.text, '=', 1) AS name,
        substr(o.text, position('=' IN o.text) + 1) AS value
) AS p
ORDER BY object;
