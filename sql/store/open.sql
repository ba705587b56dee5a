-- Make this session the library's, and tell what it must know about the database.
--
-- What the role, the database or the environment set is overwritten.
--
-- schema: name of the schema that holds the tables

SELECT
    set_config('search_path', quote_ident(:'schema'::text) || ', pg_temp', FALSE) AS search_path,
    set_config('client_encoding', 'UTF8', FALSE) AS client_encoding,
    set_config('standard_conforming_strings', 'on', FALSE) AS standard_conforming_strings,
    set_config('datestyle', 'ISO, YMD', FALSE) AS datestyle,
    set_config('intervalstyle', 'postgres', FALSE) AS intervalstyle,
    set_config(
        'application_name', coalesce(nullif(current_setting('application_name'), ''), 'butido_store'), FALSE
    ) AS application_name,
    -- A server with LLVM would compile what is planned for many rows, however few there are.
    set_config('jit', 'off', FALSE) AS jit,
    current_database() AS database,
    current_setting('server_encoding') AS server_encoding,
    current_setting('server_version_num')::integer AS server_version,
    to_regnamespace(quote_ident(:'schema'::text)) IS NOT NULL AS has_schema,
    to_regclass(quote_ident(:'schema'::text) || '._yoyo_migration') IS NOT NULL AS is_migrated;
