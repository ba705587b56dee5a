"""The migrator: what is applied, undone and recorded, and when it refuses to."""

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import psycopg
import pytest
from migrating import Directory, exists, index_is_valid, snapshot, states
from psycopg.conninfo import conninfo_to_dict

from butido_store.admin.migrate import ZERO, Migrator
from butido_store.errors import MigrationError

Connection = psycopg.Connection[tuple[object, ...]]


def test_apply_rollback_and_apply_again(database: Connection, directory: Directory) -> None:
    directory.table("0001.fruit", "fruit")
    directory.concurrent("0002.index")
    directory.table("0003.nut", "nut", phase="post")
    ids = ["0001.fruit", "0002.index", "0003.nut"]
    migrator = Migrator(database, directory=directory.path)

    assert migrator.apply() == ids
    full = snapshot(database)
    assert exists(database, "nut")
    assert index_is_valid(database, "fruit_name_key")
    assert migrator.apply() == []

    assert migrator.rollback(to=ZERO) == ids[::-1]
    assert not exists(database, "fruit")
    assert not exists(database, "nut")
    assert set(states(migrator).values()) == {"pending"}
    assert migrator.rollback(to=ZERO) == []

    assert migrator.apply() == ids
    assert snapshot(database) == full


def test_status_tells_when_how_long_and_which_phase(
    database: Connection, directory: Directory
) -> None:
    directory.table("0001.fruit", "fruit")
    directory.concurrent("0002.index")
    directory.table("0003.nut", "nut", phase="post")
    migrator = Migrator(database, directory=directory.path)
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


def test_the_record_has_checksum_phase_and_log(database: Connection, directory: Directory) -> None:
    directory.table("0001.fruit", "fruit", phase="post")
    migrator = Migrator(database, directory=directory.path)
    migrator.apply()
    row = database.execute(
        "SELECT migration_id, sha256 = sha256(%b), phase FROM butido._yoyo_migration",
        [(directory.path / "0001.fruit.sql").read_bytes()],
    ).fetchall()
    assert row == [("0001.fruit", True, "post")]
    migrator.rollback(to=ZERO)
    log = database.execute(
        "SELECT operation, migration_id, username FROM butido._yoyo_log ORDER BY created_at_utc"
    ).fetchall()
    user = database.info.user
    assert log == [("apply", "0001.fruit", user), ("rollback", "0001.fruit", user)]


def test_yoyo_itself_lists_what_is_applied(
    database_dsn: str, database: Connection, directory: Directory
) -> None:
    directory.table("0001.fruit", "fruit")
    directory.table("0002.nut", "nut")
    Migrator(database, directory=directory.path).apply(to="0001.fruit")
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
    database: Connection, directory: Directory
) -> None:
    for number, phase in enumerate(("pre", "pre", "post", "pre"), 1):
        directory.table(f"000{number}.t", f"t{number}", phase=phase)
    migrator = Migrator(database, directory=directory.path)
    assert migrator.apply(to="0001.t") == ["0001.t"]
    assert migrator.apply(phase="pre") == ["0002.t"]
    assert migrator.apply(phase="pre") == []
    assert migrator.apply(to="0001.t") == []
    assert migrator.apply() == ["0003.t", "0004.t"]


def test_rollback_to_a_named_migration(database: Connection, directory: Directory) -> None:
    for number in (1, 2, 3):
        directory.table(f"000{number}.t", f"t{number}")
    migrator = Migrator(database, directory=directory.path)
    migrator.apply()
    assert migrator.rollback(to="0001.t") == ["0003.t", "0002.t"]
    assert exists(database, "t1")
    assert not exists(database, "t2")
    assert states(migrator) == {"0001.t": "applied", "0002.t": "pending", "0003.t": "pending"}
    with pytest.raises(MigrationError, match=r"0003\.t is not applied"):
        migrator.rollback(to="0003.t")


@pytest.mark.parametrize("name", ["0009.none", "0001", "", "ZERO"])
def test_an_unknown_name_is_refused(database: Connection, directory: Directory, name: str) -> None:
    directory.table("0001.fruit", "fruit")
    migrator = Migrator(database, directory=directory.path)
    with pytest.raises(MigrationError, match=r"no migration .*; the last one is 0001\.fruit"):
        migrator.apply(to=name)
    with pytest.raises(MigrationError, match="no migration"):
        migrator.rollback(to=name)
    assert snapshot(database) == [("public", None, None)]


def test_dependencies_go_before_numbers(database: Connection, directory: Directory) -> None:
    directory.add(
        "0001.nut-kind",
        "ALTER TABLE nut ADD COLUMN kind text;",
        "ALTER TABLE nut DROP COLUMN kind;",
        directives="-- depends: 0002.nut\n",
    )
    directory.table("0002.nut", "nut")
    migrator = Migrator(database, directory=directory.path)
    assert migrator.apply(to="0002.nut") == ["0002.nut"]
    assert migrator.apply() == ["0001.nut-kind"]
    assert migrator.rollback(to="0002.nut") == ["0001.nut-kind"]


