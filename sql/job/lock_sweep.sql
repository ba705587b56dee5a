-- Wait until no other attempt at this sweep is at work.
--
-- One whose connection was lost may go on for a while on the server. Run job/sweep after this, within
-- the same transaction: it then sees what that attempt marked.
--
-- sweep: uuid of this act of sweeping

SELECT pg_advisory_xact_lock(hashtextextended(:'sweep'::uuid::text, 0)) IS NOT NULL AS locked;
