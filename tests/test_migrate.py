"""The migrator: what is kept when it succeeds, fails, is killed, or meets another one."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row

from butido_store._query import query
from butido_store.admin import migrate
from butido_store.admin.migrate import ZERO, Migrator, shipped
from butido_store.errors import MigrationError, StoreError

Connection = psycopg.Connection[tuple[object, ...]]

ROOT = Path(migrate.__file__).parents[2]
PATIENCE = timedelta(seconds=60)

LOCK_TIMEOUT = "SET LOCAL lock_timeout = '5s';\n"
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
    ) -> None:
        """Write a migration with header, lock timeout and rollback."""
        if not transactional:
            directives += "-- transactional: false\n"
        header = f"-- Do {id_}.\n{directives}--\n{NOTES.replace('pre', phase)}\n"
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
    return Directory(tmp_path / "migrations [of a test]")


@pytest.fixture
def connection(database_dsn: str) -> Iterator[Connection]:
    with psycopg.connect(database_dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture
def other(database_dsn: str) -> Iterator[Connection]:
    with psycopg.connect(database_dsn, autocommit=True) as connection:
        yield connection


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


def wait_until(connection: Connection, condition: str, *parameters: object) -> None:
    """Ask the server until the condition holds."""
    deadline = time.monotonic() + PATIENCE.total_seconds()
    while not value(connection, f"SELECT {condition}", *parameters):
        assert time.monotonic() < deadline, f"still not so: {condition}"
        # Only to leave the processor to those who are waited for.
        time.sleep(0.01)


def wait_until_blocked(connection: Connection, name: str) -> None:
    """Wait until the process of this name waits for a lock in the server."""
    wait_until(
        connection,
        f"EXISTS (SELECT FROM {SESSIONS} WHERE application_name = %s AND wait_event_type = 'Lock')",
        name,
    )


def wait_until_refused(connection: Connection, name: str) -> None:
    """Wait until the process of this name has asked for the migrator's lock."""
    wait_until(
        connection,
        f"EXISTS (SELECT FROM {SESSIONS} WHERE application_name = %s"
        " AND query LIKE '/* migration/lock */%%')",
        name,
    )


def value(connection: Connection, sql: str, *parameters: object) -> object:
    row = connection.execute(sql, parameters).fetchone()
    assert row is not None
    return row[0]


def exists(connection: Connection, relation: str, schema: str = "butido") -> bool:
    return bool(
        value(
            connection,
            "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
            " WHERE nspname = %s AND relname = %s)",
            schema,
            relation,
        )
    )


def index_is_valid(connection: Connection, index: str) -> object:
    return value(
        connection,
        "SELECT (SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s))",
        f"butido.{index}",
    )


def states(migrator: Migrator) -> dict[str, str]:
    return {status.id: status.state for status in migrator.status()}


def snapshot(connection: Connection) -> list[tuple[object, ...]]:
    """Return all that is in the catalog and not PostgreSQL's own."""
    return connection.execute(
        "SELECT nspname, relname, relkind FROM pg_namespace n"
        " LEFT JOIN pg_class c ON c.relnamespace = n.oid"
        " WHERE nspname !~ '^(pg_|information_schema)' ORDER BY 1, 2"
    ).fetchall()


# What is kept ----------------------------------------------------------------------------------


def test_apply_rollback_and_apply_again(connection: Connection, directory: Directory) -> None:
    directory.table("0001.fruit", "fruit")
    directory.concurrent("0002.index")
    directory.table("0003.nut", "nut", phase="post")
    ids = ["0001.fruit", "0002.index", "0003.nut"]
    migrator = Migrator(connection, directory=directory.path)

    assert migrator.apply() == ids
    full = snapshot(connection)
    assert exists(connection, "nut")
    assert index_is_valid(connection, "fruit_name_key")
    assert migrator.apply() == []

    assert migrator.rollback(to=ZERO) == ids[::-1]
    assert not exists(connection, "fruit")
    assert not exists(connection, "nut")
    assert set(states(migrator).values()) == {"pending"}
    assert migrator.rollback(to=ZERO) == []

    assert migrator.apply() == ids
    assert snapshot(connection) == full


def test_status_tells_when_how_long_and_which_phase(
    connection: Connection, directory: Directory
) -> None:
    directory.table("0001.fruit", "fruit")
    directory.concurrent("0002.index")
    directory.table("0003.nut", "nut", phase="post")
    migrator = Migrator(connection, directory=directory.path)
    migrator.apply(to="0002.index")

    fruit, index, nut = migrator.status()
    assert (fruit.id, fruit.state, fruit.phase, fruit.transactional) == (
        "0001.fruit", "applied", "pre", True,
    )  # fmt: skip
    assert fruit.applied_at is not None
    assert fruit.applied_at.tzinfo is not None
    assert abs(datetime.now(UTC) - fruit.applied_at) < timedelta(hours=1)
    assert fruit.duration is not None
    assert fruit.duration > timedelta(0)
    assert (index.state, index.transactional) == ("applied", False)
    assert (nut.state, nut.phase) == ("pending", "post")
    assert (nut.applied_at, nut.duration) == (None, None)


def test_the_record_has_checksum_phase_and_log(
    connection: Connection, directory: Directory
) -> None:
    directory.table("0001.fruit", "fruit", phase="post")
    migrator = Migrator(connection, directory=directory.path)
    migrator.apply()
    row = connection.execute(
        "SELECT migration_id, sha256 = sha256(%b), phase FROM butido._yoyo_migration",
        [(directory.path / "0001.fruit.sql").read_bytes()],
    ).fetchall()
    assert row == [("0001.fruit", True, "post")]
    migrator.rollback(to=ZERO)
    log = connection.execute(
        "SELECT operation, migration_id, username FROM butido._yoyo_log ORDER BY created_at_utc"
    ).fetchall()
    user = connection.info.user
    assert log == [("apply", "0001.fruit", user), ("rollback", "0001.fruit", user)]


