-- Start what can be undone within the caller's transaction.

SAVEPOINT butido_store; -- noqa: PRS
