"""Apply each migration to a generated store while the library works on it, and hold its header
against what is seen: locks, waits, rewrites, scans, WAL, time, and what a rollback loses.

Run it with `./dev run python bench/headers.py --jobs 1000000`: on a server of its own, or with
--dsn on one of yours, where it makes and drops databases named butido_headers_…. It exits with 1
where a header is wrong.
"""

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import psycopg
from generate import generate
from psycopg import sql
from psycopg.conninfo import make_conninfo
from server import UNTIL
from workload import submits

from butido_store import Store, job, report
from butido_store.admin.header import MODES, conflicts, pg_mode, said
from butido_store.admin.migrate import MigrationFile, Migrator, shipped
from butido_store.admin.plan import Seen, Watcher, lies
from butido_store.embedded import Server
from butido_store.errors import StoreError

# A catalog's pages differ by so much from one database to the next.
_NOISE = 1_000_000
# From here on time is no noise, and is held against the header.
_LARGE = 100_000
_MODES = {pg_mode(mode): mode for mode in MODES}
_WORKERS = 3
_PATIENCE = 60.0

_WAITING = """
SELECT a.application_name, l.locktype, coalesce(l.relation, 0)::bigint, l.mode
FROM pg_stat_activity AS a JOIN pg_locks AS l ON l.pid = a.pid
WHERE NOT l.granted AND %s = ANY(pg_blocking_pids(a.pid)) AND a.application_name = ANY(%s)
"""


