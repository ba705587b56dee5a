-- Make this session the library's, or only this transaction where a pooler is in between.
--
-- What the role, the database or the environment set is overwritten.
--
-- A pooler tells its clients process ids of its own, which gives it away here. It may lend each transaction
-- another session, with what another client has set there: then this goes before each, and leaves nothing
-- behind.
--
-- schema: name of the schema that holds the tables
-- pid: the server process that the connection was told of; 0 where a pooler is known to be in between
-- begins: whether a pooler is in between, and this begins a transaction

SELECT
    pg_backend_pid() <> :'pid'::integer AS lent,
    -- A temporary table would else come before a table of the same name.
    set_config(
        'search_path', quote_ident(:'schema'::text) || ', pg_temp', pg_backend_pid() <> :'pid'::integer
    ) AS search_path,
    -- Not what another client chose for writes of its own, but what the role has, which NULL gives.
    set_config(
        'synchronous_commit',
        CASE WHEN NOT :'begins'::boolean THEN current_setting('synchronous_commit') END,
        TRUE
    ) AS synchronous_commit,
    -- Or nobody would hear that a standby did not confirm a commit.
    set_config(
        'client_min_messages',
        CASE current_setting('client_min_messages')
            WHEN 'error' THEN 'warning'
            ELSE current_setting('client_min_messages')
        END,
        pg_backend_pid() <> :'pid'::integer
    ) AS client_min_messages,
    set_config('intervalstyle', 'postgres', pg_backend_pid() <> :'pid'::integer) AS intervalstyle,
    -- A server with LLVM would compile what is planned for many rows, however few there are.
    set_config('jit', 'off', pg_backend_pid() <> :'pid'::integer) AS jit;
