-- Undo what the statements since savepoint wrote.

ROLLBACK TO SAVEPOINT butido_store; -- noqa: PRS
