-- Record a migration as applied, in both of yoyo's tables.
--
-- hash: yoyo's hash of the migration's id
-- id: the migration's id
-- sha256: SHA-256 of the migration's file
-- phase: pre or post
-- duration: how long it took
-- hostname: the machine that the migrator runs on

WITH logged AS (
    INSERT INTO _yoyo_log (
        id, migration_hash, migration_id, operation, username, hostname, created_at_utc
    )
    VALUES (
        gen_random_uuid()::text,
        :'hash'::text,
        :'id'::text,
        'apply',
        session_user,
        left(:'hostname'::text, 255),
        clock_timestamp() AT TIME ZONE 'UTC'
    )
    RETURNING id
)

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
