-- Set a savepoint in the caller's transaction.

SAVEPOINT butido_store; -- noqa: PRS