def test_yoyo_itself_lists_what_is_applied(
    database_dsn: str, connection: Connection, directory: Directory
) -> None:
    directory.table("0001.fruit", "fruit")
    directory.table("0002.nut", "nut")
    Migrator(connection, directory=directory.path).apply(to="0001.fruit")
    arguments = {**conninfo_to_dict(database_dsn), "schema": "butido"}
    uri = f"postgresql+psycopg:///{arguments.pop('dbname')}?{urlencode(arguments)}"
    plain = directory.path.rename(directory.path.with_name("plain"))
    done = subprocess.run(
        [sys.executable, "-m", "yoyo", "list", "--batch", "--no-config-file", "-d", uri, plain],
        check=True,
        capture_output=True,
        text=True,
    )
    lines = [line.split()[:2] for line in done.stdout.splitlines()]
    assert ["A", "0001.fruit"] in lines
    assert ["U", "0002.nut"] in lines


def test_apply_up_to_a_named_migration_and_to_the_phase(
    connection: Connection, directory: Directory
) -> None:
    for number, phase in enumerate(("pre", "pre", "post", "pre"), 1):
        directory.table(f"000{number}.t", f"t{number}", phase=phase)
    migrator = Migrator(connection, directory=directory.path)
    assert migrator.apply(to="0001.t") == ["0001.t"]
    assert migrator.apply(phase="pre") == ["0002.t"]
    assert migrator.apply(phase="pre") == []
    assert migrator.apply(to="0001.t") == []
    assert migrator.apply() == ["0003.t", "0004.t"]


def test_rollback_to_a_named_migration(connection: Connection, directory: Directory) -> None:
    for number in (1, 2, 3):
        directory.table(f"000{number}.t", f"t{number}")
    migrator = Migrator(connection, directory=directory.path)
    migrator.apply()
    assert migrator.rollback(to="0001.t") == ["0003.t", "0002.t"]
    assert exists(connection, "t1")
    assert not exists(connection, "t2")
    assert states(migrator) == {"0001.t": "applied", "0002.t": "pending", "0003.t": "pending"}
    with pytest.raises(MigrationError, match=r"0003\.t is not applied"):
        migrator.rollback(to="0003.t")


@pytest.mark.parametrize("name", ["0009.none", "0001", "", "ZERO"])
def test_an_unknown_name_is_refused(
    connection: Connection, directory: Directory, name: str
) -> None:
    directory.table("0001.fruit", "fruit")
    migrator = Migrator(connection, directory=directory.path)
    with pytest.raises(MigrationError, match=r"no migration .*; the last one is 0001\.fruit"):
        migrator.apply(to=name)
    with pytest.raises(MigrationError, match="no migration"):
        migrator.rollback(to=name)
    assert snapshot(connection) == [("public", None, None)]


def test_dependencies_go_before_numbers(connection: Connection, directory: Directory) -> None:
    directory.add(
        "0001.nut-kind",
        "ALTER TABLE nut ADD COLUMN kind text;",
        "ALTER TABLE nut DROP COLUMN kind;",
        directives="-- depends: 0002.nut\n",
    )
    directory.table("0002.nut", "nut")
    migrator = Migrator(connection, directory=directory.path)
    assert migrator.apply(to="0002.nut") == ["0002.nut"]
    assert migrator.apply() == ["0001.nut-kind"]
    assert migrator.rollback(to="0002.nut") == ["0001.nut-kind"]


def test_a_migration_that_was_merged_late_is_applied(
    connection: Connection, directory: Directory
) -> None:
    directory.table("0002.nut", "nut")
    migrator = Migrator(connection, directory=directory.path)
    migrator.apply()
    directory.table("0001.fruit", "fruit")
    assert states(migrator) == {"0001.fruit": "pending", "0002.nut": "applied"}
    assert migrator.apply() == ["0001.fruit"]


def test_results_are_not_printed(
    connection: Connection, directory: Directory, capfd: pytest.CaptureFixture[str]
) -> None:
    directory.add(
        "0001.t", "SELECT 'a result';", "SELECT 'another';\nDO $$ BEGIN RAISE NOTICE 'n'; END $$;"
    )
    migrator = Migrator(connection, directory=directory.path)
    migrator.apply()
    migrator.rollback(to=ZERO)
    assert capfd.readouterr() == ("", "")


def test_a_file_reaches_the_server_as_it_is(connection: Connection, directory: Directory) -> None:
    directory.add(
        "0001.t",
        r"""
        /* a comment; /* COMMIT; in a comment; */ ROLLBACK; */
        CREATE TABLE t (name text DEFAULT 'C:\');
        INSERT INTO t VALUES ('100 %s; COMMIT'), (E'\'; COMMIT; --'), ('\');
        DO $body$ BEGIN INSERT INTO t VALUES ('a; b'); END; $body$;
        CREATE FUNCTION two() RETURNS text LANGUAGE sql
        BEGIN ATOMIC
            SELECT 'x';
            SELECT CASE WHEN TRUE THEN 'two' END;
        END;
        INSERT INTO t (name) VALUES (two()), (DEFAULT)  -- no semicolon at the end; COMMIT""",
        "DROP FUNCTION two; DROP TABLE t;",
    )
    migrator = Migrator(connection, directory=directory.path)
    migrator.apply()
    rows = connection.execute("SELECT name FROM butido.t ORDER BY ctid").fetchall()
    expected = ["100 %s; COMMIT", "'; COMMIT; --", "\\", "a; b", "two", "C:\\"]
    assert [name for (name,) in rows] == expected
    migrator.rollback(to=ZERO)
    assert not exists(connection, "t")


