-- Which server process holds the schema's migration lock?
--
-- schema: the schema that holds the store

SELECT l.pid
FROM pg_catalog.pg_locks AS l
JOIN pg_catalog.pg_database AS d ON d.oid = l.database
WHERE
    l.locktype = 'advisory'
    AND l.granted
    AND d.datname = current_database()
    -- pg_locks shows the bigint of an advisory lock in two halves, and objsubid 1.
    AND l.objsubid = 1
    AND (l.classid::bigint << 32 | l.objid::bigint)
    = hashtextextended('butido_store.migrate ' || :'schema'::text, 0)
ORDER BY l.pid;
