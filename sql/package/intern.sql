-- Add packages that are not in the store yet.
--
-- names: of packages; only missing ones, since a conflict uses up an id
-- versions: one for each name

INSERT INTO package (name, version)
SELECT
    t.name,
    t.version
FROM unnest(:'names'::text[], :'versions'::text[]) AS t (name, version)
-- One order for all writers, so that they wait for each other instead of deadlocking.
ORDER BY t.name COLLATE "C", t.version COLLATE "C"
ON CONFLICT (name, version) DO NOTHING
RETURNING id, name, version;
