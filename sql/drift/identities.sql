-- Which columns of the schema that comes first in the search path are identities, and how do they count?
--
-- The result's columns are those of drift/tables. An identity that is added counts from 1: the second
-- statement has it go on after what is there.

WITH found AS (
    SELECT
        s.seqrelid::regclass AS sequence,
        quote_ident(c.relname) AS table_name,
        quote_ident(a.attname) AS name,
        format('%s.%s', quote_ident(c.relname), quote_ident(a.attname)) AS object,
        format('ALTER TABLE %s ALTER COLUMN %s', quote_ident(c.relname), quote_ident(a.attname)) AS alters,
        CASE a.attidentity WHEN 'a' THEN 'ALWAYS' ELSE 'BY DEFAULT' END AS generated,
        format(
            'AS %s INCREMENT %s MINVALUE %s MAXVALUE %s START %s CACHE %s %sCYCLE',
            format_type(s.seqtypid, NULL),
            s.seqincrement,
            s.seqmin,
            s.seqmax,
            s.seqstart,
            s.seqcache,
            CASE WHEN NOT s.seqcycle THEN 'NO ' END
        ) AS counting
    FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid
    JOIN pg_catalog.pg_depend AS d
        ON
            d.refclassid = 'pg_class'::regclass
            AND d.refobjid = c.oid
            AND d.refobjsubid = a.attnum
            AND d.classid = 'pg_class'::regclass
            AND d.deptype = 'i'
    JOIN pg_catalog.pg_sequence AS s ON s.seqrelid = d.objid
    WHERE n.nspname = current_schema() AND a.attidentity <> ''
)

SELECT
    'identity' AS kind,
    i.object,
    '' AS aspect,
    'column ' || i.object AS part_of,
    'identity' AS definition,
    '' AS shape,
    ARRAY[
        format('%s ADD GENERATED %s AS IDENTITY', i.alters, i.generated),
        format(
            'SELECT setval(pg_get_serial_sequence(%L, %L), coalesce(max(%s), 0) + 1, FALSE) FROM %s',
            i.table_name, i.name, i.name, i.table_name
        )
    ] AS make,
    ARRAY[i.alters || ' DROP IDENTITY'] AS remove,
    FALSE AS loses
FROM found AS i
UNION ALL
SELECT
    'identity' AS kind,
    i.object,
    p.aspect,
    'column ' || i.object AS part_of,
    p.definition,
    '' AS shape,
    ARRAY[p.make] AS make,
    NULL AS remove,
    FALSE AS loses
FROM found AS i
CROSS JOIN LATERAL (
    VALUES
    ('generated', i.generated, format('%s SET GENERATED %s', i.alters, i.generated)),
    ('sequence', i.counting, format('ALTER SEQUENCE %s %s', i.sequence, i.counting))
) AS p (aspect, definition, make)
ORDER BY object, aspect;
