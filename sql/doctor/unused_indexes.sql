-- Which large indexes has no query used, so that they only cost space and writes?
--
-- Unique ones and those that lead with a foreign key are left out: they are there for what they refuse,
-- and for deletions. Reads the catalog and the server's statistics only.
-- 0.4 ms with 100,000 jobs of bench/generate.py.
--
-- scans: how often a table must have been read before it counts; 1,000,000 if not given
-- bytes: size from which an index counts; 100 MB if not given

WITH given AS (
    SELECT
        coalesce(
\if :{?scans}
            :'scans'::bigint,
\endif
            1000000
        )::bigint AS scans,
        coalesce(
\if :{?bytes}
            :'bytes'::bigint,
\endif
            104857600
        )::bigint AS bytes
)

SELECT
    f.verdict,
    f.object,
    f.value,
    f."limit",
    CASE f.verdict
        WHEN 'warn'
            THEN format(
                'Since the statistics began. Where no standby uses it, and no report that you want: '
                'DROP INDEX CONCURRENTLY %s; `migrate check` will miss it.', f.object
            )
        WHEN 'unknown' THEN 'A standby counts its own queries: ask the primary, too.'
    END AS advice,
    f.number
FROM (
    SELECT
        CASE
            WHEN pg_is_in_recovery() THEN 'unknown'
            WHEN x.name IS NULL THEN 'ok'
            ELSE 'warn'
        END AS verdict,
        coalesce(x.name, 'all large indexes') AS object,
        CASE
            WHEN x.name IS NOT NULL
                THEN format('%s, unused in %s reads of its table', pg_size_pretty(x.bytes), x.scans)
            WHEN NOT pg_is_in_recovery() THEN 'used'
        END AS value,
        format('%s, %s reads', pg_size_pretty(g.bytes), g.scans) AS "limit",
        coalesce(x.bytes, 0)::double precision AS number
    FROM given AS g
    LEFT JOIN LATERAL (
        SELECT
            i.indexrelid::regclass::text AS name,
            pg_relation_size(i.indexrelid) AS bytes,
            t.seq_scan + coalesce(t.idx_scan, 0) AS scans
        FROM pg_stat_user_indexes AS u
        JOIN pg_index AS i ON i.indexrelid = u.indexrelid
        JOIN pg_class AS c ON c.oid = u.relid
        JOIN pg_stat_user_tables AS t ON t.relid = u.relid
        WHERE
            c.relnamespace = to_regnamespace(quote_ident(current_schema()))
            AND u.idx_scan = 0
            AND NOT i.indisunique
            AND i.indisvalid
            AND t.seq_scan + coalesce(t.idx_scan, 0) >= g.scans
            AND pg_relation_size(i.indexrelid) >= g.bytes
            AND NOT EXISTS (
                SELECT 1
                FROM pg_constraint AS k
                WHERE
                    k.conrelid = i.indrelid
                    AND k.contype = 'f'
                    AND NOT EXISTS (
                        SELECT 1
                        FROM unnest(k.conkey) AS u (attnum)
                        WHERE
                            coalesce(
                                array_position(string_to_array(i.indkey::text, ' ')::smallint[], u.attnum)
                                > cardinality(k.conkey), TRUE
                            )
                    )
            )
    ) AS x ON NOT pg_is_in_recovery()
) AS f
ORDER BY f.number DESC, f.object COLLATE "C";
