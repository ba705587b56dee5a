-- Set this session's search path, its timeouts, and how it prints times.
--
-- search_path: schemas to look names up in, each quoted as an identifier
-- lock_timeout: longest wait for a lock, 0 for no limit
-- statement_timeout: longest time for a statement, 0 for no limit
-- datestyle: as the setting has it; ISO is what can be read back wherever it was printed
-- intervalstyle: as the setting has it; postgres for the same reason

SELECT
    set_config('search_path', :'search_path'::text, FALSE) AS search_path,
    set_config('lock_timeout', :'lock_timeout'::text, FALSE) AS lock_timeout,
    set_config('statement_timeout', :'statement_timeout'::text, FALSE) AS statement_timeout,
    set_config('datestyle', :'datestyle'::text, FALSE) AS datestyle,
    set_config('intervalstyle', :'intervalstyle'::text, FALSE) AS intervalstyle;
