-- Which migrations are applied?
--
-- A migration that yoyo's own command line recorded has no checksum and no duration, and counts as pre.

SELECT
    m.migration_id AS id,
    m.applied_at_utc AT TIME ZONE 'UTC' AS applied_at,
    m.sha256,
    coalesce(m.phase, 'pre') AS phase,
    m.duration
FROM _yoyo_migration AS m
ORDER BY m.migration_id COLLATE "C", m.migration_hash;
