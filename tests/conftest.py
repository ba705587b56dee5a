"""One embedded PostgreSQL for the whole run, and a database for each test that wants one.

The server is shared by all pytest-xdist workers. Each worker migrates one database that tests
write to and that is emptied after each, and a template of which tests that change the schema get
clones. `BUTIDO_TEST_SCHEMA` names the schema, so that the suite can run under another, and
`BUTIDO_STORE_BINDIR` the server's programs; `--server-only` runs what depends on them.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar, overload

import psycopg
import pytest
from filled import WRITTEN
from hypothesis import HealthCheck, settings
from psycopg import sql
from psycopg.conninfo import make_conninfo
from pytest_postgresql import factories
from pytest_postgresql.executors.noop import NoopExecutor
from samples import TIME

from butido_store import AsyncStore, Statement, Store
from butido_store.admin.migrate import Migrator
from butido_store.embedded import Server, find_binaries

# Fixtures of several files that most tests have no use for.
pytest_plugins = ["commandline", "migrating", "pooling", "rows", "shell", "standby"]

A = TypeVar("A")
B = TypeVar("B")

# How many examples a property is tried with: --hypothesis-profile chooses.
for _name, _examples in {"few": 6, "default": 10, "thorough": 2000}.items():
    settings.register_profile(
        _name,
        deadline=None,
        max_examples=_examples,
        # A database lasts for all examples of a test, which clear it, or add to it.
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
settings.load_profile("default")

_DIRECTORY = "BUTIDO_TEST_SERVER"
# Debian's server compiles a query that it takes for expensive, as it does a report on tables that
# nobody has counted: 15 of them took 29 s of a processor with that, and 6 without.
_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "jit": "off"}


# Each test that gets a database, or a place for a server, has one of these. The connections are
# pytest-postgresql's, which hide that they use the first.
_OF_THE_SERVER = {"postgres", "migrated_connection", "empty_connection", "short_directory"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the tests be chosen that another version of the server can fail."""
    parser.addoption(
        "--server-only",
        action="store_true",
        help="leave out what has no database, is marked with any_server, or is of an AsyncStore",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what `--server-only` asks to."""
    if not config.getoption("--server-only"):
        return
    chosen: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        asked = item.get_closest_marker("own_server") or not _OF_THE_SERVER.isdisjoint(fixtures)
        # Of the two kinds of store one is enough: both send the server the same.
        params = getattr(getattr(item, "callspec", None), "params", {})
        twice = item.get_closest_marker("any_server") or params.get("store") == "async"
        (chosen if asked and not twice else left_out).append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = chosen


def pytest_report_header() -> str:
    """Say which server the tests run on."""
    binaries = find_binaries()
    version = subprocess.run(
        [binaries / "postgres", "--version"], stdout=subprocess.PIPE, text=True
    )
    return f"server: {version.stdout.strip()} in {binaries}"


def pytest_configure(config: pytest.Config) -> None:
    """Choose the server's directory, in the process that starts the workers."""
    # Inherited as ignored, it would make every program that a test starts look successful.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if not hasattr(config, "workerinput"):
        directory = tempfile.mkdtemp(prefix="butido-test-")
        # The server runs as another user when the tests run as root.
        Path(directory).chmod(0o755)
        os.environ[_DIRECTORY] = directory


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the server's directory after the last worker has left."""
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ.pop(_DIRECTORY), ignore_errors=True)


