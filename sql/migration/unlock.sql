-- Did this session hold the lock of the schema's only migrator?
--
-- schema: the schema that holds the store

SELECT pg_advisory_unlock(hashtextextended('butido_store.migrate ' || :'schema'::text, 0)) AS unlocked;
