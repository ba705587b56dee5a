-- Set this session's search path and timeouts.
--
-- search_path: schemas to look names up in, each quoted as an identifier
-- lock_timeout: longest wait for a lock, 0 for no limit
-- statement_timeout: longest time for a statement, 0 for no limit

SELECT
    set_config('search_path', :'search_path'::text, FALSE) AS search_path,
    set_config('lock_timeout', :'lock_timeout'::text, FALSE) AS lock_timeout,
    set_config('statement_timeout', :'statement_timeout'::text, FALSE) AS statement_timeout;
