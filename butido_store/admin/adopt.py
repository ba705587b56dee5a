"""Record migrations as applied where the schema was made otherwise: restored, or by hand."""

from butido_store.admin import drift
from butido_store.admin.migrate import Migrator, position, shipped
from butido_store.errors import MigrationError

# One message tells of at most so many differences.
_TOLD = 10


def mark(migrator: Migrator, *, to: str | None = None) -> list[str]:
    """Record migrations as applied without running them, if the schema is what they make.

    :param migrator: of the store
    :param to: the last migration whose changes are there; by default the last there is
    :returns: the ids of those recorded now
    :raises MigrationError: the schema differs, or later migrations are applied; nothing is changed
    """
    files = shipped(migrator._directory)
    wanted = files if to is None else files[: position(files, to)]
    with migrator._session(alone=True) as session:
        if not session["has_schema"]:
            raise MigrationError(
                f"there is no schema {migrator._schema!r} to take over: restore it, or apply the "
                "migrations"
            )
        applied = migrator._verified(files, session)
        if later := sorted(applied.keys() - {file.id for file in wanted}):
            raise MigrationError(f"{', '.join(later)} is applied, and comes after {wanted[-1].id}")
        missing = [file for file in wanted if file.id not in applied]
        if not missing:
            return []
        # The release has a catalog of all of its migrations, for a role that may not create.
        all_ = to is None and migrator._directory is None
        differences = drift.differences(
            migrator._connection, schema=migrator._schema, files=None if all_ else wanted
        )
        if differences:
            told = [_told(one) for one in differences[:_TOLD]]
            more = f"; and {len(differences) - _TOLD} more" if differences[_TOLD:] else ""
            raise MigrationError(
                f"schema {migrator._schema!r} is not what the migrations up to {wanted[-1].id} "
                f"make: {'; '.join(told)}{more}"
            )
        migrator._prepare(session)
        with migrator._connection.transaction():
            for file in missing:
                migrator._record(file, None)
    return [file.id for file in missing]


def _told(difference: drift.Difference) -> str:
    """Return a difference, and what mends it, in one line."""
    statements = "; ".join(" ".join(one.split()) for one in difference.statements)
    return f"{difference} (mended by: {statements})" if statements else str(difference)