@dataclass(frozen=True)
class Postgres:
    """The server, in the words of pytest-postgresql."""

    host: str
    bindir: Path
    port: int = 5432
    user: str = "butido"
    password: str | None = None
    options: str = ""
    maintenance_dbname: str = "postgres"
    template_dbname: str | None = None

    @property
    def psql(self) -> str:
        """The server's own psql, or any where it has none."""
        return self._program("psql")

    @property
    def pg_dump(self) -> str:
        """The server's own pg_dump, or any where it has none."""
        return self._program("pg_dump")

    def _program(self, name: str) -> str:
        found = shutil.which(name, path=f"{self.bindir}{os.pathsep}{os.environ.get('PATH', '')}")
        if found is None:
            pytest.skip(f"neither {self.bindir} nor PATH has {name}")
        return found


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The server of this run."""
    with Server(Path(os.environ[_DIRECTORY]), settings=_FAST) as server:
        yield Postgres(str(server.socket_directory), server.bindir)


@pytest.fixture(scope="session")
def schema() -> str:
    """Name of the schema that the tests run in."""
    return os.environ.get("BUTIDO_TEST_SCHEMA", "butido")


def _migrate(*, host: str, port: int, user: str, dbname: str, **_: object) -> None:
    with psycopg.connect(
        host=host, port=port, user=user, dbname=dbname, autocommit=True
    ) as connection:
        Migrator(connection, schema=os.environ.get("BUTIDO_TEST_SCHEMA", "butido")).apply()


migrated = factories.postgresql_noproc(depends_on="postgres", dbname="migrated", load=[_migrate])
migrated_connection = factories.postgresql("migrated")
shared = factories.postgresql_noproc(depends_on="postgres", dbname="shared", load=[_migrate])
empty = factories.postgresql_noproc(depends_on="postgres", dbname="empty")
empty_connection = factories.postgresql("empty")


def _dsn(connection: psycopg.Connection[tuple[object, ...]]) -> str:
    info = connection.info
    return make_conninfo(host=info.host, port=info.port, user=info.user, dbname=info.dbname)


@pytest.fixture
def clone_dsn(migrated_connection: psycopg.Connection[tuple[object, ...]]) -> str:
    """DSN of a migrated database of the test's own, for tests that change the schema."""
    return _dsn(migrated_connection)


@pytest.fixture(scope="session")
def _worker_dsn(postgres: Postgres, shared: NoopExecutor) -> str:
    """DSN of this worker's migrated database."""
    return make_conninfo(
        host=postgres.host,
        port=postgres.port,
        user=postgres.user,
        dbname=shared.template_dbname,
    )


class _Keeper:
    """Fills and empties a worker's database, by a session that lasts.

    In a new session, the server takes longer to look up the tables than to empty them.
    """

    def __init__(self, dsn: str, schema: str) -> None:
        self._dsn = dsn
        self._schema = schema
        self._connection: psycopg.Connection[Any] | None = None
        self._tables: list[sql.Identifier] = []
        # What each table has in a filled database, as COPY writes it.
        self._rows: list[tuple[sql.Identifier, list[bytes]]] = []

    def empty(self) -> None:
        """Delete every row."""
        each = [sql.SQL("DELETE FROM {}").format(one) for one in self._tables_of()]
        statement = sql.SQL("; ").join(each)
        try:
            self._session().execute(statement)
        except psycopg.OperationalError:
            if self._session_lasts():
                raise
            # A test ended all sessions but its own.
            self._session().execute(statement)

    def fill(self) -> None:
        """Write a row into every table, which are empty."""
        if not self._rows:
            self._write()
            return
        with self._session().transaction(), self._session().cursor() as cursor:
            for table, rows in self._rows:
                with cursor.copy(sql.SQL("COPY {} FROM STDIN").format(table)) as copy:
                    for piece in rows:
                        copy.write(piece)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _write(self) -> None:
        with Store.connect(self._dsn, schema=self._schema) as store:
            store.run(*WRITTEN)
        connection = self._session()
        connection.execute(
            sql.SQL("UPDATE {} SET heartbeat_at = {} WHERE state = 'running'").format(
                sql.Identifier(self._schema, "job"), TIME - timedelta(days=9999)
            )
        )
        for table in self._tables_of():
            with connection.cursor().copy(sql.SQL("COPY {} TO STDOUT").format(table)) as copy:
                self._rows.append((table, [bytes(piece) for piece in copy]))

    def _tables_of(self) -> list[sql.Identifier]:
        if not self._tables:
            rows = self._session().execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = %s AND tablename NOT LIKE %s"
                " ORDER BY tablename",
                [self._schema, r"\_yoyo%"],
            )
            self._tables = [sql.Identifier(self._schema, table) for (table,) in rows]
        return self._tables

    def _session_lasts(self) -> bool:
        return self._connection is not None and not self._connection.closed

    def _session(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                self._dsn,
                autocommit=True,
                # What a test left locked would keep the whole run waiting. And without foreign
                # keys: faster than TRUNCATE, which makes the files of 90 indexes anew.
                options="-c lock_timeout=60s -c session_replication_role=replica",
            )
        return self._connection


