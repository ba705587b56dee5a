-- Which packages' logs take most of the space that logs take?
--
-- An estimate, from a sample of the table's pages: the same ones each time.
-- 12 ms with 100,000 jobs of bench/generate.py.
--
-- percent: share of all logs that is one package's, from which it counts; 50 if not given
-- bytes: and how large its logs are then; 10 GB if not given
-- pages: how many pages of the table job are read; 300 if not given

WITH given AS (
    SELECT
        coalesce(
\if :{?percent}
            :'percent'::bigint,
\endif
            50
        )::bigint AS percent,
        coalesce(
\if :{?bytes}
            :'bytes'::bigint,
\endif
            10737418240
        )::bigint AS bytes
),

sampled AS (
    SELECT
        least(
            100,
            coalesce(
\if :{?pages}
                :'pages'::bigint,
\endif
                300
            ) * 100.0 * current_setting('block_size')::bigint / greatest(pg_relation_size('job'), 1)
        )::real AS percent
),

sample AS (
    SELECT
        j.package_id,
        sum(j.log_size) AS bytes
    FROM job AS j TABLESAMPLE SYSTEM ((SELECT s.percent FROM sampled AS s)) REPEATABLE (0) -- noqa: PRS
    WHERE j.log IS NOT NULL
    GROUP BY j.package_id
)

SELECT
    f.verdict,
    f.object,
    format('%s, %s %% of all logs', pg_size_pretty(f.bytes), f.percent) AS value,
    f."limit",
    CASE
        WHEN f.verdict <> 'ok'
            THEN 'Have `butido-store prune` remove them earlier than others, or its build say less.'
    END AS advice,
    f.bytes::double precision AS number
FROM (
    SELECT
        CASE WHEN x.bytes > g.bytes AND x.percent > g.percent THEN 'warn' ELSE 'ok' END AS verdict,
        coalesce(x.package, 'all packages') AS object,
        coalesce(x.bytes, 0) AS bytes,
        coalesce(x.percent, 0) AS percent,
        format('%s and %s %%', pg_size_pretty(g.bytes), g.percent) AS "limit"
    FROM given AS g
    LEFT JOIN (
        SELECT
            p.name AS package,
            (sum(l.bytes) * 100 / s.percent)::bigint AS bytes,
            (sum(l.bytes) * 100 / nullif(sum(sum(l.bytes)) OVER (), 0))::bigint AS percent
        FROM sample AS l
        CROSS JOIN sampled AS s
        JOIN package AS p ON p.id = l.package_id
        GROUP BY p.name, s.percent
        ORDER BY bytes DESC, p.name ASC
        LIMIT 5
    ) AS x ON TRUE
) AS f
ORDER BY f.bytes DESC, f.object COLLATE "C";
