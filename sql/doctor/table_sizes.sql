-- How large are the tables, and when does one pass the size that is hard to handle?
--
-- With indexes and long texts. A table grows as the jobs do: by the share of them that started in the
-- last 30 days, or since the first one, in a sample of 500 pages. 11 ms with 100,000 jobs of
-- bench/generate.py.
--
-- bytes: size not to pass; 100 GB if not given
-- days: how long before that it is told; 180 if not given

WITH given AS (
    SELECT
        coalesce(
\if :{?bytes}
            :'bytes'::bigint,
\endif
            107374182400
        )::bigint AS bytes,
        coalesce(
\if :{?days}
            :'days'::bigint,
\endif
            180
        )::bigint AS days
),

growth AS (
    SELECT
        avg(CASE WHEN j.started_at > now() - interval '30 days' THEN 1 ELSE 0 END)
        / greatest(
            least(date_part('epoch', now() - (SELECT min(o.started_at) FROM job AS o)) / 86400, 30), 1
        ) AS per_day
    FROM job AS j TABLESAMPLE SYSTEM ( -- noqa: PRS
        least(100, 500 * 100.0 * current_setting('block_size')::bigint / greatest(pg_relation_size('job'), 1))
    ) REPEATABLE (0)
)

SELECT
    f.verdict,
    f.object,
    format(
        '%s, %s on %s', pg_size_pretty(f.size), pg_size_pretty(f.bytes),
        coalesce((current_date + f.days_left::integer)::text, 'no day at present growth')
    ) AS value,
    format('%s within %s days', pg_size_pretty(f.bytes), f.days) AS "limit",
    CASE
        WHEN f.verdict <> 'ok'
            THEN 'Remove old logs with `butido-store prune`, or see "Growth" in docs/running.md.'
    END AS advice,
    f.size::double precision AS number
FROM (
    SELECT
        x.object,
        x.size,
        g.bytes,
        g.days,
        -- A century is as good as never.
        CASE WHEN x.days_left < 36500 THEN greatest(x.days_left, 0) END AS days_left,
        CASE WHEN x.size >= g.bytes THEN 'bad' WHEN x.days_left < g.days THEN 'warn' ELSE 'ok' END AS verdict
    FROM given AS g
    CROSS JOIN growth AS w
    CROSS JOIN LATERAL (
        SELECT
            c.oid::regclass::text AS object,
            pg_total_relation_size(c.oid) AS size,
            (g.bytes - pg_total_relation_size(c.oid))
            / nullif(w.per_day * pg_total_relation_size(c.oid), 0) AS days_left
        FROM pg_class AS c
        WHERE c.relnamespace = to_regnamespace(quote_ident(current_schema())) AND c.relkind = 'r'
    ) AS x
) AS f
ORDER BY f.size DESC, f.object COLLATE "C";
