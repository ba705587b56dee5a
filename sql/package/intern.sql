-- Add packages that are not in the store yet.
--
-- names: names, beside versions; give only what is missing, since a conflict burns an id
-- versions: versions

INSERT INTO package (name, version)
SELECT
    t.name,
    t.version
FROM unnest(:'names'::text[], :'versions'::text[]) AS t (name, version)
-- Always the same order, so that concurrent writers wait for each other and never in a circle.
ORDER BY t.name COLLATE "C", t.version COLLATE "C"
ON CONFLICT (name, version) DO NOTHING
RETURNING id, name, version;
