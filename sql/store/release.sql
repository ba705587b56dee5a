-- Keep what the statements since savepoint wrote, as far as the caller's transaction does.

RELEASE SAVEPOINT butido_store; -- noqa: PRS
