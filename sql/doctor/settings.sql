-- Which settings lose what was written, keep vacuum off, or end what the store's users do?
--
-- Those of this session, and those that a role or the database has for others. Reads the catalog only.
-- 0.7 ms with 100,000 jobs of bench/generate.py.
--
-- seconds: the shortest time that a timeout may be; 10 if not given

WITH given AS (
    SELECT
        coalesce(
\if :{?seconds}
            :'seconds'::bigint,
\endif
            10
        )::bigint AS seconds
),

wanted AS (
    SELECT
        w.name,
        w.pattern,
        w.wanted,
        w.verdict,
        w.advice
    FROM (
        VALUES
        ('autovacuum', '^(on|true|yes|1)$', 'on', 'bad', 'Tables grow, and one day the server stops.'),
        ('fsync', '^(on|true|yes|1)$', 'on', 'bad', 'A crash of the machine destroys the database.'),
        ('full_page_writes', '^(on|true|yes|1)$', 'on', 'bad', 'A crash of the machine destroys pages.'),
        (
            'synchronous_commit', '^(on|true|yes|1|remote_write|remote_apply)$', 'on', 'warn',
            'A crash loses writes that were acknowledged.'
        ),
        ('track_counts', '^(on|true|yes|1)$', 'on', 'bad', 'Autovacuum does nothing without.')
    ) AS w (name, pattern, wanted, verdict, advice)
    UNION ALL
    SELECT
        t.name,
        NULL AS pattern,
        format('0, or %s s and more', g.seconds) AS wanted,
        'warn' AS verdict,
        'It ends what the store does: give it to the roles that need it, longer, or not at all.' AS advice
    FROM given AS g
    CROSS JOIN (
        VALUES
        ('idle_in_transaction_session_timeout'),
        ('idle_session_timeout'),
        ('lock_timeout'),
        ('statement_timeout'),
        ('transaction_timeout')
    ) AS t (name)
),

found AS (
    SELECT
        s.name,
        s.setting AS value,
        s.name AS object
    FROM pg_settings AS s
    UNION ALL
    SELECT
        split_part(c.setting, '=', 1) AS name,
        substr(c.setting, position('=' IN c.setting) + 1) AS value,
        split_part(c.setting, '=', 1)
        || coalesce(' of role ' || quote_ident(r.rolname), '')
        || coalesce(' in database ' || quote_ident(d.datname), '') AS object
    FROM pg_db_role_setting AS o
    CROSS JOIN LATERAL unnest(o.setconfig) AS c (setting)
    LEFT JOIN pg_roles AS r ON r.oid = o.setrole
    LEFT JOIN pg_database AS d ON d.oid = o.setdatabase
    WHERE d.datname IS NULL OR d.datname = current_database()
)

SELECT
    f.verdict,
    f.object,
    f.value,
    f.wanted AS "limit",
    CASE WHEN f.verdict <> 'ok' THEN f.advice END AS advice,
    NULL::double precision AS number
FROM (
    SELECT
        s.object,
        s.value,
        w.wanted,
        w.advice,
        CASE
            WHEN w.pattern IS NOT NULL THEN CASE WHEN s.value ~* w.pattern THEN 'ok' ELSE w.verdict END
            WHEN t.seconds > 0 AND t.seconds < g.seconds THEN w.verdict
            ELSE 'ok'
        END AS verdict
    FROM given AS g
    CROSS JOIN wanted AS w
    JOIN found AS s ON s.name = w.name
    CROSS JOIN LATERAL (
        SELECT
            CASE
                WHEN w.pattern IS NULL AND s.value ~ '^\s*[0-9]+(\.[0-9]+)?\s*(us|ms|s|min|h|d)?\s*$'
                    THEN
                        substring(s.value FROM '[0-9.]+')::numeric
                        * CASE substring(s.value FROM '[a-z]+')
                            WHEN 'us' THEN 0.000001
                            WHEN 's' THEN 1
                            WHEN 'min' THEN 60
                            WHEN 'h' THEN 3600
                            WHEN 'd' THEN 86400
                            ELSE 0.001
                        END
            END AS seconds
    ) AS t
) AS f
ORDER BY f.verdict = 'ok', f.object COLLATE "C";
