-- Which sessions hold locks on tables of the schema that the search path names?
--
-- tables: only these, each with a lock that is held on it
-- modes: those locks, as pg_locks calls them

SELECT
    c.relname AS relation,
    l.pid,
    coalesce(a.usename, '') AS role,
    -- Of other roles' sessions only who may read all statistics is told.
    coalesce(a.state, 'in a state that is not shown') AS state,
    a.xact_start,
    a.query_start,
    string_agg(DISTINCT l.mode, ', ' ORDER BY l.mode) AS modes
FROM pg_catalog.pg_locks AS l
JOIN pg_catalog.pg_database AS d ON d.oid = l.database
JOIN pg_catalog.pg_class AS c ON c.oid = l.relation
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
WHERE
    d.datname = current_database()
    AND n.nspname = current_schema()
    AND c.relkind IN ('r', 'p', 'v', 'm')
    AND l.granted
    AND l.pid IS DISTINCT FROM pg_backend_pid()
\if :{?tables}
    AND EXISTS (
        SELECT 1
        FROM unnest(:'tables'::text[], :'modes'::text[]) AS w (relation, mode)
        WHERE w.relation = c.relname AND w.mode = l.mode
    )
\endif
GROUP BY c.relname, l.pid, a.usename, a.state, a.xact_start, a.query_start
ORDER BY a.xact_start NULLS FIRST, l.pid, c.relname;
