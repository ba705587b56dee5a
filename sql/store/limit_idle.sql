-- Set for how long this transaction may stay idle, unless the session's own limit is shorter.
--
-- milliseconds: how long

SELECT
    set_config(
        'idle_in_transaction_session_timeout',
        least(
            nullif(
                1000 * extract(EPOCH FROM current_setting('idle_in_transaction_session_timeout')::interval), 0
            ),
            greatest(:'milliseconds'::bigint, 1)
        )::bigint::text,
        TRUE
    ) AS idle_in_transaction_session_timeout;
