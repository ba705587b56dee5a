-- Which tables has the schema that comes first in the search path, and what is special about them?
--
-- In each file of this directory a row says: kind, object and aspect, what is described, the aspect empty for
-- the object itself; part_of, what the object comes and goes with; definition, what is compared, without the
-- schema's name; shape, what has to be the same if make is to change it in place (NULL: it never can); make,
-- statements that bring it about; remove, statements that take it away; loses, whether these lose data. An
-- aspect that is as by default is not told, except for those that each object has, which have no remove.

WITH found AS (
    SELECT
        c.oid,
        c.relkind,
        c.relpersistence,
        c.relreplident,
        c.relispartition,
        c.relpartbound,
        c.relrowsecurity,
        c.relforcerowsecurity,
        quote_ident(c.relname) AS name,
        'ALTER TABLE ' || quote_ident(c.relname) AS alters,
        (SELECT quote_ident(m.amname) FROM pg_catalog.pg_am AS m WHERE m.oid = c.relam) AS method,
        c.oid IN (SELECT o.polrelid FROM pg_catalog.pg_policy AS o) AS has_policies,
        c.oid IN (
            SELECT g.tgrelid
            FROM pg_catalog.pg_trigger AS g
            WHERE g.tgisinternal AND g.tgenabled <> 'O'
        ) AS is_unchecked
    FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p', 'f')
)

SELECT
    'table' AS kind,
    t.name AS object,
    '' AS aspect,
    NULL AS part_of,
    'table' AS definition,
    '' AS shape,
    ARRAY[format('CREATE TABLE %s ()', t.name)] AS make,
    ARRAY[format('DROP %sTABLE %s', CASE WHEN t.relkind = 'f' THEN 'FOREIGN ' ELSE '' END, t.name)] AS remove,
    TRUE AS loses
FROM found AS t
UNION ALL
SELECT
    'table' AS kind,
    t.name AS object,
    d.aspect,
    NULL AS part_of,
    d.definition,
    '' AS shape,
    ARRAY[d.make] AS make,
    ARRAY[d.remove] AS remove,
    FALSE AS loses
FROM found AS t
CROSS JOIN LATERAL (
    VALUES
    (
        'partitions',
        CASE t.relkind WHEN 'f' THEN 'foreign' WHEN 'p' THEN pg_get_partkeydef(t.oid) END,
        NULL,
        NULL
    ),
    (
        'persistence',
        CASE t.relpersistence WHEN 'u' THEN 'unlogged' END,
        t.alters || ' SET UNLOGGED',
        t.alters || ' SET LOGGED'
    ),
    (
        'replica identity',
        CASE t.relreplident WHEN 'n' THEN 'nothing' WHEN 'f' THEN 'full' WHEN 'i' THEN 'an index' END,
        NULL,
        t.alters || ' REPLICA IDENTITY DEFAULT'
    ),
    (
        'access method',
        nullif(t.method, 'heap'),
        t.alters || ' SET ACCESS METHOD ' || t.method,
        t.alters || ' SET ACCESS METHOD heap'
    ),
    (
        -- Policies belong to the roles that they name, and so does this switch: it has to fit them.
        'row security',
        CASE
            WHEN t.has_policies AND NOT t.relrowsecurity THEN 'off, with policies'
            WHEN t.relrowsecurity AND NOT t.has_policies THEN 'on, without a policy'
        END,
        NULL,
        t.alters || CASE WHEN t.has_policies THEN ' ENABLE' ELSE ' DISABLE' END || ' ROW LEVEL SECURITY'
    ),
    (
        'row security of its owner',
        CASE WHEN t.relforcerowsecurity THEN 'forced' END,
        t.alters || ' FORCE ROW LEVEL SECURITY',
        t.alters || ' NO FORCE ROW LEVEL SECURITY'
    ),
    (
        'foreign keys',
        CASE WHEN t.is_unchecked THEN 'not checked, their triggers are disabled' END,
        NULL,
        t.alters || ' ENABLE TRIGGER ALL'
    )
) AS d (aspect, definition, make, remove)
WHERE d.definition IS NOT NULL
UNION ALL
SELECT
    'inheritance' AS kind,
    format('%s from %s', t.name, i.inhparent::regclass) AS object,
    '' AS aspect,
    'table ' || t.name AS part_of,
    CASE WHEN t.relispartition THEN pg_get_expr(t.relpartbound, t.oid) ELSE 'INHERITS' END AS definition,
    NULL AS shape,
    NULL AS make,
    ARRAY[
        CASE
            WHEN t.relispartition
                THEN format('ALTER TABLE %s DETACH PARTITION %s', i.inhparent::regclass, t.name)
            ELSE format('%s NO INHERIT %s', t.alters, i.inhparent::regclass)
        END
    ] AS remove,
    FALSE AS loses
FROM found AS t
JOIN pg_catalog.pg_inherits AS i ON i.inhrelid = t.oid
ORDER BY kind, object, aspect;
