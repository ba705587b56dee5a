-- Which transactions in this database are open for long, and hold vacuum back?
--
-- Reads the list of sessions, and of prepared transactions. 0.2 ms with 100,000 jobs of bench/generate.py.
--
-- seconds: how long one may take; 3600 if not given
-- idle_seconds: how long one may wait for its client's next statement; 600 if not given

WITH given AS (
    SELECT
        coalesce(
\if :{?seconds}
            :'seconds'::bigint,
\endif
            3600
        )::bigint AS seconds,
        coalesce(
\if :{?idle_seconds}
            :'idle_seconds'::bigint,
\endif
            600
        )::bigint AS idle_seconds
)

SELECT
    f.verdict,
    f.object,
    f.value,
    f."limit",
    CASE f.verdict
        WHEN 'warn' THEN f.advice
        WHEN 'unknown'
            THEN format('See them as a member of pg_monitor: GRANT pg_monitor TO %I;', current_user)
    END AS advice,
    f.number
FROM (
    SELECT
        CASE WHEN x.object IS NULL THEN 'ok' WHEN x.age IS NULL THEN 'unknown' ELSE 'warn' END AS verdict,
        coalesce(x.object, 'all sessions') AS object,
        coalesce(x.what || ' for ' || date_trunc('second', x.age)::text, 'no long transaction') AS value,
        make_interval(secs => coalesce(x.allowed, g.seconds))::text AS "limit",
        x.advice,
        coalesce(date_part('epoch', x.age), 0) AS number
    FROM given AS g
    LEFT JOIN LATERAL (
        SELECT
            format('process %s of %s (%s)', a.pid, a.usename, a.application_name) AS object,
            CASE WHEN a.state LIKE 'idle%' THEN 'idle in its transaction' ELSE 'at work in one' END AS what,
            CASE
                WHEN a.state LIKE 'idle%' AND a.xact_start >= now() - make_interval(secs => g.seconds)
                    THEN clock_timestamp() - a.state_change
                ELSE clock_timestamp() - a.xact_start
            END AS age,
            CASE WHEN a.state LIKE 'idle%' THEN g.idle_seconds ELSE g.seconds END AS allowed,
            format('Where it is not meant: SELECT pg_terminate_backend(%s);', a.pid) AS advice
        FROM pg_stat_activity AS a
        WHERE
            a.datname = current_database()
            AND a.pid <> pg_backend_pid()
            AND a.backend_type = 'client backend'
            AND (
                a.xact_start < now() - make_interval(secs => g.seconds)
                OR (
                    a.state LIKE 'idle in transaction%'
                    AND a.state_change < now() - make_interval(secs => g.idle_seconds)
                )
            )
        UNION ALL
        SELECT
            format('prepared transaction %L of %s', p.gid, p.owner) AS object,
            'prepared' AS what,
            clock_timestamp() - p.prepared AS age,
            g.seconds AS allowed,
            format('Where nobody will end it: ROLLBACK PREPARED %L;', p.gid) AS advice
        FROM pg_prepared_xacts AS p
        WHERE p.database = current_database() AND p.prepared < now() - make_interval(secs => g.seconds)
        UNION ALL
        -- The server hides from a role what others do, but for that they are there.
        SELECT
            format('%s sessions of other roles', count(*)) AS object,
            'not seen' AS what,
            NULL AS age,
            NULL AS allowed,
            NULL AS advice
        FROM pg_stat_activity AS a
        WHERE a.datname = current_database() AND a.usesysid IS NOT NULL AND a.backend_type IS NULL
        HAVING count(*) > 0
    ) AS x ON TRUE
) AS f
ORDER BY f.number DESC, f.object COLLATE "C";
