"""Tell what the pending migrations will do, as seen on an empty store beside the one that is meant.

A header says which tables a migration locks, scans and rewrites. Here it is applied, and undone,
in a schema of its own on the same server, and what the server shows of that is held against it.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from butido_store.admin.header import MODES, conflicts, pg_mode, said, strongest
from butido_store.admin.migrate import SCRATCH, MigrationFile, Migrator, shipped

_MODES = {pg_mode(mode): mode for mode in MODES}
# What only reads, or locks single rows, is in the way of nothing but ACCESS EXCLUSIVE.
_FROM = MODES.index("ROW EXCLUSIVE")


@dataclass(frozen=True, slots=True)
class Seen:
    """What a migration was seen to do with the tables and views that were there before."""

    locks: Mapping[str, str]  # the strongest one of each
    scans: frozenset[str]
    rewrites: frozenset[str]
    dropped: frozenset[str]  # tables, and columns as table.column


@dataclass(frozen=True, slots=True)
class Planned:
    """A pending migration: what it says, what was seen, and who is in its way now."""

    id: str
    phase: str
    transactional: bool
    seen: Seen
    duration: str
    rollback: str
    lost: frozenset[str]  # what a rollback drops
    lies: tuple[str, ...]  # in what the header is wrong
    blockers: str

    def __str__(self) -> str:
        """Return all of it, a line for each thing."""
        seen = self.seen
        lines = [
            f"{self.id} ({self.phase}{'' if self.transactional else ', not transactional'})",
            f"  locks     {said(seen.locks)}",
            f"  waits     {_waits(seen.locks)}",
            f"  rewrites  {_listed(seen.rewrites)}",
            f"  scans     {_listed(seen.scans)}",
            f"  drops     {_listed(seen.dropped)}",
            f"  duration  {self.duration}",
            f"  rollback  {self.rollback}; drops {_listed(self.lost)}",
            f"  in its way now: {self.blockers or 'nobody'}",
            *(f"  THE HEADER IS WRONG: {lie}" for lie in self.lies),
        ]
        return "\n".join(lines)


class Watcher(Migrator):
    """A migrator that sees what each migration locks, scans, rewrites and drops."""

    @staticmethod
    def _check_schema(schema: str) -> None:
        """Take the schema of a plan, which no store can have."""

    def watch(self, file: MigrationFile, *, undo: bool = False) -> Seen:
        """Apply or undo a migration, in a session of this migrator, and tell what was seen.

        :param file: the migration
        :param undo: undo it instead
        :raises MigrationError: it was refused or failed
        """
        self._perform(file, undo=undo)
        return self._seen

    def _attempt(self, file: MigrationFile, *, undo: bool) -> None:
        self._run("migration/flush")
        self._before = {row["oid"]: row for row in self._run("migration/facts")}
        super()._attempt(file, undo=undo)

    def _record(self, file: MigrationFile, started: float | None, *, undo: bool = False) -> None:
        # All locks are held until the transaction ends.
        self._seen = self._look(file)
        super()._record(file, started, undo=undo)

    def _look(self, file: MigrationFile) -> Seen:
        """Compare what stands there with what did before."""
        before = {
            oid: row for oid, row in self._before.items() if not row["owner"].startswith("_yoyo")
        }
        after = {row["oid"]: row for row in self._run("migration/facts")}
        locks: dict[str, set[str]] = {}
        for row in self._run("migration/held") if file.transactional else ():
            mode = _MODES.get(row["mode"], MODES[0])
            if row["oid"] in before and MODES.index(mode) >= _FROM:
                locks.setdefault(before[row["oid"]]["owner"], set()).add(mode)
        old, tables = {row["owner"] for row in before.values()}, _of_kind(before, "rm")
        # An index that comes is built from its table.
        built = [row for row in after.values() if row["kind"] == "i" and row["owner"] in old]
        changed = [
            row
            for row in built
            if row["oid"] not in before or row["filenode"] != before[row["oid"]]["filenode"]
        ]
        scans = {row["owner"] for row in changed}
        scans |= {row["name"] for oid, row in tables.items() if _scanned(row, after.get(oid))}
        if not file.transactional:
            # One index comes or goes CONCURRENTLY. Its locks are gone; PostgreSQL documents them.
            gone = {row["owner"] for oid, row in before.items() if oid not in after}
            locks = {table: {"SHARE UPDATE EXCLUSIVE"} for table in scans | gone}
        rewrites = {
            row["name"]
            for oid, row in tables.items()
            if oid in after and row["filenode"] != after[oid]["filenode"]
        }
        return Seen(
            {table: strongest(modes) for table, modes in locks.items()},
            frozenset(scans - rewrites),
            frozenset(rewrites),
            frozenset(_dropped(tables, after)),
        )


def plan(migrator: Migrator) -> list[Planned]:
    """Tell what each pending migration will do, and who is in its way now.

    :param migrator: of the store; its role needs CREATE on the database, to try the migrations out
    :raises MigrationError: one was refused or failed, or the schema to try it in cannot be made
    """
    files = shipped(migrator._directory)
    with migrator._session() as session:
        applied = migrator._verified(files, session)
        pending = [file for file in files if file.id not in applied]
        blockers = {file.id: migrator._blockers(file.header.locks) for file in pending}
    planned = []
    with _scratch(migrator) as scratch:
        for file in files if pending else ():
            if file.id in applied:
                scratch.watch(file)
                continue
            seen = scratch.watch(file)
            lost = scratch.watch(file, undo=True).dropped
            scratch.watch(file)
            planned.append(
                Planned(
                    id=file.id,
                    phase=file.phase,
                    transactional=file.transactional,
                    seen=seen,
                    duration=file.header.duration,
                    rollback=file.header.rollback,
                    lost=lost,
                    lies=tuple(lies(file, seen, lost)),
                    blockers=blockers[file.id],
                )
            )
    return planned


def lies(file: MigrationFile, seen: Seen, lost: Iterable[str]) -> Iterator[str]:
    """Yield in what a header differs from what was seen.

    :param file: the migration
    :param seen: what it was seen to do
    :param lost: what its rollback was seen to drop
    """
    header = file.header
    if said(header.locks) != said(seen.locks):
        yield f"it locks {said(seen.locks)}, and says {said(header.locks)}"
    if header.rewrites != seen.rewrites:
        yield f"it rewrites {_listed(seen.rewrites)}, and says {_listed(header.rewrites)}"
    # How much of a second table is read, of a foreign key for instance, is up to the planner.
    if more := seen.scans - header.scans - header.rewrites:
        yield f"it scans {_listed(more)}, and says {_listed(header.scans)}"
    if header.lossless and (dropped := frozenset(lost)):
        yield f"its rollback drops {_listed(dropped)}, and says lossless"


@contextmanager
def _scratch(migrator: Migrator) -> Iterator[Watcher]:
    """Lend a migrator of a schema that holds the migrator's tables only, and drop it after."""
    scratch = Watcher(
        migrator._connection,
        schema=SCRATCH,
        directory=migrator._directory,
        lock_wait=migrator._lock_wait,
        role=migrator._role,
    )
    with scratch._session(alone=True) as session:
        if session["has_schema"]:
            # A plan that was cut off left it.
            scratch._run("migration/drop_scratch")
            session |= {"has_schema": False, "has_tables": False}
        scratch._prepare(session)
        try:
            yield scratch
        finally:
            if scratch._idle():
                scratch._run("migration/drop_scratch")


