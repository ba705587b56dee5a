-- What stands in the schema that the search path names, and what of it has this transaction scanned?

SELECT
    c.oid,
    c.relname AS name,
    c.relkind AS kind,
    -- A lock on an index or on a column's sequence is in the way of who uses its table.
    coalesce(o.relname, c.relname) AS owner,
    coalesce(pg_relation_filenode(c.oid), 0) AS filenode,
    coalesce(pg_stat_get_xact_numscans(c.oid), 0) AS scans,
    ARRAY(
        SELECT a.attname
        FROM pg_catalog.pg_attribute AS a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        ORDER BY a.attnum
    ) AS columns
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_index AS x ON x.indexrelid = c.oid
LEFT JOIN pg_catalog.pg_depend AS d
    ON
        c.relkind = 'S'
        AND d.classid = 'pg_class'::regclass
        AND d.objid = c.oid
        AND d.refclassid = 'pg_class'::regclass
        AND d.deptype IN ('a', 'i')
LEFT JOIN pg_catalog.pg_class AS o ON o.oid = coalesce(x.indrelid, d.refobjid)
WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p', 'v', 'm', 'i', 'I', 'S')
ORDER BY c.oid;
