-- Create the schema that the search path names.
--
-- Neither CREATE SCHEMA nor DO takes parameters, so the name comes from the search path, where it stands
-- alone and quoted.

DO $$
BEGIN
    EXECUTE 'CREATE SCHEMA ' || current_setting('search_path');
    EXECUTE 'COMMENT ON SCHEMA ' || current_setting('search_path') || ' IS '
        || quote_literal('A butido_store: every submit, job, input, output, environment and log');
END
$$;
