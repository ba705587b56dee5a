"""The migrator: what is kept when a migration fails or the process is killed."""

import signal
import subprocess
from collections.abc import Callable

import psycopg
import pytest
from migrating import (
    ADVISORY_LOCKS,
    DIE_BEFORE_THE_RECORD,
    PATIENCE,
    Directory,
    exists,
    states,
    wait_until,
    wait_until_blocked,
)

from butido_store.admin.migrate import ZERO, Migrator
from butido_store.errors import MigrationError

Connection = psycopg.Connection[tuple[object, ...]]


def test_a_migration_that_fails_midway_leaves_nothing(
    database: Connection, directory: Directory
) -> None:
    directory.table("0001.fruit", "fruit")
    directory.add("0002.bad", "CREATE TABLE nut ();\nSELECT\n  nonsense;", "DROP TABLE nut;")
    directory.table("0003.berry", "berry")
    migrator = Migrator(database, directory=directory.path)
    line = (directory.path / "0002.bad.sql").read_text().splitlines().index("  nonsense;") + 1
    with pytest.raises(
        MigrationError,
        match=rf'0002\.bad\.sql:{line}: column "nonsense" .*SQLSTATE 42703; nothing of it was kept',
    ) as caught:
        migrator.apply()
    assert isinstance(caught.value.__cause__, psycopg.errors.UndefinedColumn)
    assert exists(database, "fruit")
    assert not exists(database, "nut")
    assert states(migrator) == {
        "0001.fruit": "applied", "0002.bad": "pending", "0003.berry": "pending",
    }  # fmt: skip

    directory.table("0002.bad", "nut")
    assert migrator.apply() == ["0002.bad", "0003.berry"]


def test_a_migration_that_fails_at_commit_leaves_nothing(
    database: Connection, directory: Directory
) -> None:
    directory.add(
        "0001.t",
        "CREATE TABLE t (a int UNIQUE DEFERRABLE INITIALLY DEFERRED);"
        "INSERT INTO t VALUES (1), (1);",
        "DROP TABLE t;",
    )
    migrator = Migrator(database, directory=directory.path)
    with pytest.raises(MigrationError, match=r"0001\.t\.sql: duplicate key .*\(a\)=\(1\).*23505"):
        migrator.apply()
    assert not exists(database, "t")
    assert states(migrator) == {"0001.t": "pending"}


def test_a_migration_that_cannot_be_recorded_leaves_nothing(
    database: Connection, directory: Directory
) -> None:
    directory.add("0001.t", "CREATE TABLE t (); SET search_path = pg_catalog;", "DROP TABLE t;")
    migrator = Migrator(database, directory=directory.path)
    with pytest.raises(MigrationError, match=r"0001\.t\.sql cannot be recorded: .*_yoyo_migration"):
        migrator.apply()
    assert not exists(database, "t")
    assert states(migrator) == {"0001.t": "pending"}


def test_a_rollback_that_fails_midway_undoes_nothing(
    database: Connection, directory: Directory
) -> None:
    directory.add("0001.t", "CREATE TABLE t ();", "DROP TABLE t; DROP TABLE nonsense;")
    migrator = Migrator(database, directory=directory.path)
    migrator.apply()
    with pytest.raises(
        MigrationError, match=r'0001\.t\.rollback\.sql:4: table "nonsense".*nothing of it was kept'
    ):
        migrator.rollback(to=ZERO)
    assert exists(database, "t")
    assert states(migrator) == {"0001.t": "applied"}


def test_a_lost_connection_is_told_from_a_failure(
    database_dsn: str, database: Connection, directory: Directory
) -> None:
    directory.add("0001.t", "SELECT pg_terminate_backend(pg_backend_pid());", "SELECT 1;")
    with psycopg.connect(database_dsn) as lost:
        migrator = Migrator(lost, directory=directory.path)
        with pytest.raises(MigrationError, match=r"0001\.t.*ask for the status before you go on"):
            migrator.apply()
    assert states(Migrator(database, directory=directory.path)) == {"0001.t": "pending"}


def test_a_session_that_is_stuck_keeps_neither_lock_nor_changes(
    database_dsn: str, database: Connection, directory: Directory
) -> None:
    directory.add("0001.t", "CREATE TABLE t (a int); COPY t FROM STDIN;", "DROP TABLE t;")
    with psycopg.connect(database_dsn) as stuck:
        with pytest.raises(MigrationError, match=r"0001\.t.*COPY cannot be used"):
            Migrator(stuck, directory=directory.path).apply()
        assert stuck.closed
    directory.add("0001.t", "CREATE TABLE t (a int);", "DROP TABLE t;")
    assert Migrator(database, directory=directory.path).apply() == ["0001.t"]


def test_without_a_record_nothing_is_kept(
    database: Connection, directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.table("0001.fruit", "fruit")
    migrator = Migrator(database, directory=directory.path)
    with monkeypatch.context() as patch:
        patch.setattr(Migrator, "_record", interrupt)
        with pytest.raises(KeyboardInterrupt):
            migrator.apply()
    assert not exists(database, "fruit")
    migrator.apply()
    with monkeypatch.context() as patch:
        patch.setattr(Migrator, "_record", interrupt)
        with pytest.raises(KeyboardInterrupt):
            migrator.rollback(to=ZERO)
    assert exists(database, "fruit")
    assert states(migrator) == {"0001.fruit": "applied"}


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_killed_between_the_migration_and_its_record(
    database: Connection,
    directory: Directory,
    start: Callable[..., subprocess.Popen[str]],
) -> None:
    directory.table("0001.fruit", "fruit")
    process = start(before=DIE_BEFORE_THE_RECORD)
    assert process.wait(PATIENCE.total_seconds()) == -signal.SIGKILL
    migrator = Migrator(database, directory=directory.path)
    # The next one waits until the server has noticed, and needs no other help.
    assert migrator.apply() == ["0001.fruit"]
    assert migrator.apply() == []


def test_killed_midway(
    database: Connection,
    second: Connection,
    directory: Directory,
    start: Callable[..., subprocess.Popen[str]],
) -> None:
    directory.table("0001.fruit", "fruit")
    directory.add(
        "0002.nut",
        "CREATE TABLE nut (); SELECT pg_advisory_xact_lock(42);",
        "DROP TABLE nut;",
    )
    second.execute("SELECT pg_advisory_lock(42)")
    process = start()
    wait_until_blocked(database, "migrator")
    process.send_signal(signal.SIGKILL)
    process.wait(PATIENCE.total_seconds())
    second.execute("SELECT pg_advisory_unlock(42)")
    wait_until(database, f"NOT EXISTS (SELECT FROM {ADVISORY_LOCKS})")
    migrator = Migrator(database, directory=directory.path, lock_wait=0)
    assert states(migrator) == {"0001.fruit": "applied", "0002.nut": "pending"}
    assert not exists(database, "nut")
    assert migrator.apply() == ["0002.nut"]
