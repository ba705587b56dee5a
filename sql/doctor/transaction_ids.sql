-- How far are the databases and the tables from the end of the transaction ids?
--
-- The server stops taking writes three million before 2^31, at 2,144,483,648. Freezing begins at
-- autovacuum_freeze_max_age, which is 200,000,000 unless you set it. Reads the catalog only.
-- 0.3 ms with 100,000 jobs of bench/generate.py.
--
-- warn: age from which it is worth a look; 500,000,000 if not given
-- bad: age from which somebody has to act; 1,000,000,000 if not given

WITH given AS (
    SELECT
        coalesce(
\if :{?warn}
            :'warn'::bigint,
\endif
            500000000
        )::bigint AS warn,
        coalesce(
\if :{?bad}
            :'bad'::bigint,
\endif
            1000000000
        )::bigint AS bad
)

SELECT
    f.verdict,
    f.object,
    f.age::text AS value,
    f.allowed::text AS "limit",
    CASE
        WHEN f.verdict <> 'ok'
            THEN
                'Autovacuum cannot freeze: end old transactions, drop unused replication slots, '
                'roll back prepared transactions, and VACUUM (FREEZE, VERBOSE) it.'
    END AS advice,
    f.age::double precision AS number
FROM (
    SELECT
        x.object,
        x.age,
        CASE WHEN x.age >= g.bad THEN 'bad' WHEN x.age >= g.warn THEN 'warn' ELSE 'ok' END AS verdict,
        CASE WHEN x.age >= g.bad THEN g.bad ELSE g.warn END AS allowed
    FROM given AS g
    CROSS JOIN (
        SELECT
            format('database %I', d.datname) AS object,
            greatest(age(d.datfrozenxid), mxid_age(d.datminmxid)) AS age
        FROM pg_database AS d
        UNION ALL
        SELECT
            c.oid::regclass::text AS object,
            greatest(
                age(c.relfrozenxid), mxid_age(c.relminmxid), age(t.relfrozenxid), mxid_age(t.relminmxid)
            ) AS age
        FROM pg_class AS c
        LEFT JOIN pg_class AS t ON t.oid = c.reltoastrelid
        WHERE c.relnamespace = to_regnamespace(quote_ident(current_schema())) AND c.relkind = 'r'
    ) AS x
) AS f
ORDER BY f.age DESC, f.object COLLATE "C";
