-- Have this session count what it scans from zero.
--
-- What it has counted is given to all at this statement's end.

SELECT length(pg_stat_force_next_flush()::text) AS flushed;
