-- How is this session set, and what of the migrator's is there already?
--
-- schema: the schema that holds the store

SELECT
    quote_ident(:'schema'::text) AS search_path_wanted,
    current_setting('search_path') AS search_path,
    current_setting('lock_timeout') AS lock_timeout,
    current_setting('statement_timeout') AS statement_timeout,
    (
        SELECT count(*)
        FROM pg_catalog.pg_namespace AS n
        WHERE n.nspname = :'schema'::text
    ) > 0 AS has_schema,
    (
        SELECT count(*)
        FROM pg_catalog.pg_namespace AS n
        JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid
        WHERE
            n.nspname = :'schema'::text
            AND c.relname = '_yoyo_migration'
            AND a.attname = 'sha256'
            AND NOT a.attisdropped
    ) > 0 AS has_tables;
