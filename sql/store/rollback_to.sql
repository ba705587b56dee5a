-- Undo what was written since the savepoint.

ROLLBACK TO SAVEPOINT butido_store; -- noqa: PRS
