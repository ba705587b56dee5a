-- Have this transaction's commit wait for the synchronous standby, though it may write nothing else.
--
-- What is there already may be on this server only. The standby gets the WAL in order: with this
-- message it has all that was there before. Where no commit waits for a standby it writes nothing.

SELECT
    CASE
        WHEN current_setting('synchronous_standby_names') <> ''
            THEN pg_logical_emit_message(TRUE, 'butido_store', '') IS NOT NULL
    END AS is_written;
