-- Which migrations are not as a script needs them, and how: not applied, from another file, or one too many?
--
-- ids: the migrations that have to be applied before it, and no others
-- sha256s: SHA-256 of each one's file, in hexadecimal

SELECT
    string_agg(
        CASE
            WHEN m.migration_id IS NULL THEN w.id || ' is not applied'
            WHEN w.id IS NULL THEN m.migration_id || ' is applied'
            ELSE w.id || ' is not the file that was applied'
        END,
        ', '
        ORDER BY coalesce(m.migration_id, w.id) COLLATE "C"
    ) AS unfit
FROM unnest(:'ids'::text[], :'sha256s'::text[]) AS w (id, sha256)
FULL JOIN _yoyo_migration AS m ON m.migration_id = w.id
WHERE w.sha256 IS DISTINCT FROM encode(m.sha256, 'hex') OR w.id IS NULL OR m.migration_id IS NULL
ORDER BY unfit;
