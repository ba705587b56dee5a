"""The migrator: which schemas, roles and connections it takes, and how it leaves them."""

import os
from collections.abc import Callable, Iterator

import psycopg
import pytest
from migrating import ADVISORY_LOCKS, Directory, exists, hold_lock, snapshot, states, value
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from butido_store.admin.migrate import ZERO, Migrator
from butido_store.errors import InvalidInput, MigrationError, StoreError

Connection = psycopg.Connection[tuple[object, ...]]


@pytest.mark.parametrize(
    "schema", ["Butido Store", 'a"b', "a'b", "select", "a,b", "ü" * 31, "s;--", "%s", "\\"]
)
def test_odd_schema_names(database: Connection, directory: Directory, schema: str) -> None:
    directory.table("0001.fruit", "fruit")
    migrator = Migrator(database, schema=schema, directory=directory.path)
    assert migrator.apply() == ["0001.fruit"]
    assert exists(database, "fruit", schema)
    assert states(migrator) == {"0001.fruit": "applied"}
    assert {row[0] for row in snapshot(database)} == {"public", schema}
    assert migrator.rollback(to=ZERO) == ["0001.fruit"]


@pytest.mark.parametrize(
    "schema",
    ["", "a" * 64, "ü" * 32, "a\0b", "public", "pg_temp", "pg_x", "$user", "butido_store_plan"],
)
def test_refused_schema_names(database: Connection, schema: str) -> None:
    with pytest.raises((MigrationError, InvalidInput), match="schema"):
        Migrator(database, schema=schema)


def test_a_session_that_prints_times_in_its_own_way(
    database: Connection, directory: Directory
) -> None:
    directory.table("0001.fruit", "fruit")
    database.execute("SET datestyle = 'German, DMY'")
    database.execute("SET intervalstyle = 'sql_standard'")
    migrator = Migrator(database, directory=directory.path)
    migrator.apply()
    (fruit,) = migrator.status()
    assert fruit.applied_at is not None
    assert fruit.duration is not None
    assert value(database, "SHOW datestyle") == "German, DMY"
    assert value(database, "SHOW intervalstyle") == "sql_standard"


def test_two_schemas_side_by_side(database: Connection, directory: Directory) -> None:
    directory.table("0001.fruit", "fruit")
    one = Migrator(database, schema="one", directory=directory.path)
    two = Migrator(database, schema="two", directory=directory.path)
    assert one.apply() == two.apply() == ["0001.fruit"]
    one.rollback(to=ZERO)
    assert not exists(database, "fruit", "one")
    assert exists(database, "fruit", "two")
    assert states(two) == {"0001.fruit": "applied"}


def test_nothing_is_made_in_public_and_everything_is_explained(
    database: Connection, directory: Directory
) -> None:
    directory.table("0001.fruit", "fruit")
    Migrator(database, directory=directory.path).apply()
    assert ("public", None, None) in snapshot(database)
    undescribed = database.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'butido'::regnamespace"
        " AND relkind = 'r' AND relname <> 'fruit' AND obj_description(oid, 'pg_class') IS NULL"
    ).fetchall()
    assert undescribed == []
    assert value(database, "SELECT obj_description('butido'::regnamespace)")


@pytest.fixture
def role(database: Connection) -> Iterator[str]:
    """A role that may connect, and has nothing else."""
    name = f"butido_test_{os.getpid()}"
    database.execute(f"CREATE ROLE {name}")
    yield name
    database.execute(f"DROP OWNED BY {name} CASCADE")
    database.execute(f"DROP ROLE {name}")


def test_a_role_without_create_on_the_database(
    database_dsn: str, database: Connection, directory: Directory, role: str
) -> None:
    directory.table("0001.fruit", "fruit")
    dsn = make_conninfo(database_dsn, options=f"-c role={role}")
    with psycopg.connect(dsn) as limited:
        migrator = Migrator(limited, directory=directory.path)
        with pytest.raises(MigrationError, match="'butido' cannot be set up: permission denied"):
            migrator.apply()
        database.execute(f"CREATE SCHEMA butido AUTHORIZATION {role}")
        assert migrator.apply() == ["0001.fruit"]
        assert migrator.rollback(to=ZERO) == ["0001.fruit"]


