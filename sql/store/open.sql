-- Set what even a pooler keeps for each client, and tell what the library must know about the database.
--
-- schema: name of the schema that holds the tables

SELECT
    set_config('client_encoding', 'UTF8', FALSE) AS client_encoding,
    set_config('standard_conforming_strings', 'on', FALSE) AS standard_conforming_strings,
    set_config('datestyle', 'ISO, YMD', FALSE) AS datestyle,
    set_config(
        'application_name', coalesce(nullif(current_setting('application_name'), ''), 'butido_store'), FALSE
    ) AS application_name,
    current_database() AS database,
    current_setting('server_encoding') AS server_encoding,
    current_setting('server_version_num')::integer AS server_version,
    to_regnamespace(quote_ident(:'schema'::text)) IS NOT NULL AS has_schema,
    to_regclass(quote_ident(:'schema'::text) || '._yoyo_migration') IS NOT NULL AS is_migrated;
