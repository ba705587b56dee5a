-- Record a migration as undone, in both of yoyo's tables.
--
-- hash: yoyo's hash of the migration's id
-- id: the migration's id
-- hostname: the machine that the migrator runs on

WITH logged AS (
    INSERT INTO _yoyo_log (
        id, migration_hash, migration_id, operation, username, hostname, created_at_utc
    )
    VALUES (
        gen_random_uuid()::text,
        :'hash'::text,
        :'id'::text,
        'rollback',
        session_user,
        left(:'hostname'::text, 255),
        clock_timestamp() AT TIME ZONE 'UTC'
    )
    RETURNING id
)

DELETE FROM _yoyo_migration
WHERE migration_hash = :'hash'::text
RETURNING migration_id;