def _of_kind(rows: Mapping[int, dict[str, Any]], kinds: str) -> dict[int, dict[str, Any]]:
    """Return the relations of some kinds."""
    return {oid: row for oid, row in rows.items() if row["kind"] in kinds}


def _scanned(before: dict[str, Any], after: dict[str, Any] | None) -> bool:
    """Tell whether a table that is still there was read from beginning to end."""
    return after is not None and after["scans"] > before["scans"]


def _dropped(
    tables: Mapping[int, dict[str, Any]], after: Mapping[int, dict[str, Any]]
) -> Iterator[str]:
    """Yield the tables, and the columns of those that are left, that are gone."""
    for oid, row in tables.items():
        if oid not in after:
            yield row["name"]
            continue
        for column in row["columns"]:
            if column not in after[oid]["columns"]:
                yield f"{row['name']}.{column}"


def _waits(locks: Mapping[str, str]) -> str:
    """Say who waits for a migration that holds these locks."""
    readers = sorted(table for table, mode in locks.items() if mode == "ACCESS EXCLUSIVE")
    writers = sorted(
        table
        for table, mode in locks.items()
        if "ROW EXCLUSIVE" in conflicts(mode) and mode != "ACCESS EXCLUSIVE"
    )
    parts = [f"readers and writers of {', '.join(readers)}"] if readers else []
    parts += [f"writers of {', '.join(writers)}"] if writers else []
    return "; ".join(parts) or "nobody"


def _listed(names: Iterable[str]) -> str:
    """Return names as a list, or nothing."""
    return ", ".join(sorted(names)) or "nothing"
