-- Drop the schema in which a plan tries migrations out.
--
-- The search path names it, and nothing else is dropped whatever it names.

DO $$
BEGIN
    IF current_schema() = 'butido_store_plan' THEN
        DROP SCHEMA butido_store_plan CASCADE;
    END IF;
END
$$;
