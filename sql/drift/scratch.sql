-- Have the search path name a schema that is not there, until the transaction ends.
--
-- schema: the schema

SELECT set_config('search_path', quote_ident(:'schema'::text), TRUE) AS search_path;
