-- Which sessions of this database have waited for a lock for long, and who holds it?
--
-- Reads the table of locks. 0.2 ms with 100,000 jobs of bench/generate.py.
--
-- seconds: how long one may wait; 60 if not given

WITH given AS (
    SELECT
        coalesce(
\if :{?seconds}
            :'seconds'::bigint,
\endif
            60
        )::bigint AS seconds
)

SELECT
    f.verdict,
    f.object,
    f.value,
    f."limit",
    CASE f.verdict
        WHEN 'warn'
            THEN CASE
                WHEN f.pids = '{}' THEN 'Nobody is in the way by now.'
                WHEN 0 = ANY(f.pids)
                    THEN 'A prepared transaction is in the way: end one that pg_prepared_xacts shows.'
                ELSE
                    format(
                        'Process %s is in the way; where it is not meant: SELECT pg_terminate_backend(%s);',
                        array_to_string(f.pids, ', '), f.pids[1]
                    )
            END
    END AS advice,
    f.number
FROM (
    SELECT
        CASE WHEN x.pid IS NULL THEN 'ok' ELSE 'warn' END AS verdict,
        CASE
            WHEN x.pid IS NULL THEN 'all sessions' ELSE format('process %s of %s', x.pid, x.usename)
        END AS object,
        CASE
            WHEN x.pid IS NULL THEN 'no long wait'
            ELSE format('waits for %s for %s', x.mode, date_trunc('second', x.age))
        END AS value,
        make_interval(secs => g.seconds)::text AS "limit",
        x.pids,
        coalesce(date_part('epoch', x.age), 0) AS number
    FROM given AS g
    LEFT JOIN LATERAL (
        SELECT
            l.pid,
            a.usename,
            l.mode || coalesce(' on ' || l.relation::regclass::text, '') AS mode,
            clock_timestamp() - l.waitstart AS age,
            -- A prepared transaction is 0.
            pg_blocking_pids(l.pid) AS pids
        FROM pg_locks AS l
        JOIN pg_stat_activity AS a ON a.pid = l.pid
        WHERE
            NOT l.granted
            AND a.datname = current_database()
            AND l.waitstart < now() - make_interval(secs => g.seconds)
    ) AS x ON TRUE
) AS f
ORDER BY f.number DESC, f.object COLLATE "C";
