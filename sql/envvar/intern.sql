-- Add environment variables that are not in the store yet.
--
-- names: of variables; only missing ones, since a conflict uses up an id
-- values: one for each name, as JSON: "value", or {"hmac_sha256": "hexadecimal"} of a secret

INSERT INTO envvar (name, value, value_hmac)
SELECT
    t.name,
    envvar_text(t.value) AS value,
    CASE jsonb_typeof(t.value) WHEN 'object' THEN envvar_sha256(t.value) END AS value_hmac
FROM unnest(:'names'::text[], :'values'::jsonb[]) AS t (name, value)
-- One order for all writers, so that they wait for each other instead of deadlocking.
ORDER BY t.name COLLATE "C", envvar_sha256(t.value)
ON CONFLICT (name, value_sha256) DO NOTHING
RETURNING id, name, value;