@pytest.fixture(scope="session")
def _keeper(_worker_dsn: str, schema: str) -> Iterator[_Keeper]:
    keeper = _Keeper(_worker_dsn, schema)
    yield keeper
    keeper.close()


@pytest.fixture
def dsn(_worker_dsn: str, _keeper: _Keeper) -> Iterator[str]:
    """DSN of a migrated database, which is emptied after the test."""
    yield _worker_dsn
    _keeper.empty()


@pytest.fixture
def database_dsn(empty_connection: psycopg.Connection[tuple[object, ...]]) -> str:
    """DSN of an empty database of the test's own."""
    return _dsn(empty_connection)


@pytest.fixture
def filled(dsn: str, _keeper: _Keeper) -> str:
    """DSN of a database with a row in every table."""
    _keeper.fill()
    return dsn


@pytest.fixture
def connect(
    dsn: str, schema: str
) -> Iterator[Callable[[], psycopg.Connection[tuple[object, ...]]]]:
    """Open connections to the test's database, in autocommit mode and with the search path set."""
    opened = []

    def connect() -> psycopg.Connection[tuple[object, ...]]:
        connection = psycopg.connect(dsn, autocommit=True)
        opened.append(connection)
        connection.execute("SELECT set_config('search_path', quote_ident(%s), false)", [schema])
        return connection

    yield connect
    for connection in opened:
        connection.close()


@pytest.fixture
def connection(
    connect: Callable[[], psycopg.Connection[tuple[object, ...]]],
) -> psycopg.Connection[tuple[object, ...]]:
    """A connection to the test's database, for plain SQL."""
    return connect()


class AnyStore(Protocol):
    """What `Store` and `AsyncStore` have in common, once awaited."""

    @overload
    def run(self, a: Statement[A], /) -> A: ...
    @overload
    def run(self, a: Statement[A], b: Statement[B], /) -> tuple[A, B]: ...
    @overload
    def run(self, *statements: Statement[A]) -> tuple[A, ...]: ...


class Awaited:
    """An `AsyncStore` whose calls are waited for, so that one test serves both stores."""

    def __init__(self, connect: Callable[[], Coroutine[Any, Any, AsyncStore]]) -> None:
        self._runner = asyncio.Runner()
        try:
            self._store = self._runner.run(connect())
        except BaseException:
            self._runner.close()
            raise

    def run(self, *statements: Statement[object]) -> object:
        return self._runner.run(self._store.run(*statements))

    def close(self) -> None:
        self._runner.run(self._store.close())
        self._runner.close()


@pytest.fixture(params=["sync", "async"])
def store(request: pytest.FixtureRequest, dsn: str, schema: str) -> Iterator[AnyStore]:
    """A store on the test's database: the test runs through both kinds."""
    opened = (
        Store.connect(dsn, schema=schema)
        if request.param == "sync"
        else Awaited(lambda: AsyncStore.connect(dsn, schema=schema))
    )
    yield opened  # type: ignore[misc]
    opened.close()


@pytest.fixture
def sigchld_ignored() -> list[str]:
    """The begin of a command: what follows runs as a program that inherits SIGCHLD as ignored."""
    script = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    return [sys.executable, "-c", script]


@pytest.fixture
def short_directory() -> Iterator[Path]:
    """A directory that a server may have, whoever runs it: short, and open to others."""
    with tempfile.TemporaryDirectory(prefix="butido-") as name:
        Path(name).chmod(0o755)
        yield Path(name)
