-- Does this session hold the lock of the schema's only migrator now?
--
-- A session that waits in pg_advisory_lock() holds a snapshot, and CREATE INDEX CONCURRENTLY
-- waits for every snapshot: hence tried, and tried again later.
--
-- schema: the schema that holds the store

SELECT pg_try_advisory_lock(hashtextextended('butido_store.migrate ' || :'schema'::text, 0)) AS locked;
