-- Keep what the statements since begin wrote.

COMMIT;
