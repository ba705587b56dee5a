-- Have a walk of retention begin anew, at the newest.
--
-- One row. The statements that remove go on from where the walk is; after its end they do nothing.
--
-- what: log, record, or submit, for retention/remove_logs, remove_records or remove_submits

INSERT INTO retention_walk (what, started_at, uuid)
VALUES (:'what'::text, 'infinity'::timestamptz, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
ON CONFLICT (what) DO UPDATE
SET started_at = excluded.started_at, uuid = excluded.uuid
RETURNING what;