def test_each_statement_is_a_message_of_its_own(
    connection: Connection, directory: Directory
) -> None:
    directory.add(
        "0001.t",
        "CREATE TABLE t (query text);\n-- It tells.\nINSERT INTO t\n  VALUES (current_query());"
        " INSERT INTO t VALUES (current_query()); /* no more */",
        "DROP TABLE t;",
    )
    Migrator(connection, directory=directory.path).apply()
    rows = connection.execute("SELECT query FROM butido.t ORDER BY ctid").fetchall()
    assert [query for (query,) in rows] == [
        "INSERT INTO t\n  VALUES (current_query())",
        "INSERT INTO t VALUES (current_query())",
    ]


# Schemas, roles and connections ----------------------------------------------------------------


@pytest.mark.parametrize(
    "schema", ["Butido Store", 'a"b', "a'b", "select", "a,b", "ü" * 31, "s;--", "%s", "\\"]
)
def test_odd_schema_names(connection: Connection, directory: Directory, schema: str) -> None:
    directory.table("0001.fruit", "fruit")
    migrator = Migrator(connection, schema=schema, directory=directory.path)
    assert migrator.apply() == ["0001.fruit"]
    assert exists(connection, "fruit", schema)
    assert states(migrator) == {"0001.fruit": "applied"}
    assert {row[0] for row in snapshot(connection)} == {"public", schema}
    assert migrator.rollback(to=ZERO) == ["0001.fruit"]


@pytest.mark.parametrize(
    "schema", ["", "a" * 64, "ü" * 32, "a\0b", "public", "pg_temp", "pg_x", "$user"]
)
def test_refused_schema_names(connection: Connection, schema: str) -> None:
    with pytest.raises(MigrationError, match="schema"):
        Migrator(connection, schema=schema)


def test_two_schemas_side_by_side(connection: Connection, directory: Directory) -> None:
    directory.table("0001.fruit", "fruit")
    one = Migrator(connection, schema="one", directory=directory.path)
    two = Migrator(connection, schema="two", directory=directory.path)
    assert one.apply() == two.apply() == ["0001.fruit"]
    one.rollback(to=ZERO)
    assert not exists(connection, "fruit", "one")
    assert exists(connection, "fruit", "two")
    assert states(two) == {"0001.fruit": "applied"}


def test_nothing_is_made_in_public_and_everything_is_explained(
    connection: Connection, directory: Directory
) -> None:
    directory.table("0001.fruit", "fruit")
    Migrator(connection, directory=directory.path).apply()
    assert ("public", None, None) in snapshot(connection)
    undescribed = connection.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'butido'::regnamespace"
        " AND relkind = 'r' AND relname <> 'fruit' AND obj_description(oid, 'pg_class') IS NULL"
    ).fetchall()
    assert undescribed == []
    assert value(connection, "SELECT obj_description('butido'::regnamespace)")


@pytest.fixture
def role(connection: Connection) -> Iterator[str]:
    """A role that may connect, and has nothing else."""
    name = f"butido_test_{os.getpid()}"
    connection.execute(f"CREATE ROLE {name}")
    yield name
    connection.execute(f"DROP OWNED BY {name} CASCADE")
    connection.execute(f"DROP ROLE {name}")


def test_a_role_without_create_on_the_database(
    database_dsn: str, connection: Connection, directory: Directory, role: str
) -> None:
    directory.table("0001.fruit", "fruit")
    dsn = make_conninfo(database_dsn, options=f"-c role={role}")
    with psycopg.connect(dsn) as limited:
        migrator = Migrator(limited, directory=directory.path)
        with pytest.raises(MigrationError, match="'butido' cannot be set up: permission denied"):
            migrator.apply()
        connection.execute(f"CREATE SCHEMA butido AUTHORIZATION {role}")
        assert migrator.apply() == ["0001.fruit"]
        assert migrator.rollback(to=ZERO) == ["0001.fruit"]


def test_status_needs_to_read_only(
    database_dsn: str, connection: Connection, directory: Directory, role: str
) -> None:
    directory.table("0001.fruit", "fruit")
    options = f"-c role={role} -c default_transaction_read_only=on"
    with psycopg.connect(make_conninfo(database_dsn, options=options)) as reader:
        migrator = Migrator(reader, directory=directory.path)
        before = snapshot(connection)
        assert states(migrator) == {"0001.fruit": "pending"}
        assert snapshot(connection) == before == [("public", None, None)]
        Migrator(connection, directory=directory.path).apply()
        with pytest.raises(StoreError):
            migrator.status()
        connection.execute(f"GRANT USAGE ON SCHEMA butido TO {role}")
        connection.execute(f"GRANT SELECT ON butido._yoyo_migration TO {role}")
        assert states(migrator) == {"0001.fruit": "applied"}


def test_status_waits_for_nobody(
    connection: Connection, other: Connection, directory: Directory
) -> None:
    directory.table("0001.fruit", "fruit")
    hold_lock(other)
    assert states(Migrator(connection, directory=directory.path)) == {"0001.fruit": "pending"}


