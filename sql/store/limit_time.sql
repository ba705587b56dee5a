-- Set how long a statement of this session may take.
--
-- milliseconds: how long

SELECT set_config('statement_timeout', :'milliseconds'::bigint::text, FALSE) AS statement_timeout;
