-- Which server process holds the lock of the schema's only migrator?
--
-- schema: the schema that holds the store

SELECT l.pid
FROM pg_catalog.pg_locks AS l
JOIN pg_catalog.pg_database AS d ON d.oid = l.database
WHERE
    l.locktype = 'advisory'
    AND l.granted
    AND d.datname = current_database()
    AND l.objsubid = 1
    AND (l.classid::bigint << 32 | l.objid::bigint)
    = hashtextextended('butido_store.migrate ' || :'schema'::text, 0)
ORDER BY l.pid;
