-- Set how long a statement of this transaction may take.
--
-- milliseconds: how long

SELECT set_config('statement_timeout', :'milliseconds'::bigint::text, TRUE) AS statement_timeout;
