-- How far is the WAL of this server on its disk, and in which timeline?
--
-- A standby that has replayed it up to there has all that was acknowledged here before. Both are NULL where
-- this server is a standby itself.

SELECT
    CASE
        WHEN pg_is_in_recovery() THEN NULL
        -- What is acknowledged is not on the disk yet. Else what another session has begun to write would
        -- count, too, and a standby gets that no earlier than somebody commits.
        WHEN current_setting('synchronous_commit') = 'off' THEN pg_current_wal_insert_lsn()
        ELSE pg_current_wal_flush_lsn()
    END::text AS lsn,
    CASE
        WHEN NOT pg_is_in_recovery() THEN left(pg_walfile_name(pg_current_wal_flush_lsn()), 8)
    END AS timeline;
