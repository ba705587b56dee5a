-- Record a migration as applied, in yoyo's table; migration/log logs it.
--
-- hash: yoyo's hash of the migration's id
-- id: the migration's id
-- sha256: SHA-256 of the migration's file
-- phase: pre or post
-- duration: how long it took

INSERT INTO _yoyo_migration (
    migration_hash, migration_id, applied_at_utc, sha256, phase, duration
)
VALUES (
    :'hash'::text,
    :'id'::text,
    clock_timestamp() AT TIME ZONE 'UTC',
    :'sha256'::bytea,
    :'phase'::text,
    :'duration'::interval
)
RETURNING migration_id;
