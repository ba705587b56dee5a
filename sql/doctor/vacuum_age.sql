-- Which tables were not vacuumed for long though much of them changed?
--
-- Reads the server's statistics only. 0.6 ms with 100,000 jobs of bench/generate.py.
--
-- days: how long ago the last vacuum may be; 7 if not given
-- rows: rows that may have died or been added since, in a table of any size; 100,000 if not given
-- percent: and for every hundred that live; 30 if not given, as the server itself waits for 20

WITH given AS (
    SELECT
        coalesce(
\if :{?days}
            :'days'::bigint,
\endif
            7
        )::bigint AS days,
        coalesce(
\if :{?rows}
            :'rows'::bigint,
\endif
            100000
        )::bigint AS rows,
        coalesce(
\if :{?percent}
            :'percent'::bigint,
\endif
            30
        )::bigint AS percent
)

SELECT
    f.verdict,
    f.object,
    CASE
        WHEN f.verdict <> 'unknown'
            THEN format(
                '%s rows changed since %s', f.changed,
                coalesce(date_trunc('second', f.vacuumed)::text, 'it was made')
            )
    END AS value,
    format('%s rows within %s days', f.allowed, f.days) AS "limit",
    CASE f.verdict
        WHEN 'warn'
            THEN format('See that autovacuum is on and keeps up: VACUUM (ANALYZE, VERBOSE) %s;', f.object)
        WHEN 'unknown' THEN 'A standby does not count them: ask the primary.'
    END AS advice,
    CASE WHEN f.verdict <> 'unknown' THEN date_part('epoch', now() - f.vacuumed) END AS number
FROM (
    SELECT
        c.oid::regclass::text AS object,
        v.changed,
        v.vacuumed,
        v.allowed,
        g.days,
        CASE
            WHEN pg_is_in_recovery() THEN 'unknown'
            WHEN
                v.changed > v.allowed
                AND coalesce(v.vacuumed < now() - make_interval(days => g.days::integer), TRUE)
                THEN 'warn'
            ELSE 'ok'
        END AS verdict
    FROM given AS g
    CROSS JOIN pg_class AS c
    JOIN pg_stat_user_tables AS s ON s.relid = c.oid
    CROSS JOIN LATERAL (
        SELECT
            s.n_dead_tup + s.n_ins_since_vacuum AS changed,
            greatest(s.last_vacuum, s.last_autovacuum) AS vacuumed,
            g.rows + s.n_live_tup * g.percent / 100 AS allowed
    ) AS v
    WHERE c.relnamespace = to_regnamespace(quote_ident(current_schema())) AND c.relkind = 'r'
) AS f
ORDER BY f.verdict = 'ok', f.changed DESC, f.object COLLATE "C";
