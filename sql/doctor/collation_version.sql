-- Did the operating system change how this database sorts text?
--
-- The store's own keys and indexes are COLLATE "C", which never changes. Reads the catalog only.
-- 0.1 ms with 100,000 jobs of bench/generate.py.

SELECT
    f.verdict,
    f.object,
    f.actual AS value,
    f.recorded AS "limit",
    CASE
        WHEN f.verdict <> 'ok'
            THEN format(
                'Other schemas of this database may have indexes that are out of order: REINDEX DATABASE, '
                'then ALTER DATABASE %s REFRESH COLLATION VERSION;', f.object
            )
    END AS advice,
    NULL::double precision AS number
FROM (
    SELECT
        quote_ident(d.datname) AS object,
        d.datcollversion AS recorded,
        pg_database_collation_actual_version(d.oid) AS actual,
        CASE
            WHEN coalesce(d.datcollversion, '') <> coalesce(pg_database_collation_actual_version(d.oid), '')
                THEN 'warn'
            ELSE 'ok'
        END AS verdict
    FROM pg_database AS d
    WHERE d.datname = current_database()
) AS f
ORDER BY f.object COLLATE "C";
