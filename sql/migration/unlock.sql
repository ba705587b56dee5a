-- Give back the schema's migration lock, if this session holds it.
--
-- schema: the schema that holds the store

SELECT pg_advisory_unlock(hashtextextended('butido_store.migrate ' || :'schema'::text, 0)) AS unlocked;
