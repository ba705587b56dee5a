-- Have a pooler take back the session that it lends.
--
-- psycopg ends a pipeline with a Flush after its Sync. A pooler that has taken the session back by
-- then lends it once more, for a Flush alone, and waits for an answer that does not come.

SELECT TRUE AS given_back;