@dataclass(slots=True)
class Checked:
    """A migration: what was seen, what it took, who waited, and where its header is wrong."""

    id: str
    jobs: int
    seen: Seen
    seconds: float
    wal: int  # bytes, beyond those that it writes in an empty store
    waited: frozenset[str]  # the lock that a library's statement waited for, and on what
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Return all of it, a line for each thing."""
        took = f"{self.seconds:.3f} s and {self.wal / 1e6:.1f} MB of WAL on {self.jobs:,} jobs"
        lines = [
            f"{self.id}: {took}",
            f"  locks {said(self.seen.locks)}; scans {sorted(self.seen.scans)}; "
            f"rewrites {sorted(self.seen.rewrites)}",
            f"  the library waited for {', '.join(sorted(self.waited)) or 'nothing'}",
            *(f"  WRONG: {lie}" for lie in self.wrong),
        ]
        return "\n".join(lines)


class _UnderLoad(Watcher):
    """A migrator that, with all its locks, waits until each worker got through or waits for it."""

    load: "_Load"
    waited: frozenset[str] = frozenset()

    def _look(self, file: MigrationFile) -> Seen:
        owners = {oid: row["owner"] for oid, row in self._before.items()}
        self.waited = self.load.through(self._connection.info.backend_pid, owners)
        return super()._look(file)


class _Load:
    """Threads in which the library writes and reads."""

    def __init__(self, dsn: str, schema: str) -> None:
        self._dsn, self._schema = dsn, schema
        self.errors: list[str] = []
        self._turns = [0] * (_WORKERS + 1)
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(number,)) for number in range(_WORKERS + 1)
        ]

    def __enter__(self) -> "_Load":
        for thread in self._threads:
            thread.start()
        self.turn()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _name(self, number: int) -> str:
        return f"headers {number}"

    def _work(self, number: int) -> None:
        """Write, or as the last one read, until it is enough; each turn counts."""
        dsn = make_conninfo(self._dsn, application_name=self._name(number))
        try:
            with Store.connect(dsn, schema=self._schema, retry_for=_PATIENCE) as store:
                for one in submits(number + 1, jobs=3):
                    if self._stop.is_set():
                        return
                    _read(store) if number == _WORKERS else _write(store, one)
                    self._turns[number] += 1
        except StoreError as error:
            self.errors.append(f"{type(error).__name__}: {error}")

    def turn(self) -> None:
        """Wait until each has taken a turn from beginning to end."""
        before, deadline = list(self._turns), time.monotonic() + _PATIENCE
        while not self.errors and min(map(int.__sub__, self._turns, before)) < 2:
            if time.monotonic() > deadline:
                self.errors.append("the library stands still")
            time.sleep(0.002)

    def through(self, pid: int, owners: Mapping[int, str]) -> frozenset[str]:
        """Wait until each has taken a turn from beginning to end, or waits for a server process.

        :param pid: the process
        :param owners: the table of each relation
        :returns: what they wait for
        """
        before, deadline = list(self._turns), time.monotonic() + _PATIENCE
        names = [self._name(number) for number in range(_WORKERS + 1)]
        waited: set[str] = set()
        stuck: set[str] = set()
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            while not self.errors and time.monotonic() < deadline:
                for name, kind, oid, mode in connection.execute(_WAITING, [pid, names]).fetchall():
                    stuck.add(str(name))
                    what = owners.get(int(oid), "?") if kind == "relation" else "rows"
                    waited.add(f"{_MODES.get(str(mode), str(mode))} on {what}")
                if all(
                    self._turns[number] - before[number] >= 2 or self._name(number) in stuck
                    for number in range(_WORKERS + 1)
                ):
                    break
        return frozenset(waited)


def _write(store: Store, one: Any) -> None:
    """Record a submit, two jobs that have ended, and one as it goes."""
    store.run(one.created())
    *ended, last = one.jobs
    store.run(job.record_all(ended))
    store.run(
        job.start(
            last.uuid,
            submit=last.submit,
            package=last.package,
            version=last.version,
            image=last.image,
            endpoint=last.endpoint,
            started_at=last.started_at,
            script=last.script,
            env=last.env,
            inputs=last.inputs,
        )
    )
    store.run(job.heartbeat(last.uuid))
    store.run(job.append_log(last.uuid, seq=0, data=last.log))
    store.run(
        job.finish(last.uuid, state=last.state, finished_at=last.finished_at, outputs=last.outputs)
    )


def _read(store: Store) -> None:
    """Ask what people and builders ask."""
    jobs = store.run(report.jobs(limit=5))
    for one in jobs[:1]:
        store.run(report.job(one.uuid))
        store.run(job.inputs(one.uuid))
    store.run(report.submits(limit=5))
    store.run(report.artifacts(limit=5))
    store.run(report.releases(limit=5))
    store.run(report.failures(limit=5))


def check(
    dsn: str,
    *,
    directory: Path | None = None,
    after: str | None = None,
    jobs: int,
    schema: str = "butido",
) -> Iterator[Checked]:
    """Check migrations, each on a store of its own that is as those before it leave it.

    :param dsn: of a role that may create databases
    :param directory: where the migrations are; by default those of this release
    :param after: only those after this one, which the store is generated on
    :param jobs: how many jobs
    :param schema: the schema that holds the store
    """
    files = shipped(directory)
    ids = [file.id for file in files]
    first = ids.index(after) + 1 if after else 0
    with ExitStack() as stack:
        empty = stack.enter_context(_database(dsn, "empty"))
        full = stack.enter_context(_database(dsn, "full"))
        if first:
            for base in (empty, full):
                _apply(base, directory, schema, to=ids[first - 1])
            with redirect_stdout(StringIO()):
                generate(full, schema=schema, jobs=jobs, until=UNTIL)
        for number, file in enumerate(files[first:], first):
            yield _check(dsn, empty, full, file, directory, jobs if first else 0, schema)
            for base in (empty, full):
                _apply(base, directory, schema, to=ids[number])


def _check(
    dsn: str,
    empty: str,
    full: str,
    file: MigrationFile,
    directory: Path | None,
    jobs: int,
    schema: str,
) -> Checked:
    """Check one migration."""
    floor = sys.maxsize
    for _ in range(2):
        with _database(dsn, "clone", template=empty) as clone:
            floor = min(floor, _quiet(clone, file, directory, schema)[2])
    with _database(dsn, "clone", template=full) as clone:
        before = _content(clone, schema)
        seen, seconds, wal = _quiet(clone, file, directory, schema)
        lost = _undo(clone, file, directory, schema)
        after = _content(clone, schema)
    if wal - floor > _wal_said(file, jobs):
        with _database(dsn, "clone", template=full) as clone:
            wal = min(wal, _quiet(clone, file, directory, schema)[2])
    checked = Checked(file.id, jobs, seen, seconds, max(wal - floor, 0), frozenset())
    checked.wrong += lies(file, seen, lost)
    if file.header.lossless and before != after:
        names = sorted(name for name in before if before[name] != after.get(name))
        checked.wrong.append(f"its rollback leaves {', '.join(names)} changed, and says lossless")
    _hold_cost(file, checked)
    if jobs:
        with _database(dsn, "clone", template=full) as clone:
            _under_load(clone, file, directory, schema, checked)
    return checked


def _wal_said(file: MigrationFile, jobs: int) -> float:
    """Return how many bytes of WAL a migration may write on so many jobs, by its header."""
    cost = file.header.cost
    return _NOISE + (2 * cost.wal_bytes * jobs / cost.jobs if cost else 0)


def _hold_cost(file: MigrationFile, checked: Checked) -> None:
    """Hold what a migration took against what its header says for as many jobs."""
    cost = file.header.cost
    seconds = 3 * cost.seconds * checked.jobs / cost.jobs if cost else 0
    if checked.wal > _wal_said(file, checked.jobs):
        checked.wrong.append(
            f"it writes {checked.wal / 1e6:.1f} MB of WAL on {checked.jobs} jobs, and says "
            f"{file.header.duration}"
        )
    if checked.jobs >= _LARGE and checked.seconds > seconds + 1:
        checked.wrong.append(f"it takes {checked.seconds:.1f} s, and says {file.header.duration}")


def _under_load(
    dsn: str, file: MigrationFile, directory: Path | None, schema: str, checked: Checked
) -> None:
    """Apply a migration while the library works, and hold who waits against the header."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        migrator = _UnderLoad(connection, schema=schema, directory=directory)
        with _Load(dsn, schema) as load:
            migrator.load = load
            with migrator._session(alone=True):
                migrator.watch(file)
            # What was prepared before the migration is run after it.
            load.turn()
    checked.waited = migrator.waited
    locks = file.header.locks
    for one in sorted(checked.waited):
        mode, _, table = one.partition(" on ")
        if table == "rows":
            told = any(lock == "ROW EXCLUSIVE" for lock in locks.values())
        else:
            told = table in locks and mode in conflicts(locks[table])
        if not told:
            checked.wrong.append(f"the library waits for {one}, and it says {said(locks)}")
    checked.wrong += [f"the library failed meanwhile: {error}" for error in load.errors]


