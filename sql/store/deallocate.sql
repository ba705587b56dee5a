-- Deallocate the statements that this session has prepared.

DEALLOCATE ALL;
