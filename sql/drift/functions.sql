-- Which functions has the schema that comes first in the search path?
--
-- The result's columns are those of drift/tables.

SELECT
    'function' AS kind,
    p.name AS object,
    '' AS aspect,
    NULL AS part_of,
    p.definition,
    -- CREATE OR REPLACE changes neither the arguments' names nor the result.
    p.arguments || ' RETURNS ' || p.result AS shape,
    ARRAY[p.definition] AS make,
    ARRAY['DROP ROUTINE ' || p.name] AS remove,
    FALSE AS loses
FROM (
    SELECT
        format('%I(%s)', p.proname, oidvectortypes(p.proargtypes)) AS name,
        pg_get_function_identity_arguments(p.oid) AS arguments,
        coalesce(pg_get_function_result(p.oid), '') AS result,
        CASE
            WHEN p.prokind = 'a' THEN 'aggregate'
            -- Its first line names the schema, whatever the search path.
            ELSE l.first || substr(
                pg_get_functiondef(p.oid), length(l.first || quote_ident(n.nspname) || '.') + 1
            )
        END AS definition
    FROM pg_catalog.pg_proc AS p
    JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
    CROSS JOIN LATERAL (
        SELECT
            CASE p.prokind WHEN 'p' THEN 'CREATE OR REPLACE PROCEDURE ' ELSE 'CREATE OR REPLACE FUNCTION ' END
                AS first
    ) AS l
    WHERE n.nspname = current_schema()
) AS p
ORDER BY object;