def test_status_needs_to_read_only(
    database_dsn: str, database: Connection, directory: Directory, role: str
) -> None:
    directory.table("0001.fruit", "fruit")
    options = f"-c role={role} -c default_transaction_read_only=on"
    with psycopg.connect(make_conninfo(database_dsn, options=options)) as reader:
        migrator = Migrator(reader, directory=directory.path)
        before = snapshot(database)
        assert states(migrator) == {"0001.fruit": "pending"}
        assert snapshot(database) == before == [("public", None, None)]
        Migrator(database, directory=directory.path).apply()
        with pytest.raises(StoreError):
            migrator.status()
        database.execute(f"GRANT USAGE ON SCHEMA butido TO {role}")
        database.execute(f"GRANT SELECT ON butido._yoyo_migration TO {role}")
        assert states(migrator) == {"0001.fruit": "applied"}


def test_status_waits_for_nobody(
    database: Connection, second: Connection, directory: Directory
) -> None:
    directory.table("0001.fruit", "fruit")
    hold_lock(second)
    assert states(Migrator(database, directory=directory.path)) == {"0001.fruit": "pending"}


def test_the_session_is_given_back_as_it_was(database: Connection, directory: Directory) -> None:
    directory.table("0001.fruit", "fruit")
    directory.add("0002.bad", "SELECT nonsense;", "SELECT 1;")
    database.execute("SET search_path = 'A b', public")
    database.execute("SET lock_timeout = '7s'")
    database.execute("SET statement_timeout = '8s'")
    migrator = Migrator(database, directory=directory.path)
    migrator.status()
    with pytest.raises(MigrationError):
        migrator.apply()
    assert value(database, "SHOW search_path") == '"A b", public'
    assert value(database, "SHOW lock_timeout") == "7s"
    assert value(database, "SHOW statement_timeout") == "8s"
    assert value(database, f"SELECT count(*) FROM {ADVISORY_LOCKS}") == 0


def test_any_row_factory_and_no_autocommit_will_do(database_dsn: str, directory: Directory) -> None:
    directory.table("0001.fruit", "fruit")
    with psycopg.connect(
        database_dsn, row_factory=dict_row, cursor_factory=psycopg.RawCursor
    ) as database:
        migrator = Migrator(database, directory=directory.path)
        database.prepare_threshold = 0
        assert migrator.apply() == ["0001.fruit"]
        assert states(migrator) == {"0001.fruit": "applied"}
        assert database.autocommit


def test_a_connection_in_a_transaction_or_closed_is_refused(
    database: Connection, directory: Directory
) -> None:
    directory.table("0001.fruit", "fruit")
    migrator = Migrator(database, directory=directory.path)
    with database.transaction():
        operations: list[Callable[[], object]] = [
            migrator.status,
            migrator.apply,
            lambda: migrator.rollback(to=ZERO),
        ]
        for operation in operations:
            with pytest.raises(MigrationError, match=r"outside of any transaction.*INTRANS"):
                operation()
        with pytest.raises(MigrationError, match="outside of any transaction"):
            Migrator(database)
    database.close()
    with pytest.raises(MigrationError, match="open connection"):
        migrator.status()


def test_another_encoding_is_refused(database_dsn: str, database: Connection) -> None:
    name = f"{database.info.dbname}_ascii"
    database.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    try:
        with (
            psycopg.connect(make_conninfo(database_dsn, dbname=name)) as ascii_connection,
            pytest.raises(MigrationError, match="UTF8; it is SQL_ASCII"),
        ):
            Migrator(ascii_connection)
    finally:
        database.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_an_old_server_is_refused(database: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psycopg.ConnectionInfo, "server_version", 140018)
    with pytest.raises(MigrationError, match="PostgreSQL 15 or later is needed; this is 14"):
        Migrator(database)
