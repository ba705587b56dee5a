-- Which tables hold more dead rows than vacuum should leave?
--
-- A long text has its own table, and dead rows there, too. Reads the server's statistics only.
-- 0.8 ms with 100,000 jobs of bench/generate.py.
--
-- rows: dead rows that a table of any size may have; 50,000 if not given
-- percent: and for every hundred that live; 10 if not given

WITH given AS (
    SELECT
        coalesce(
\if :{?rows}
            :'rows'::bigint,
\endif
            50000
        )::bigint AS rows,
        coalesce(
\if :{?percent}
            :'percent'::bigint,
\endif
            10
        )::bigint AS percent
)

SELECT
    f.verdict,
    f.object,
    CASE WHEN f.verdict <> 'unknown' THEN f.dead::text END AS value,
    f.allowed::text AS "limit",
    CASE f.verdict
        WHEN 'warn'
            THEN format(
                'Autovacuum does not keep up, or an old transaction holds it back, which the check '
                'transactions shows: VACUUM (VERBOSE) %s;', f.name
            )
        WHEN 'unknown' THEN 'A standby does not count them: ask the primary.'
    END AS advice,
    CASE WHEN f.verdict <> 'unknown' THEN f.dead END::double precision AS number
FROM (
    SELECT
        c.oid::regclass::text AS name,
        c.oid::regclass::text || CASE WHEN s.relid = c.oid THEN '' ELSE ', long texts' END AS object,
        s.n_dead_tup AS dead,
        g.rows + s.n_live_tup * g.percent / 100 AS allowed,
        CASE
            WHEN pg_is_in_recovery() THEN 'unknown'
            WHEN s.n_dead_tup > g.rows + s.n_live_tup * g.percent / 100 THEN 'warn'
            ELSE 'ok'
        END AS verdict
    FROM given AS g
    CROSS JOIN pg_class AS c
    JOIN pg_stat_all_tables AS s ON s.relid IN (c.oid, c.reltoastrelid)
    WHERE c.relnamespace = to_regnamespace(quote_ident(current_schema())) AND c.relkind = 'r'
) AS f
ORDER BY f.verdict = 'ok', f.dead DESC, f.object COLLATE "C";
