-- Set this session's search path to a schema, and tell what the library must know about the database.
--
-- schema: name of the schema that holds the tables

SELECT
    set_config('search_path', quote_ident(:'schema'::text), FALSE) AS search_path,
    -- A server with LLVM would compile what is planned for many rows, however few there are.
    set_config('jit', 'off', FALSE) AS jit,
    current_database() AS database,
    current_setting('server_encoding') AS server_encoding,
    current_setting('server_version_num')::integer AS server_version,
    to_regnamespace(quote_ident(:'schema'::text)) IS NOT NULL AS has_schema,
    to_regclass(quote_ident(:'schema'::text) || '._yoyo_migration') IS NOT NULL AS is_migrated;
