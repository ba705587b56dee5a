-- Add environment variables that are not in the store yet.
--
-- names: names, beside values; give only what is missing, since a conflict burns an id
-- values: values

INSERT INTO envvar (name, value)
SELECT
    t.name,
    t.value
FROM unnest(:'names'::text[], :'values'::text[]) AS t (name, value)
-- Always the same order, so that concurrent writers wait for each other and never in a circle.
ORDER BY t.name COLLATE "C", t.value COLLATE "C"
ON CONFLICT (name, value_sha256) DO NOTHING
RETURNING id, name, value;
