-- Are long texts compressed with lz4 where the server has it?
--
-- Reads the settings of this session, and the catalog. 0.5 ms with 100,000 jobs of bench/generate.py.

SELECT
    f.verdict,
    f.object,
    f.value,
    f."limit",
    CASE
        WHEN f.verdict <> 'ok'
            THEN format(
                'It takes half of the time, for what is written from then on: '
                'ALTER DATABASE %I SET default_toast_compression = ''lz4'';', current_database()
            )
    END AS advice,
    NULL::double precision AS number
FROM (
    SELECT
        s.name AS object,
        s.setting AS value,
        CASE WHEN s.setting <> 'lz4' AND 'lz4' = ANY(s.enumvals) THEN 'warn' ELSE 'ok' END AS verdict,
        CASE WHEN 'lz4' = ANY(s.enumvals) THEN 'lz4' ELSE 'pglz' END AS "limit"
    FROM pg_settings AS s
    WHERE s.name = 'default_toast_compression'
) AS f
ORDER BY f.object COLLATE "C";
