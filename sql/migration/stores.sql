-- Which schemas of this database hold a store?

SELECT n.nspname AS schema
FROM pg_catalog.pg_namespace AS n
JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid
JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid
WHERE
    c.relname = '_yoyo_migration'
    AND a.attname = 'sha256'
    AND NOT a.attisdropped
    -- In this one a plan tries migrations out.
    AND n.nspname <> 'butido_store_plan'
ORDER BY n.nspname;
