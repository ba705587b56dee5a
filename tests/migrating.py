"""Fixtures and helpers for tests of the migrator: a directory that a test writes migrations into,
an empty database, and processes that migrate.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from butido_store._query import query
from butido_store.admin import migrate
from butido_store.admin.migrate import Migrator

Connection = psycopg.Connection[tuple[object, ...]]

ROOT = Path(migrate.__file__).parents[2]
PATIENCE = timedelta(seconds=60)

LOCK_TIMEOUT = "SET LOCAL lock_timeout = '150ms';\n"
NOTES = """\
-- Phase:     pre (a test)
-- Locks:     none
-- Duration:  instant
-- Rollback:  lossless
"""

# What a process does that migrates, with what the test slips in before.
PROGRAM = """
import json, os, pathlib, signal, sys
import psycopg
from butido_store.admin.migrate import Migrator
exec(sys.argv[3])
with psycopg.connect(sys.argv[1]) as connection:
    print(json.dumps(Migrator(connection, directory=pathlib.Path(sys.argv[2])).apply()))
"""
DIE_BEFORE_THE_RECORD = """
Migrator._record = lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL)
"""

# The server is shared with other tests, so what is asked is of this test's database only.
SESSIONS = "(SELECT * FROM pg_stat_activity WHERE datname = current_database()) AS session"
ADVISORY_LOCKS = (
    "(SELECT l.* FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database"
    " WHERE d.datname = current_database() AND l.locktype = 'advisory') AS advisory_lock"
)

CONCURRENT = (
    "CREATE UNIQUE INDEX CONCURRENTLY fruit_name_key ON fruit (name);",
    "DROP INDEX CONCURRENTLY IF EXISTS fruit_name_key;",
)


class Directory:
    """A directory of migrations that a test writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()

    def raw(self, name: str, text: str) -> Path:
        """Write a file as it is."""
        path = self.path / name
        path.write_text(text, encoding="utf-8")
        return path

    def add(
        self,
        id_: str,
        sql: str,
        rollback: str,
        *,
        directives: str = "",
        phase: str = "pre",
        transactional: bool = True,
        notes: str = NOTES,
    ) -> None:
        """Write a migration with header, lock timeout and rollback."""
        if not transactional:
            directives += "-- transactional: false\n"
        header = f"-- Do {id_}.\n{directives}--\n{notes.replace('pre', phase)}\n"
        start = LOCK_TIMEOUT if transactional else ""
        self.raw(f"{id_}.sql", header + start + sql)
        self.raw(f"{id_}.rollback.sql", f"-- Undo {id_}.\n\n{start}{rollback}")

    def table(self, id_: str, table: str, **options: str) -> None:
        """Write a migration that creates a table."""
        self.add(id_, f"CREATE TABLE {table} (name text);", f"DROP TABLE {table};", **options)  # type: ignore[arg-type]

    def concurrent(self, id_: str) -> None:
        """Write a migration that indexes the table fruit without holding anybody up."""
        self.add(id_, *CONCURRENT, transactional=False)


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    """An empty directory, whose name is not to be taken for a pattern."""
    return Directory(tmp_path / "migrations [of a test]")


@pytest.fixture
def database(database_dsn: str) -> Iterator[Connection]:
    """A connection to an empty database of the test's own."""
    with psycopg.connect(database_dsn, autocommit=True) as database:
        yield database


@pytest.fixture
def fruit(database: Connection, directory: Directory) -> Migrator:
    """A migrator that has made the table fruit; an index on it is pending."""
    directory.table("0001.fruit", "fruit")
    migrator = Migrator(database, directory=directory.path)
    migrator.apply()
    directory.concurrent("0002.index")
    return migrator


@pytest.fixture
def second(database_dsn: str) -> Iterator[Connection]:
    """Another connection to that database."""
    with psycopg.connect(database_dsn, autocommit=True) as database:
        yield database


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that do not outlive the test, whatever it comes to."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def start(
    database_dsn: str, directory: Directory, processes: list[subprocess.Popen[str]]
) -> Callable[..., subprocess.Popen[str]]:
    """Start a process that applies the migrations."""

    def start(name: str = "migrator", before: str = "") -> subprocess.Popen[str]:
        dsn = make_conninfo(database_dsn, application_name=name)
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, dsn, str(directory.path), before],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        processes.append(process)
        return process

    return start


def result(process: subprocess.Popen[str]) -> list[str]:
    """Wait for a process and return what it applied."""
    output, _ = process.communicate(timeout=PATIENCE.total_seconds())
    assert process.returncode == 0
    applied = json.loads(output)
    assert isinstance(applied, list)
    return applied


def wait_until(database: Connection, condition: str, *parameters: object) -> None:
    """Ask the server until the condition holds."""
    deadline = time.monotonic() + PATIENCE.total_seconds()
    while not value(database, f"SELECT {condition}", *parameters):
        assert time.monotonic() < deadline, f"still not so: {condition}"
        # Only to leave the processor to those who are waited for.
        time.sleep(0.01)


def wait_until_blocked(database: Connection, name: str) -> None:
    """Wait until the process of this name waits for a lock in the server."""
    wait_until(
        database,
        f"EXISTS (SELECT FROM {SESSIONS} WHERE application_name = %s AND wait_event_type = 'Lock')",
        name,
    )


def wait_until_refused(database: Connection, name: str) -> None:
    """Wait until the process of this name has asked for the migrator's lock."""
    wait_until(
        database,
        f"EXISTS (SELECT FROM {SESSIONS} WHERE application_name = %s"
        " AND query LIKE 'SELECT /* migration/lock */%%')",
        name,
    )


def value(database: Connection, sql: str, *parameters: object) -> object:
    row = database.execute(sql, parameters).fetchone()
    assert row is not None
    return row[0]


def exists(database: Connection, relation: str, schema: str = "butido") -> bool:
    return bool(
        value(
            database,
            "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
            " WHERE nspname = %s AND relname = %s)",
            schema,
            relation,
        )
    )


def index_is_valid(database: Connection, index: str) -> object:
    return value(
        database,
        "SELECT (SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s))",
        f"butido.{index}",
    )


def states(migrator: Migrator) -> dict[str, str]:
    return {status.id: status.state for status in migrator.status()}


def snapshot(database: Connection) -> list[tuple[object, ...]]:
    """Return all that is in the catalog and not PostgreSQL's own."""
    return database.execute(
        "SELECT nspname, relname, relkind FROM pg_namespace n"
        " LEFT JOIN pg_class c ON c.relnamespace = n.oid"
        " WHERE nspname !~ '^(pg_|information_schema)' ORDER BY 1, 2"
    ).fetchall()


def hold_lock(database: Connection, schema: str = "butido") -> None:
    """Hold the migrator's lock, as another migrator does."""
    rendered = query("migration/lock").render(frozenset({"schema"}))
    cursor = psycopg.RawCursor(database)
    # A session that has just ended may have it a little longer.
    while cursor.execute(rendered.sql, [schema]).fetchone() != (True,):
        pass
