-- How many of the server's connections are in use?
--
-- Reads the list of sessions. Each pool of a builder may open all that its max_size allows.
-- 0.6 ms with 100,000 jobs of bench/generate.py.
--
-- percent: of those that there can be; 80 if not given

WITH given AS (
    SELECT
        coalesce(
\if :{?percent}
            :'percent'::bigint,
\endif
            80
        )::bigint AS percent
)

SELECT
    f.verdict,
    f.object,
    f.used::text AS value,
    format('%s of %s', f.allowed, f.possible) AS "limit",
    CASE
        WHEN f.verdict <> 'ok'
            THEN 'Make the pools smaller, put pgbouncer between, or raise max_connections and restart.'
    END AS advice,
    f.used::double precision AS number
FROM (
    SELECT
        'connections' AS object,
        u.used,
        m.possible,
        m.possible * g.percent / 100 AS allowed,
        CASE WHEN u.used > m.possible * g.percent / 100 THEN 'warn' ELSE 'ok' END AS verdict
    FROM given AS g
    CROSS JOIN (
        SELECT count(*) AS used
        FROM pg_stat_activity AS a
        -- The kind of other roles' sessions is hidden; what the server runs itself has no role.
        WHERE a.usesysid IS NOT NULL AND coalesce(a.backend_type, 'client backend') = 'client backend'
    ) AS u
    CROSS JOIN (
        SELECT
            sum(
                CASE s.name WHEN 'max_connections' THEN s.setting::bigint ELSE -s.setting::bigint END
            )::bigint AS possible
        FROM pg_settings AS s
        WHERE s.name IN ('max_connections', 'reserved_connections', 'superuser_reserved_connections')
    ) AS m
) AS f
ORDER BY f.object COLLATE "C";