def test_a_migration_that_was_merged_late_is_applied(
    database: Connection, directory: Directory
) -> None:
    directory.table("0002.nut", "nut")
    migrator = Migrator(database, directory=directory.path)
    migrator.apply()
    directory.table("0001.fruit", "fruit")
    assert states(migrator) == {"0001.fruit": "pending", "0002.nut": "applied"}
    assert migrator.apply() == ["0001.fruit"]


def test_results_are_not_printed(
    database: Connection, directory: Directory, capfd: pytest.CaptureFixture[str]
) -> None:
    directory.add(
        "0001.t", "SELECT 'a result';", "SELECT 'another';\nDO $$ BEGIN RAISE NOTICE 'n'; END $$;"
    )
    migrator = Migrator(database, directory=directory.path)
    migrator.apply()
    migrator.rollback(to=ZERO)
    assert capfd.readouterr() == ("", "")


def test_a_file_reaches_the_server_as_it_is(database: Connection, directory: Directory) -> None:
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
    migrator = Migrator(database, directory=directory.path)
    migrator.apply()
    rows = database.execute("SELECT name FROM butido.t ORDER BY ctid").fetchall()
    expected = ["100 %s; COMMIT", "'; COMMIT; --", "\\", "a; b", "two", "C:\\"]
    assert [name for (name,) in rows] == expected
    migrator.rollback(to=ZERO)
    assert not exists(database, "t")


def test_each_statement_is_a_message_of_its_own(database: Connection, directory: Directory) -> None:
    directory.add(
        "0001.t",
        "CREATE TABLE t (query text);\n-- It tells.\nINSERT INTO t\n  VALUES (current_query());"
        " INSERT INTO t VALUES (current_query()); /* no more */",
        "DROP TABLE t;",
    )
    Migrator(database, directory=directory.path).apply()
    rows = database.execute("SELECT query FROM butido.t ORDER BY ctid").fetchall()
    assert [query for (query,) in rows] == [
        "INSERT INTO t\n  VALUES (current_query())",
        "INSERT INTO t VALUES (current_query())",
    ]


# Checksums and other releases ------------------------------------------------------------------


def test_an_edited_migration_is_refused(database: Connection, directory: Directory) -> None:
    directory.table("0001.fruit", "fruit")
    directory.table("0002.nut", "nut")
    migrator = Migrator(database, directory=directory.path)
    migrator.apply(to="0001.fruit")
    path = directory.path / "0001.fruit.sql"
    original = path.read_bytes()
    path.write_bytes(original + b"\n")
    assert states(migrator) == {"0001.fruit": "edited", "0002.nut": "pending"}
    operations: list[Callable[[], object]] = [migrator.apply, lambda: migrator.rollback(to=ZERO)]
    for operation in operations:
        with pytest.raises(MigrationError, match=r"0001\.fruit\.sql is not the file .*restore it"):
            operation()
    assert exists(database, "fruit")
    assert not exists(database, "nut")
    path.write_bytes(original)
    assert migrator.apply() == ["0002.nut"]


def test_a_migration_of_a_newer_release(database: Connection, directory: Directory) -> None:
    directory.table("0001.fruit", "fruit")
    directory.table("0003.future", "future", phase="post")
    migrator = Migrator(database, directory=directory.path)
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
    assert exists(database, "nut")


def test_a_rollback_leaves_alone_what_was_there_before_its_goal(
    database: Connection, directory: Directory
) -> None:
    directory.table("0001.old", "old")
    directory.table("0002.fruit", "fruit")
    directory.table("0003.nut", "nut")
    migrator = Migrator(database, directory=directory.path)
    migrator.apply()
    for path in directory.path.glob("0001.*"):
        path.unlink()
    assert migrator.rollback(to="0002.fruit") == ["0003.nut"]


def test_tables_that_yoyo_made_are_taken_over(database: Connection, directory: Directory) -> None:
    directory.table("0001.fruit", "fruit")
    database.execute("CREATE SCHEMA butido")
    database.execute(
        "CREATE TABLE butido._yoyo_migration (migration_hash varchar(64) PRIMARY KEY,"
        " migration_id varchar(255), applied_at_utc timestamp);"
        "CREATE TABLE butido._yoyo_log (id varchar(36) PRIMARY KEY, migration_hash varchar(64),"
        " migration_id varchar(255), operation varchar(10), username varchar(255),"
        " hostname varchar(255), comment varchar(255), created_at_utc timestamp);"
        "CREATE TABLE butido._yoyo_version (version int PRIMARY KEY, installed_at_utc timestamp);"
        "INSERT INTO butido._yoyo_version VALUES (2, now())"
    )
    migrator = Migrator(database, directory=directory.path)
    assert states(migrator) == {"0001.fruit": "pending"}
    assert migrator.apply() == ["0001.fruit"]
