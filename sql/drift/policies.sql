-- Which policies of the schema that comes first in the search path are for everybody?
--
-- The result's columns are those of drift/tables. Policies for roles belong to schema/roles.sql, and are not
-- compared.

SELECT
    'policy' AS kind,
    format('%s on %s', o.name, o.table_name) AS object,
    '' AS aspect,
    'table ' || o.table_name AS part_of,
    o.definition,
    NULL AS shape,
    ARRAY[format('CREATE POLICY %s ON %s %s', o.name, o.table_name, o.definition)] AS make,
    ARRAY[format('DROP POLICY %s ON %s', o.name, o.table_name)] AS remove,
    FALSE AS loses
FROM (
    SELECT
        quote_ident(o.polname) AS name,
        quote_ident(c.relname) AS table_name,
        format(
            'AS %s FOR %s TO PUBLIC%s%s',
            CASE WHEN o.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
            CASE o.polcmd
                WHEN 'r' THEN 'SELECT'
                WHEN 'a' THEN 'INSERT'
                WHEN 'w' THEN 'UPDATE'
                WHEN 'd' THEN 'DELETE'
                ELSE 'ALL'
            END,
            ' USING (' || pg_get_expr(o.polqual, o.polrelid) || ')',
            ' WITH CHECK (' || pg_get_expr(o.polwithcheck, o.polrelid) || ')'
        ) AS definition
    FROM pg_catalog.pg_policy AS o
    JOIN pg_catalog.pg_class AS c ON c.oid = o.polrelid
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = current_schema() AND o.polroles = '{0}'
) AS o
ORDER BY object;
