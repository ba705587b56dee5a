-- Is this a standby, and has it replayed the primary's WAL that far?
--
-- A standby tells its timeline as of its last checkpoint: after a failover it counts as one of the old
-- timeline until the next.
--
-- lsn: how far
-- timeline: in which timeline, as in the name of a WAL file

SELECT
    pg_is_in_recovery()
\if :{?timeline}
    AND upper(lpad(to_hex(c.timeline_id), 8, '0')) = :'timeline'::text
\endif
    AS is_standby,
    TRUE
\if :{?lsn}
    AND coalesce(pg_last_wal_replay_lsn() >= :'lsn'::pg_lsn, FALSE)
\endif
    AS is_there
FROM pg_control_checkpoint() AS c
ORDER BY c.timeline_id;
