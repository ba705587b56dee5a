-- The tables that migrations are recorded in: yoyo's, so that its command line reads them, and what
-- the migrator adds to them.
--
-- This is no migration, since migrations are recorded in these tables. It is safe to run again.

CREATE TABLE IF NOT EXISTS _yoyo_migration (
    migration_hash varchar(64) PRIMARY KEY,
    migration_id varchar(255),
    applied_at_utc timestamp
);

CREATE TABLE IF NOT EXISTS _yoyo_log (
    id varchar(36) PRIMARY KEY,
    migration_hash varchar(64),
    migration_id varchar(255),
    operation varchar(10),
    username varchar(255),
    hostname varchar(255),
    comment varchar(255),
    created_at_utc timestamp
);

CREATE TABLE IF NOT EXISTS _yoyo_version (
    version integer PRIMARY KEY,
    installed_at_utc timestamp
);

INSERT INTO _yoyo_version (version, installed_at_utc)
VALUES (2, clock_timestamp() AT TIME ZONE 'UTC')
ON CONFLICT (version) DO NOTHING;

ALTER TABLE _yoyo_migration
ADD COLUMN IF NOT EXISTS sha256 bytea
CONSTRAINT _yoyo_migration_sha256_check CHECK (octet_length(sha256) = 32),
ADD COLUMN IF NOT EXISTS phase text
CONSTRAINT _yoyo_migration_phase_check CHECK (phase IN ('pre', 'post')),
ADD COLUMN IF NOT EXISTS duration interval;

COMMENT ON TABLE _yoyo_migration IS
'The migrations that are applied. yoyo''s table; the last three columns are butido_store''s';
COMMENT ON COLUMN _yoyo_migration.sha256 IS
'SHA-256 of the migration''s file as it was applied: an edited one is refused';
COMMENT ON COLUMN _yoyo_migration.phase IS
'pre: applied before the release''s code is rolled out; post: when no older code runs any more';
COMMENT ON COLUMN _yoyo_migration.duration IS 'How long the migration ran';
COMMENT ON TABLE _yoyo_log IS 'Every migration applied or undone, by whom and when. yoyo''s table';
COMMENT ON TABLE _yoyo_version IS 'Which layout yoyo''s tables have. yoyo''s table';
