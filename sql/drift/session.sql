-- Look at one schema until the transaction ends: what may this role do there?
--
-- No look at the catalog waits long for somebody who is changing it. The other settings decide how PostgreSQL
-- prints a definition: they are those of pg_dump.
--
-- schema: the schema that is looked at

SELECT
    set_config('search_path', quote_ident(:'schema'::text), TRUE) AS search_path,
    set_config('lock_timeout', '5s', TRUE) AS lock_timeout,
    set_config('quote_all_identifiers', 'off', TRUE) AS quote_all_identifiers,
    set_config('DateStyle', 'ISO', TRUE) AS date_style,
    set_config('IntervalStyle', 'postgres', TRUE) AS interval_style,
    set_config('extra_float_digits', '3', TRUE) AS extra_float_digits,
    -- Without the privilege its objects are printed with the schema's name.
    has_schema_privilege(n.oid, 'USAGE') AS may_look,
    (
        has_database_privilege(current_database(), 'CREATE')
        AND current_setting('transaction_read_only') = 'off'
    ) AS may_create
FROM pg_catalog.pg_namespace AS n
WHERE n.nspname = :'schema'::text
ORDER BY n.oid;