def test_the_session_is_given_back_as_it_was(connection: Connection, directory: Directory) -> None:
    directory.table("0001.fruit", "fruit")
    directory.add("0002.bad", "SELECT nonsense;", "SELECT 1;")
    connection.execute("SET search_path = 'A b', public")
    connection.execute("SET lock_timeout = '7s'")
    connection.execute("SET statement_timeout = '8s'")
    migrator = Migrator(connection, directory=directory.path)
    migrator.status()
    with pytest.raises(MigrationError):
        migrator.apply()
    assert value(connection, "SHOW search_path") == '"A b", public'
    assert value(connection, "SHOW lock_timeout") == "7s"
    assert value(connection, "SHOW statement_timeout") == "8s"
    assert value(connection, f"SELECT count(*) FROM {ADVISORY_LOCKS}") == 0


def test_any_row_factory_and_no_autocommit_will_do(database_dsn: str, directory: Directory) -> None:
    directory.table("0001.fruit", "fruit")
    with psycopg.connect(
        database_dsn, row_factory=dict_row, cursor_factory=psycopg.RawCursor
    ) as connection:
        migrator = Migrator(connection, directory=directory.path)
        connection.prepare_threshold = 0
        assert migrator.apply() == ["0001.fruit"]
        assert states(migrator) == {"0001.fruit": "applied"}
        assert connection.autocommit


def test_a_connection_in_a_transaction_or_closed_is_refused(
    connection: Connection, directory: Directory
) -> None:
    directory.table("0001.fruit", "fruit")
    migrator = Migrator(connection, directory=directory.path)
    with connection.transaction():
        operations: list[Callable[[], object]] = [
            migrator.status,
            migrator.apply,
            lambda: migrator.rollback(to=ZERO),
        ]
        for operation in operations:
            with pytest.raises(MigrationError, match=r"outside of any transaction.*INTRANS"):
                operation()
        with pytest.raises(MigrationError, match="outside of any transaction"):
            Migrator(connection)
    connection.close()
    with pytest.raises(MigrationError, match="open connection"):
        migrator.status()


def test_another_encoding_is_refused(database_dsn: str, connection: Connection) -> None:
    name = f"{connection.info.dbname}_ascii"
    connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    try:
        with (
            psycopg.connect(make_conninfo(database_dsn, dbname=name)) as ascii_connection,
            pytest.raises(MigrationError, match="UTF8; it is SQL_ASCII"),
        ):
            Migrator(ascii_connection)
    finally:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_an_old_server_is_refused(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psycopg.ConnectionInfo, "server_version", 140018)
    with pytest.raises(MigrationError, match="PostgreSQL 15 or later is needed; this is 14"):
        Migrator(connection)


# Failures --------------------------------------------------------------------------------------


def test_a_migration_that_fails_midway_leaves_nothing(
    connection: Connection, directory: Directory
) -> None:
    directory.table("0001.fruit", "fruit")
    directory.add("0002.bad", "CREATE TABLE nut ();\nSELECT\n  nonsense;", "DROP TABLE nut;")
    directory.table("0003.berry", "berry")
    migrator = Migrator(connection, directory=directory.path)
    line = (directory.path / "0002.bad.sql").read_text().splitlines().index("  nonsense;") + 1
    with pytest.raises(
        MigrationError,
        match=rf'0002\.bad\.sql:{line}: column "nonsense" .*SQLSTATE 42703; nothing of it was kept',
    ) as caught:
        migrator.apply()
    assert isinstance(caught.value.__cause__, psycopg.errors.UndefinedColumn)
    assert exists(connection, "fruit")
    assert not exists(connection, "nut")
    assert states(migrator) == {
        "0001.fruit": "applied", "0002.bad": "pending", "0003.berry": "pending",
    }  # fmt: skip

    directory.table("0002.bad", "nut")
    assert migrator.apply() == ["0002.bad", "0003.berry"]


def test_a_migration_that_fails_at_commit_leaves_nothing(
    connection: Connection, directory: Directory
) -> None:
    directory.add(
        "0001.t",
        "CREATE TABLE t (a int UNIQUE DEFERRABLE INITIALLY DEFERRED);"
        "INSERT INTO t VALUES (1), (1);",
        "DROP TABLE t;",
    )
    migrator = Migrator(connection, directory=directory.path)
    with pytest.raises(MigrationError, match=r"0001\.t\.sql: duplicate key .*\(a\)=\(1\).*23505"):
        migrator.apply()
    assert not exists(connection, "t")
    assert states(migrator) == {"0001.t": "pending"}


def test_a_migration_that_cannot_be_recorded_leaves_nothing(
    connection: Connection, directory: Directory
) -> None:
    directory.add("0001.t", "CREATE TABLE t (); SET search_path = pg_catalog;", "DROP TABLE t;")
    migrator = Migrator(connection, directory=directory.path)
    with pytest.raises(MigrationError, match=r"0001\.t\.sql cannot be recorded: .*_yoyo_log"):
        migrator.apply()
    assert not exists(connection, "t")
    assert states(migrator) == {"0001.t": "pending"}


def test_a_rollback_that_fails_midway_undoes_nothing(
    connection: Connection, directory: Directory
) -> None:
    directory.add("0001.t", "CREATE TABLE t ();", "DROP TABLE t; DROP TABLE nonsense;")
    migrator = Migrator(connection, directory=directory.path)
    migrator.apply()
    with pytest.raises(
        MigrationError, match=r'0001\.t\.rollback\.sql:4: table "nonsense".*nothing of it was kept'
    ):
        migrator.rollback(to=ZERO)
    assert exists(connection, "t")
    assert states(migrator) == {"0001.t": "applied"}


