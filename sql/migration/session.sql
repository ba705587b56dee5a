-- Which settings does this session have, and are the schema and the migrator's tables there?
--
-- schema: the schema that holds the store

SELECT
    quote_ident(:'schema'::text) AS search_path_wanted,
    current_setting('search_path') AS search_path,
    current_setting('lock_timeout') AS lock_timeout,
    current_setting('statement_timeout') AS statement_timeout,
    current_setting('datestyle') AS datestyle,
    current_setting('intervalstyle') AS intervalstyle,
    current_setting('role') AS role,
    (
        SELECT n.oid
        FROM pg_catalog.pg_namespace AS n
        WHERE n.nspname = :'schema'::text
    ) IS NOT NULL AS has_schema,
    (
        SELECT a.attnum
        FROM pg_catalog.pg_namespace AS n
        JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid
        WHERE
            n.nspname = :'schema'::text
            AND c.relname = '_yoyo_migration'
            AND a.attname = 'sha256'
            AND NOT a.attisdropped
    ) IS NOT NULL AS has_tables;
