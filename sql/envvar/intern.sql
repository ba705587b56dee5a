-- Add environment variables that are not in the store yet.
--
-- names: of variables; only missing ones, since a conflict uses up an id
-- values: one for each name

INSERT INTO envvar (name, value)
SELECT
    t.name,
    t.value
FROM unnest(:'names'::text[], :'values'::text[]) AS t (name, value)
-- One order for all writers, so that they wait for each other instead of deadlocking.
ORDER BY t.name COLLATE "C", t.value COLLATE "C"
ON CONFLICT (name, value_sha256) DO NOTHING
RETURNING id, name, value;