def _quiet(
    dsn: str, file: MigrationFile, directory: Path | None, schema: str
) -> tuple[Seen, float, int]:
    """Apply a migration where nobody else works: what is seen, seconds, and bytes of WAL.

    The WAL is the whole server's: with a checkpoint or an autovacuum meanwhile it is more, by the
    pages that are written whole. So what seems too much is measured twice, and the lesser counts.
    """
    position = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint"
    with psycopg.connect(dsn, autocommit=True) as connection:
        migrator = Watcher(connection, schema=schema, directory=directory)
        with migrator._session(alone=True) as session:
            migrator._prepare(session)
            (begin,) = connection.execute(position).fetchone() or (0,)
            started = time.monotonic()
            seen = migrator.watch(file)
            seconds = time.monotonic() - started
            (end,) = connection.execute(position).fetchone() or (0,)
    return seen, seconds, end - begin


def _undo(dsn: str, file: MigrationFile, directory: Path | None, schema: str) -> frozenset[str]:
    """Undo a migration; return what is dropped."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        migrator = Watcher(connection, schema=schema, directory=directory)
        with migrator._session(alone=True):
            return migrator.watch(file, undo=True).dropped


def _apply(dsn: str, directory: Path | None, schema: str, *, to: str) -> None:
    """Apply migrations up to one."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        Migrator(connection, schema=schema, directory=directory).apply(to=to)


def _content(dsn: str, schema: str) -> dict[str, object]:
    """Return the number of rows of each table of the store, and a sum over their content."""
    with psycopg.connect(dsn) as connection:
        tables = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = %s AND tablename !~ '^_yoyo'",
            [schema],
        ).fetchall()
        return {
            str(name): connection.execute(
                sql.SQL("SELECT count(*), sum(hashtextextended(t::text, 0)) FROM {} AS t").format(
                    sql.Identifier(schema, str(name))
                )
            ).fetchone()
            for (name,) in tables
        }


@contextmanager
def _database(dsn: str, name: str, template: str | None = None) -> Iterator[str]:
    """Lend an empty database, or a copy of another one, and drop it after.

    :param dsn: of any database of the server
    :param name: ends the database's name
    :param template: DSN of the one to copy
    """
    database = sql.Identifier(f"butido_headers_{name}")
    drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(database)
    source = "template0"
    if template:
        source = str(psycopg.conninfo.conninfo_to_dict(template)["dbname"])
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(drop)
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} ENCODING 'UTF8'").format(
                database, sql.Identifier(source)
            )
        )
        try:
            yield make_conninfo(dsn, dbname=f"butido_headers_{name}")
        finally:
            connection.execute(drop)


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dsn", help="of a role that may create databases")
    parser.add_argument("--directory", type=Path, help="of the migrations; by default ours")
    parser.add_argument("--after", help="only those after this one")
    parser.add_argument("--jobs", type=int, default=1_000_000)
    options = parser.parse_args()
    wrong = 0
    with ExitStack() as stack:
        dsn = options.dsn
        if dsn is None:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="butido-")))
            place.chmod(0o755)
            dsn = stack.enter_context(Server(place)).dsn
        for one in check(dsn, directory=options.directory, after=options.after, jobs=options.jobs):
            print(one, flush=True)
            wrong += len(one.wrong)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
