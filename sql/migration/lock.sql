-- Take the schema's migration lock for this session, if nobody holds it.
--
-- A session that waits in pg_advisory_lock() holds a snapshot, for which CREATE INDEX CONCURRENTLY would
-- wait in turn: the migrator tries, and tries again.
--
-- schema: the schema that holds the store

SELECT pg_try_advisory_lock(hashtextextended('butido_store.migrate ' || :'schema'::text, 0)) AS locked;
