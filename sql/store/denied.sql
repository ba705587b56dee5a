-- Which of these privileges does the role lack?
--
-- Read from the catalog, in the schemas of the search path; it needs no privilege itself. Whether the
-- role may use the schemas and call their functions is asked, too.
--
-- privileges: SELECT, INSERT, UPDATE or DELETE
-- names: of a table or view for each; what is not there is left out
-- schema: a schema that is not in the search path yet

WITH here AS (
    SELECT
        n.oid,
        n.nspname
    FROM pg_namespace AS n
    WHERE
        quote_ident(n.nspname)
        = ANY(string_to_array(replace(current_setting('search_path'), ', ', ','), ','))
\if :{?schema}
        OR n.nspname = :'schema'::text
\endif
),

needed AS (
    SELECT
        t.privilege,
        t.name
    FROM unnest(:'privileges'::text[], :'names'::text[]) AS t (privilege, name)
)

SELECT
    quote_ident(current_user) AS role,
    m.privilege,
    m.kind,
    m.object
FROM (
    SELECT
        'USAGE' AS privilege,
        'SCHEMA' AS kind,
        quote_ident(h.nspname) AS object
    FROM here AS h
    WHERE NOT has_schema_privilege(h.oid, 'USAGE')
    UNION ALL
    SELECT
        t.privilege,
        'TABLE' AS kind,
        format('%I.%I', h.nspname, c.relname) AS object
    FROM needed AS t
    JOIN pg_class AS c ON c.relname = t.name
    JOIN here AS h ON h.oid = c.relnamespace
    WHERE
        NOT CASE t.privilege
            -- A builder may write some columns of job only.
            WHEN 'UPDATE' THEN has_any_column_privilege(c.oid, 'UPDATE')
            ELSE has_table_privilege(c.oid, t.privilege)
        END
    UNION ALL
    -- All functions: views, checks and generated columns call them as the role, too.
    SELECT
        'EXECUTE' AS privilege,
        'FUNCTION' AS kind,
        format('%I.%I(%s)', h.nspname, f.proname, pg_get_function_identity_arguments(f.oid)) AS object
    FROM pg_proc AS f
    JOIN here AS h ON h.oid = f.pronamespace
    WHERE NOT has_function_privilege(f.oid, 'EXECUTE')
) AS m
ORDER BY m.kind, m.object COLLATE "C", m.privilege;