def test_a_lost_connection_is_told_from_a_failure(
    database_dsn: str, connection: Connection, directory: Directory
) -> None:
    directory.add("0001.t", "SELECT pg_terminate_backend(pg_backend_pid());", "SELECT 1;")
    with psycopg.connect(database_dsn) as lost:
        migrator = Migrator(lost, directory=directory.path)
        with pytest.raises(MigrationError, match=r"0001\.t.*ask for the status before you go on"):
            migrator.apply()
    assert states(Migrator(connection, directory=directory.path)) == {"0001.t": "pending"}


def test_a_session_that_is_stuck_keeps_neither_lock_nor_changes(
    database_dsn: str, connection: Connection, directory: Directory
) -> None:
    directory.add("0001.t", "CREATE TABLE t (a int); COPY t FROM STDIN;", "DROP TABLE t;")
    with psycopg.connect(database_dsn) as stuck:
        with pytest.raises(MigrationError, match=r"0001\.t.*COPY cannot be used"):
            Migrator(stuck, directory=directory.path).apply()
        assert stuck.closed
    directory.add("0001.t", "CREATE TABLE t (a int);", "DROP TABLE t;")
    assert Migrator(connection, directory=directory.path).apply() == ["0001.t"]


def test_without_a_record_nothing_is_kept(
    connection: Connection, directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.table("0001.fruit", "fruit")
    migrator = Migrator(connection, directory=directory.path)
    with monkeypatch.context() as patch:
        patch.setattr(Migrator, "_record", interrupt)
        with pytest.raises(KeyboardInterrupt):
            migrator.apply()
    assert not exists(connection, "fruit")
    migrator.apply()
    with monkeypatch.context() as patch:
        patch.setattr(Migrator, "_record", interrupt)
        with pytest.raises(KeyboardInterrupt):
            migrator.rollback(to=ZERO)
    assert exists(connection, "fruit")
    assert states(migrator) == {"0001.fruit": "applied"}


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_killed_between_the_migration_and_its_record(
    connection: Connection,
    directory: Directory,
    start: Callable[..., subprocess.Popen[str]],
) -> None:
    directory.table("0001.fruit", "fruit")
    process = start(before=DIE_BEFORE_THE_RECORD)
    assert process.wait(PATIENCE.total_seconds()) == -signal.SIGKILL
    migrator = Migrator(connection, directory=directory.path)
    # The next one waits until the server has noticed, and needs no other help.
    assert migrator.apply() == ["0001.fruit"]
    assert migrator.apply() == []


def test_killed_midway(
    connection: Connection,
    other: Connection,
    directory: Directory,
    start: Callable[..., subprocess.Popen[str]],
) -> None:
    directory.table("0001.fruit", "fruit")
    directory.add(
        "0002.nut",
        "CREATE TABLE nut (); SELECT pg_advisory_xact_lock(42);",
        "DROP TABLE nut;",
    )
    other.execute("SELECT pg_advisory_lock(42)")
    process = start()
    wait_until_blocked(connection, "migrator")
    process.send_signal(signal.SIGKILL)
    process.wait(PATIENCE.total_seconds())
    other.execute("SELECT pg_advisory_unlock(42)")
    wait_until(connection, f"NOT EXISTS (SELECT FROM {ADVISORY_LOCKS})")
    migrator = Migrator(connection, directory=directory.path, lock_wait=0)
    assert states(migrator) == {"0001.fruit": "applied", "0002.nut": "pending"}
    assert not exists(connection, "nut")
    assert migrator.apply() == ["0002.nut"]


# Several migrators -----------------------------------------------------------------------------


def hold_lock(connection: Connection, schema: str = "butido") -> None:
    """Hold the migrator's lock, as another migrator does."""
    rendered = query("migration/lock").render(frozenset({"schema"}))
    psycopg.RawCursor(connection).execute(rendered.sql, [schema])


@pytest.mark.parametrize("number", [2, 3])
def test_several_at_once(
    connection: Connection,
    other: Connection,
    directory: Directory,
    start: Callable[..., subprocess.Popen[str]],
    number: int,
) -> None:
    directory.table("0001.fruit", "fruit")
    directory.add("0002.wait", "SELECT pg_advisory_xact_lock(42);", "SELECT 1;")
    directory.table("0003.nut", "nut")
    other.execute("SELECT pg_advisory_lock(42)")
    names = [f"migrator {n}" for n in range(number)]
    running = [start(name) for name in names]
    wait_until(
        connection,
        "count(*) FILTER (WHERE wait_event_type = 'Lock') = 1"
        " AND count(*) FILTER (WHERE query LIKE '/* migration/lock */%%') = %s"
        f" FROM {SESSIONS} WHERE application_name = ANY(%s)",
        number - 1,
        names,
    )
    other.execute("SELECT pg_advisory_unlock(42)")
    results = sorted(result(process) for process in running)
    assert results == [[]] * (number - 1) + [["0001.fruit", "0002.wait", "0003.nut"]]
    assert value(connection, "SELECT count(*) FROM butido._yoyo_log") == 3


def test_waiting_ends_with_who_is_at_work(
    connection: Connection, other: Connection, directory: Directory
) -> None:
    directory.table("0001.fruit", "fruit")
    hold_lock(other)
    pid = other.info.backend_pid
    migrator = Migrator(connection, directory=directory.path, lock_wait=0)
    with pytest.raises(MigrationError, match=rf"another migrator is at work .*process {pid}\)"):
        migrator.apply()
    with pytest.raises(MigrationError, match="another migrator"):
        migrator.rollback(to=ZERO)
    assert snapshot(connection) == [("public", None, None)]
    elsewhere = Migrator(connection, schema="two", directory=directory.path, lock_wait=0)
    assert elsewhere.apply() == ["0001.fruit"]
    other.execute("SELECT pg_advisory_unlock_all()")
    assert migrator.apply() == ["0001.fruit"]


def test_an_index_is_built_while_another_migrator_waits(
    connection: Connection,
    other: Connection,
    directory: Directory,
    start: Callable[..., subprocess.Popen[str]],
) -> None:
    directory.table("0001.fruit", "fruit")
    Migrator(connection, directory=directory.path).apply()
    directory.concurrent("0002.index")
    with other.transaction():
        # The index has to wait for this writer, long enough for the second migrator to come.
        other.execute("INSERT INTO butido.fruit VALUES ('apple')")
        first = start("first")
        wait_until_blocked(connection, "first")
        second = start("second")
        wait_until_refused(connection, "second")
    assert result(first) == ["0002.index"]
    assert result(second) == []
    assert index_is_valid(connection, "fruit_name_key")


# Migrations that are not transactional ---------------------------------------------------------


def test_an_index_that_failed_is_built_anew(connection: Connection, directory: Directory) -> None:
    directory.table("0001.fruit", "fruit")
    migrator = Migrator(connection, directory=directory.path)
    migrator.apply()
    connection.execute("INSERT INTO butido.fruit VALUES ('apple'), ('apple')")
    directory.concurrent("0002.index")
    with pytest.raises(MigrationError, match=r"0002\.index\.sql:\d+: .*23505; .*starts afresh"):
        migrator.apply()
    assert index_is_valid(connection, "fruit_name_key") is False
    assert states(migrator)["0002.index"] == "pending"

    connection.execute("DELETE FROM butido.fruit")
    assert migrator.apply() == ["0002.index"]
    assert index_is_valid(connection, "fruit_name_key") is True


def test_an_index_cut_off_is_built_anew(
    connection: Connection,
    other: Connection,
    directory: Directory,
    start: Callable[..., subprocess.Popen[str]],
) -> None:
    directory.table("0001.fruit", "fruit")
    migrator = Migrator(connection, directory=directory.path)
    migrator.apply()
    directory.concurrent("0002.index")
    with other.transaction():
        other.execute("INSERT INTO butido.fruit VALUES ('apple')")
        process = start("first")
        wait_until_blocked(connection, "first")
        connection.execute(
            f"SELECT pg_terminate_backend(pid) FROM {SESSIONS} WHERE application_name = 'first'"
        )
        assert process.wait(PATIENCE.total_seconds()) == 1
    assert index_is_valid(connection, "fruit_name_key") is False
    assert migrator.apply() == ["0002.index"]
    assert index_is_valid(connection, "fruit_name_key") is True


def test_an_index_built_but_not_recorded_is_no_obstacle(
    connection: Connection,
    directory: Directory,
    start: Callable[..., subprocess.Popen[str]],
) -> None:
    directory.table("0001.fruit", "fruit")
    migrator = Migrator(connection, directory=directory.path)
    migrator.apply()
    directory.concurrent("0002.index")
    process = start(before=DIE_BEFORE_THE_RECORD)
    assert process.wait(PATIENCE.total_seconds()) == -signal.SIGKILL
    assert index_is_valid(connection, "fruit_name_key") is True
    assert states(migrator)["0002.index"] == "pending"
    assert migrator.apply() == ["0002.index"]


def test_an_index_is_dropped_and_comes_back(connection: Connection, directory: Directory) -> None:
    directory.table("0001.fruit", "fruit")
    directory.concurrent("0002.index")
    directory.add("0003.no-index", *CONCURRENT[::-1], transactional=False)
    migrator = Migrator(connection, directory=directory.path)
    migrator.apply()
    assert not exists(connection, "fruit_name_key")
    # As a rollback that was cut off leaves it.
    connection.execute("CREATE INDEX fruit_name_key ON butido.fruit (name)")
    assert migrator.rollback(to="0002.index") == ["0003.no-index"]
    assert index_is_valid(connection, "fruit_name_key") is True


def test_a_timeout_of_the_role_does_not_cut_off_an_index(
    database_dsn: str,
    connection: Connection,
    other: Connection,
    directory: Directory,
    start: Callable[..., subprocess.Popen[str]],
) -> None:
    directory.table("0001.fruit", "fruit")
    Migrator(connection, directory=directory.path).apply()
    directory.concurrent("0002.index")
    with other.transaction():
        other.execute("INSERT INTO butido.fruit VALUES ('apple')")
        process = start("first", "os.environ['PGOPTIONS'] = '-c lock_timeout=1'")
        wait_until(
            connection,
            f"EXISTS (SELECT FROM {SESSIONS} JOIN pg_locks USING (pid)"
            " WHERE clock_timestamp() - waitstart > '20 ms')",
        )
    assert result(process) == ["0002.index"]


@pytest.mark.parametrize(
    ("sql", "rollback"),
    [
        ("CREATE INDEX i ON t (a);", "DROP INDEX CONCURRENTLY IF EXISTS i;"),
        ("CREATE INDEX CONCURRENTLY ON t (a);", "DROP INDEX CONCURRENTLY IF EXISTS i;"),
        (
            "CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON t (a);",
            "DROP INDEX CONCURRENTLY IF EXISTS i;",
        ),
        ("CREATE INDEX CONCURRENTLY i ON t (a);", "DROP INDEX CONCURRENTLY i;"),
        ("CREATE INDEX CONCURRENTLY i ON t (a);", "DROP INDEX CONCURRENTLY IF EXISTS j;"),
        ("CREATE INDEX CONCURRENTLY i ON t (a);", "DROP INDEX CONCURRENTLY IF EXISTS i, j;"),
        ("CREATE INDEX CONCURRENTLY i ON t (a);", ""),
        ("CREATE INDEX CONCURRENTLY i ON t (a); DROP INDEX CONCURRENTLY IF EXISTS i;", ""),
        ("", ""),
        ("VACUUM;", "SELECT 1;"),
        (
            "CREATE INDEX CONCURRENTLY i ON t (a); SELECT 1;",
            "DROP INDEX CONCURRENTLY IF EXISTS i;",
        ),
        ("DROP INDEX CONCURRENTLY IF EXISTS i;", "DROP INDEX CONCURRENTLY IF EXISTS i;"),
        ("ALTER TYPE t ADD VALUE 'x';", "SELECT 1;"),
    ],
)
def test_not_transactional_is_for_one_index_only(
    directory: Directory, sql: str, rollback: str
) -> None:
    directory.add("0001.t", sql, rollback, transactional=False)
    with pytest.raises(MigrationError, match=r"0001\.t\.sql: .*not transactional holds one"):
        shipped(directory.path)


# Checksums and other releases ------------------------------------------------------------------


def test_an_edited_migration_is_refused(connection: Connection, directory: Directory) -> None:
    directory.table("0001.fruit", "fruit")
    directory.table("0002.nut", "nut")
    migrator = Migrator(connection, directory=directory.path)
    migrator.apply(to="0001.fruit")
    path = directory.path / "0001.fruit.sql"
    original = path.read_bytes()
    path.write_bytes(original + b"\n")
    assert states(migrator) == {"0001.fruit": "edited", "0002.nut": "pending"}
    operations: list[Callable[[], object]] = [migrator.apply, lambda: migrator.rollback(to=ZERO)]
    for operation in operations:
        with pytest.raises(MigrationError, match=r"0001\.fruit\.sql is not the file .*restore it"):
            operation()
    assert exists(connection, "fruit")
    assert not exists(connection, "nut")
    path.write_bytes(original)
    assert migrator.apply() == ["0002.nut"]


def test_a_migration_of_a_newer_release(connection: Connection, directory: Directory) -> None:
    directory.table("0001.fruit", "fruit")
    directory.table("0003.future", "future", phase="post")
    migrator = Migrator(connection, directory=directory.path)
    migrator.apply()
    for path in directory.path.glob("0003.*"):
        path.unlink()
    directory.table("0002.nut", "nut")

    assert states(migrator) == {
        "0001.fruit": "applied", "0002.nut": "pending", "0003.future": "unknown",
    }  # fmt: skip
    unknown = migrator.status()[-1]
    assert unknown.phase == "post"
    assert unknown.applied_at is not None
    assert migrator.apply() == ["0002.nut"]
    for to in (ZERO, "0001.fruit"):
        with pytest.raises(MigrationError, match=r"0003\.future would have to be undone"):
            migrator.rollback(to=to)
    assert exists(connection, "nut")


def test_a_rollback_leaves_alone_what_was_there_before_its_goal(
    connection: Connection, directory: Directory
) -> None:
    directory.table("0001.old", "old")
    directory.table("0002.fruit", "fruit")
    directory.table("0003.nut", "nut")
    migrator = Migrator(connection, directory=directory.path)
    migrator.apply()
    for path in directory.path.glob("0001.*"):
        path.unlink()
    assert migrator.rollback(to="0002.fruit") == ["0003.nut"]


def test_tables_that_yoyo_made_are_taken_over(
    database_dsn: str, connection: Connection, directory: Directory
) -> None:
    directory.table("0001.fruit", "fruit")
    connection.execute("CREATE SCHEMA butido")
    connection.execute(
        "CREATE TABLE butido._yoyo_migration (migration_hash varchar(64) PRIMARY KEY,"
        " migration_id varchar(255), applied_at_utc timestamp);"
        "CREATE TABLE butido._yoyo_log (id varchar(36) PRIMARY KEY, migration_hash varchar(64),"
        " migration_id varchar(255), operation varchar(10), username varchar(255),"
        " hostname varchar(255), comment varchar(255), created_at_utc timestamp);"
        "CREATE TABLE butido._yoyo_version (version int PRIMARY KEY, installed_at_utc timestamp);"
        "INSERT INTO butido._yoyo_version VALUES (2, now())"
    )
    migrator = Migrator(connection, directory=directory.path)
    assert states(migrator) == {"0001.fruit": "pending"}
    assert migrator.apply() == ["0001.fruit"]


# Reading files ---------------------------------------------------------------------------------


def test_the_order_and_what_is_known_of_each(directory: Directory) -> None:
    directory.table("0010.b", "b", phase="post")
    directory.table("0009.a", "a")
    directory.concurrent("0011.c")
    directory.raw("README.md", "not a migration")
    files = shipped(directory.path)
    assert [(file.id, file.phase, file.transactional) for file in files] == [
        ("0009.a", "pre", True), ("0010.b", "post", True), ("0011.c", "pre", False),
    ]  # fmt: skip
    assert files[0].path == directory.path / "0009.a.sql"
    assert len(files[0].sha256) == 32


def test_a_directory_without_migrations_is_refused(directory: Directory) -> None:
    with pytest.raises(MigrationError, match="holds no migrations"):
        shipped(directory.path)
    with pytest.raises(MigrationError, match="holds no migrations"):
        shipped(directory.path / "none")


@pytest.mark.parametrize(
    ("header", "missing"),
    [
        ("", "a comment that is a sentence"),
        (NOTES, "a comment that is a sentence"),
        ("-- Do it\n--\n" + NOTES, "a comment that is a sentence"),
        ("-- Do it.\n", "no Phase, Locks, Duration, Rollback"),
        ("-- Do it.\n--\n" + NOTES.replace("-- Locks:     none\n", ""), "no Locks"),
        ("-- Do it.\n--\n" + NOTES.replace("instant", ""), "no Duration"),
        ("-- Do it.\n--\n" + NOTES.replace("pre", "later"), "pre or post, not later"),
        ("-- Do it.\n-- transactional: no\n--\n" + NOTES, "true or false, not no"),
    ],
)
def test_headers_that_lack_something(directory: Directory, header: str, missing: str) -> None:
    directory.table("0001.fruit", "fruit")
    directory.raw("0001.fruit.sql", f"{header}\n{LOCK_TIMEOUT}")
    with pytest.raises(MigrationError, match=rf"0001\.fruit\.sql: .*{missing}"):
        shipped(directory.path)


def test_a_missing_rollback_is_refused(directory: Directory) -> None:
    directory.table("0001.fruit", "fruit")
    (directory.path / "0001.fruit.rollback.sql").unlink()
    with pytest.raises(MigrationError, match=r"there is no 0001\.fruit\.rollback\.sql"):
        shipped(directory.path)


@pytest.mark.parametrize(
    "statement",
    [
        "COMMIT", "commit and chain", "BEGIN", "START TRANSACTION", "END", "ROLLBACK", "ABORT",
        "SAVEPOINT a", "RELEASE a", "PREPARE TRANSACTION 'x'", "/* */ COMMIT -- x", "COMMIT\n",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN a THEN 1 END; END; COMMIT",
    ],
)  # fmt: skip
def test_a_file_that_leaves_its_transaction_is_refused(
    directory: Directory, statement: str
) -> None:
    directory.add("0001.t", f"SELECT 1;\n{statement};", "SELECT 1;")
    with pytest.raises(MigrationError, match=r"0001\.t\.sql:\d+: .* breaks the one transaction"):
        shipped(directory.path)
    directory.add("0001.t", "SELECT 1;", f"SELECT 1;\n{statement};")
    with pytest.raises(MigrationError, match=r"0001\.t\.rollback\.sql:\d+: "):
        shipped(directory.path)


@pytest.mark.parametrize(
    ("sql", "problem"),
    [
        ("SELECT 1;\n\\i other.sql\n", r"sql:\d+: \\i other.sql is psql's"),
        ("SELECT 'open;", r"sql:\d+: a quoted string is not closed"),
        ("SELECT 1; /* /* */", r"sql:\d+: a comment is not closed"),
        ("CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1;", "ATOMIC has no END"),
        ("SELECT 1;\0DROP TABLE t;", "NUL"),
    ],
)
def test_text_that_cannot_be_sent_whole_is_refused(
    directory: Directory, sql: str, problem: str
) -> None:
    directory.add("0001.t", sql, "SELECT 1;")
    with pytest.raises(MigrationError, match=problem):
        shipped(directory.path)


def test_text_that_is_not_utf8_is_refused(directory: Directory) -> None:
    directory.table("0001.t", "t")
    (directory.path / "0001.t.sql").write_bytes(b"-- Caf\xe9.\n")
    with pytest.raises(MigrationError, match=r"0001\.t\.sql cannot be read"):
        shipped(directory.path)


@pytest.mark.parametrize("which", ["0001.t.sql", "0001.t.rollback.sql"])
def test_a_file_without_lock_timeout_is_refused(directory: Directory, which: str) -> None:
    directory.table("0001.t", "t")
    path = directory.path / which
    path.write_text(path.read_text().replace(LOCK_TIMEOUT, ""))
    with pytest.raises(MigrationError, match=rf"{which}: .*SET LOCAL lock_timeout"):
        shipped(directory.path)


@pytest.mark.parametrize(
    "name", ["1.t.sql", "0001.sql", "0001_t.sql", "0002.t.py", "post-apply.sql", "0001.T.sql"]
)
def test_odd_file_names_are_refused(directory: Directory, name: str) -> None:
    directory.raw(name, "")
    with pytest.raises(MigrationError, match=r"called NNNN\.short-name\.sql"):
        shipped(directory.path)


def test_a_number_used_twice_is_refused(directory: Directory) -> None:
    directory.table("0001.a", "a")
    directory.table("0001.b", "b")
    with pytest.raises(MigrationError, match=r"0001\.b\.sql: 0001\.a has this number already"):
        shipped(directory.path)
    directory.raw("0001.a.py", "")
    with pytest.raises(MigrationError, match=r"0001\.a twice"):
        shipped(directory.path)


def test_dependencies_that_cannot_be_met_are_refused(directory: Directory, tmp_path: Path) -> None:
    elsewhere = Directory(tmp_path / "elsewhere")
    elsewhere.table("0001.a", "a")
    shipped(elsewhere.path)
    directory.table("0002.b", "b", directives="-- depends: 0001.a\n")
    with pytest.raises(MigrationError, match=r"0002\.b\.sql: depends on 0001\.a, which is not"):
        shipped(directory.path)
    directory.table("0001.a", "a", directives="-- depends: 0002.b\n")
    with pytest.raises(MigrationError, match=r"depends in a circle: \['0001\.a', '0002\.b'\]"):
        shipped(directory.path)
