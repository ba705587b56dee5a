-- Which environment variables that are secrets by their names are stored in clear?
--
-- The names are those that the library takes for secrets unless it is told others. Reads the key of envvar
-- from one name to the next, 10,000 names at most, and 1,000 values of each that fits. 2.3 ms with a million
-- jobs of bench/generate.py.
--
-- names: how many there may be; 0 if not given

WITH RECURSIVE given AS (
    SELECT
        coalesce(
\if :{?names}
            :'names'::bigint,
\endif
            0
        )::bigint AS names
),

named (name, place) AS (
    (
        SELECT
            v.name,
            1 AS place
        FROM envvar AS v
        ORDER BY v.name
        LIMIT 1
    )
    UNION ALL
    SELECT
        x.name,
        n.place + 1 AS place
    FROM named AS n
    CROSS JOIN LATERAL (
        SELECT v.name
        FROM envvar AS v
        WHERE v.name > n.name
        ORDER BY v.name
        LIMIT 1
    ) AS x
    WHERE n.place < 10000
),

clear AS (
    SELECT n.name
    FROM named AS n
    CROSS JOIN LATERAL (
        -- Each job may have another value.
        SELECT bool_or(v.value_hmac IS NULL) AS is_clear
        FROM (
            SELECT w.value_hmac
            FROM envvar AS w
            WHERE w.name = n.name
            ORDER BY w.value_sha256
            LIMIT 1000
        ) AS v
    ) AS x
    WHERE upper(n.name) LIKE ANY(ARRAY['%TOKEN%', '%PASSWORD%', '%SECRET%']) AND x.is_clear
)

SELECT
    f.verdict,
    f.object,
    f.names::text AS value,
    f."limit"::text AS "limit",
    CASE f.verdict
        WHEN 'warn'
            THEN
                'Whoever may read envvar may read them: change those secrets, and give the builders a key '
                '(docs/builder.md, Secrets). To take their values out of the store, as the owner: '
                'UPDATE envvar SET value = ''<redacted>'', '
                'value_hmac = uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) '
                'WHERE upper(name) LIKE ANY(ARRAY[''%TOKEN%'', ''%PASSWORD%'', ''%SECRET%'']) '
                'AND value_hmac IS NULL;'
    END AS advice,
    f.names::double precision AS number
FROM (
    SELECT
        CASE WHEN count(c.name) > g.names THEN 'warn' ELSE 'ok' END AS verdict,
        coalesce('variables such as ' || min(c.name), 'all variables') AS object,
        count(c.name) AS names,
        g.names AS "limit"
    FROM given AS g
    LEFT JOIN clear AS c ON TRUE
    GROUP BY g.names
) AS f
ORDER BY f.object COLLATE "C";
