-- Limit how long the rest of this transaction waits for a lock.
--
-- lock_timeout: longest wait for a lock

SELECT set_config('lock_timeout', :'lock_timeout'::text, TRUE) AS lock_timeout;
