-- Which views has the schema that comes first in the search path?
--
-- The result's columns are those of drift/tables.

SELECT
    v.what AS kind,
    v.name AS object,
    '' AS aspect,
    NULL AS part_of,
    v.definition,
    -- CREATE OR REPLACE changes no column.
    CASE v.what WHEN 'view' THEN v.columns END AS shape,
    ARRAY[
        format(
            'CREATE %s %s AS%s',
            CASE v.what WHEN 'view' THEN 'OR REPLACE VIEW' ELSE 'MATERIALIZED VIEW' END,
            v.name,
            E'\n' || rtrim(v.definition, ';')
        )
    ] AS make,
    ARRAY[format('DROP %s %s', upper(v.what), v.name)] AS remove,
    FALSE AS loses
FROM (
    SELECT
        quote_ident(c.relname) AS name,
        CASE c.relkind WHEN 'v' THEN 'view' ELSE 'materialized view' END AS what,
        pg_get_viewdef(c.oid, TRUE) AS definition,
        (
            SELECT
                string_agg(
                    format(
                        '%I %s %s',
                        a.attname, format_type(a.atttypid, a.atttypmod), a.attcollation::regcollation
                    ),
                    ', ' ORDER BY a.attnum
                )
            FROM pg_catalog.pg_attribute AS a
            WHERE a.attrelid = c.oid AND a.attnum > 0
        ) AS columns
    FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = current_schema() AND c.relkind IN ('v', 'm')
) AS v
ORDER BY kind, object;
