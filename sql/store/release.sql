-- Give up the savepoint: what was written since is kept if the caller's transaction commits.

RELEASE SAVEPOINT butido_store; -- noqa: PRS
