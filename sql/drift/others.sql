-- Which other objects has the schema that comes first in the search path: sequences, triggers, rules, types?
--
-- The result's columns are those of drift/tables. The migrations make none of these, so that what one is like
-- matters less. The sequence of an identity is in drift/identities, a domain in drift/domains.

WITH found AS (
    SELECT
        'sequence' AS kind,
        quote_ident(c.relname) AS object,
        NULL AS part_of,
        'sequence' AS definition,
        'CREATE SEQUENCE ' || quote_ident(c.relname) AS make,
        'DROP SEQUENCE ' || quote_ident(c.relname) AS remove
    FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE
        n.nspname = current_schema()
        AND c.relkind = 'S'
        AND NOT EXISTS (
            SELECT 1
            FROM pg_catalog.pg_depend AS d
            WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'i'
        )
    UNION ALL
    SELECT
        'trigger' AS kind,
        format('%s on %s', quote_ident(t.tgname), quote_ident(c.relname)) AS object,
        'table ' || quote_ident(c.relname) AS part_of,
        pg_get_triggerdef(t.oid, TRUE) AS definition,
        pg_get_triggerdef(t.oid, TRUE) AS make,
        format('DROP TRIGGER %s ON %s', quote_ident(t.tgname), quote_ident(c.relname)) AS remove
    FROM pg_catalog.pg_trigger AS t
    JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = current_schema() AND NOT t.tgisinternal
    UNION ALL
    SELECT
        'rule' AS kind,
        format('%s on %s', quote_ident(r.rulename), quote_ident(c.relname)) AS object,
        CASE c.relkind WHEN 'v' THEN 'view ' ELSE 'table ' END || quote_ident(c.relname) AS part_of,
        pg_get_ruledef(r.oid, TRUE) AS definition,
        pg_get_ruledef(r.oid, TRUE) AS make,
        format('DROP RULE %s ON %s', quote_ident(r.rulename), quote_ident(c.relname)) AS remove
    FROM pg_catalog.pg_rewrite AS r
    JOIN pg_catalog.pg_class AS c ON c.oid = r.ev_class
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = current_schema() AND r.rulename <> '_RETURN'
    UNION ALL
    SELECT
        'type' AS kind,
        quote_ident(t.typname) AS object,
        NULL AS part_of,
        CASE t.typtype WHEN 'e' THEN 'enum' WHEN 'c' THEN 'composite' ELSE 'other' END AS definition,
        NULL AS make,
        'DROP TYPE ' || quote_ident(t.typname) AS remove
    FROM pg_catalog.pg_type AS t
    JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace
    LEFT JOIN pg_catalog.pg_class AS c ON c.oid = t.typrelid
    WHERE
        n.nspname = current_schema()
        -- Each table has a type, and each type one of its arrays.
        AND coalesce(c.relkind, 'c') = 'c'
        AND t.typtype IN ('e', 'c', 'r', 'b')
        AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_type AS e WHERE e.typarray = t.oid)
    UNION ALL
    SELECT
        'statistics' AS kind,
        quote_ident(s.stxname) AS object,
        'table ' || quote_ident(c.relname) AS part_of,
        'statistics' AS definition,
        NULL AS make,
        'DROP STATISTICS ' || quote_ident(s.stxname) AS remove
    FROM pg_catalog.pg_statistic_ext AS s
    JOIN pg_catalog.pg_class AS c ON c.oid = s.stxrelid
    JOIN pg_catalog.pg_namespace AS n ON n.oid = s.stxnamespace
    WHERE n.nspname = current_schema()
    UNION ALL
    SELECT
        'collation' AS kind,
        quote_ident(l.collname) AS object,
        NULL AS part_of,
        'collation' AS definition,
        NULL AS make,
        'DROP COLLATION ' || quote_ident(l.collname) AS remove
    FROM pg_catalog.pg_collation AS l
    JOIN pg_catalog.pg_namespace AS n ON n.oid = l.collnamespace
    WHERE n.nspname = current_schema()
    UNION ALL
    SELECT
        'operator' AS kind,
        o.oid::regoperator::text AS object,
        NULL AS part_of,
        'operator' AS definition,
        NULL AS make,
        'DROP OPERATOR ' || o.oid::regoperator::text AS remove
    FROM pg_catalog.pg_operator AS o
    JOIN pg_catalog.pg_namespace AS n ON n.oid = o.oprnamespace
    WHERE n.nspname = current_schema()
)

SELECT
    o.kind,
    o.object,
    '' AS aspect,
    o.part_of,
    o.definition,
    NULL AS shape,
    ARRAY[o.make] AS make,
    ARRAY[o.remove] AS remove,
    FALSE AS loses
FROM found AS o
ORDER BY o.kind, o.object;
