-- Undo what the statements since begin wrote.

ROLLBACK;
