-- Which locks does this session hold on relations?

SELECT
    l.relation AS oid,
    l.mode
FROM pg_catalog.pg_locks AS l
WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND l.granted
ORDER BY l.relation, l.mode;
