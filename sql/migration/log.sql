-- Log that a migration was applied or undone, in yoyo's log.
--
-- hash: yoyo's hash of the migration's id
-- id: the migration's id
-- operation: apply, rollback or mark
-- hostname: the machine that the migrator runs on

INSERT INTO _yoyo_log (id, migration_hash, migration_id, operation, username, hostname, created_at_utc)
VALUES (
    gen_random_uuid()::text,
    :'hash'::text,
    :'id'::text,
    :'operation'::text,
    session_user,
    left(:'hostname'::text, 255),
    clock_timestamp() AT TIME ZONE 'UTC'
)
RETURNING migration_id;
