-- Which indexes are invalid, so that no query uses them though each write keeps them?
--
-- Reads the catalog only. 0.1 ms with 100,000 jobs of bench/generate.py.

SELECT
    f.verdict,
    f.object,
    f.value,
    'valid' AS "limit",
    CASE f.verdict
        WHEN 'bad'
            THEN format(
                'What built it was cut off. As the owner: REINDEX INDEX CONCURRENTLY %s; '
                'a pending migration builds it anew when it is applied.', f.object
            )
    END AS advice,
    f.number
FROM (
    SELECT
        CASE WHEN x.name IS NULL OR x.building THEN 'ok' ELSE 'bad' END AS verdict,
        coalesce(x.name, 'all indexes') AS object,
        CASE WHEN x.name IS NULL THEN 'valid' WHEN x.building THEN 'being built' ELSE 'invalid' END AS value,
        CASE WHEN x.name IS NULL OR x.building THEN 0 ELSE 1 END::double precision AS number
    -- A row also where there is nothing to tell.
    FROM (VALUES (TRUE)) AS always (there)
    LEFT JOIN (
        SELECT
            i.indexrelid::regclass::text AS name,
            b.pid IS NOT NULL AS building
        FROM pg_index AS i
        JOIN pg_class AS c ON c.oid = i.indrelid
        LEFT JOIN pg_stat_progress_create_index AS b ON b.index_relid = i.indexrelid
        WHERE
            c.relnamespace = to_regnamespace(quote_ident(current_schema()))
            AND NOT (i.indisvalid AND i.indisready)
    ) AS x ON always.there
) AS f
ORDER BY f.number DESC, f.object COLLATE "C";
