-- Record a migration as undone, in yoyo's table; migration/log logs it.
--
-- hash: yoyo's hash of the migration's id

DELETE FROM _yoyo_migration
WHERE migration_hash = :'hash'::text
RETURNING migration_id;
