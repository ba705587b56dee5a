-- Which privileges has everybody, which may be passed on, and what belongs to another role than the rest?
--
-- The result's columns are those of drift/tables. What else is granted belongs to schema/roles.sql, and is
-- not compared.

WITH owned AS (
    SELECT
        c.relowner AS owner,
        c.relacl AS acl,
        CASE c.relkind
            WHEN 'S' THEN 'SEQUENCE'
            WHEN 'v' THEN 'VIEW'
            WHEN 'm' THEN 'MATERIALIZED VIEW'
            ELSE 'TABLE'
        END AS what,
        CASE c.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE '' END || quote_ident(c.relname) AS grants_on,
        quote_ident(c.relname) AS name,
        -- An owned sequence changes hands with its table.
        c.relkind <> 'S' AS has_owner
    FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S')
    UNION ALL
    SELECT
        p.proowner AS owner,
        -- Everybody may call a function, unless that was taken away.
        NULL AS acl,
        'ROUTINE' AS what,
        NULL AS grants_on,
        format('%I(%s)', p.proname, oidvectortypes(p.proargtypes)) AS name,
        TRUE AS has_owner
    FROM pg_catalog.pg_proc AS p
    JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
    WHERE n.nspname = current_schema()
    UNION ALL
    SELECT
        t.typowner AS owner,
        -- Everybody may use a domain, unless that was taken away.
        NULL AS acl,
        'DOMAIN' AS what,
        NULL AS grants_on,
        quote_ident(t.typname) AS name,
        TRUE AS has_owner
    FROM pg_catalog.pg_type AS t
    JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace
    WHERE n.nspname = current_schema() AND t.typtype = 'd'
),

granted AS (
    SELECT
        o.owner,
        o.grants_on,
        x.privilege_type AS privilege,
        x.grantee,
        x.is_grantable
    FROM owned AS o
    CROSS JOIN LATERAL aclexplode(o.acl) AS x
    UNION ALL
    SELECT
        c.relowner AS owner,
        quote_ident(c.relname) AS grants_on,
        format('%s (%s)', x.privilege_type, quote_ident(a.attname)) AS privilege,
        x.grantee,
        x.is_grantable
    FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid
    CROSS JOIN LATERAL aclexplode(a.attacl) AS x
    WHERE n.nspname = current_schema()
    UNION ALL
    SELECT
        n.nspowner AS owner,
        'SCHEMA ' || quote_ident(n.nspname) AS grants_on,
        x.privilege_type AS privilege,
        x.grantee,
        x.is_grantable
    FROM pg_catalog.pg_namespace AS n
    CROSS JOIN LATERAL aclexplode(n.nspacl) AS x
    WHERE n.nspname = current_schema()
),

-- The owner of most of it.
usual AS (
    SELECT mode() WITHIN GROUP (ORDER BY o.owner) AS owner
    FROM owned AS o
    WHERE o.has_owner
)

SELECT
    'privilege' AS kind,
    format('%s on %s to PUBLIC', g.privilege, g.grants_on) AS object,
    '' AS aspect,
    NULL AS part_of,
    'granted' AS definition,
    NULL AS shape,
    NULL AS make,
    ARRAY[format('REVOKE %s ON %s FROM PUBLIC', g.privilege, g.grants_on)] AS remove,
    FALSE AS loses
FROM granted AS g
WHERE g.grantee = 0
UNION ALL
SELECT
    'privilege' AS kind,
    format('%s on %s to %s', g.privilege, g.grants_on, g.grantee::regrole) AS object,
    '' AS aspect,
    NULL AS part_of,
    'granted with grant option' AS definition,
    NULL AS shape,
    NULL AS make,
    ARRAY[
        format('REVOKE GRANT OPTION FOR %s ON %s FROM %s', g.privilege, g.grants_on, g.grantee::regrole)
    ] AS remove,
    FALSE AS loses
FROM granted AS g
WHERE g.grantee NOT IN (0, g.owner) AND g.is_grantable
UNION ALL
SELECT
    'owner' AS kind,
    format('%s %s', lower(o.what), o.name) AS object,
    '' AS aspect,
    NULL AS part_of,
    o.owner::regrole::text AS definition,
    NULL AS shape,
    NULL AS make,
    ARRAY[format('ALTER %s %s OWNER TO %s', o.what, o.name, m.owner::regrole)] AS remove,
    FALSE AS loses
FROM owned AS o
CROSS JOIN usual AS m
WHERE o.has_owner AND o.owner <> m.owner
ORDER BY kind, object;
