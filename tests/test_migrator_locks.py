"""The migrator: one at a time works on a schema, and the others wait."""

import re
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import Queue

import psycopg
import pytest
from migrating import (
    NOTES,
    PATIENCE,
    SESSIONS,
    Directory,
    hold_lock,
    index_is_valid,
    result,
    snapshot,
    value,
    wait_until,
    wait_until_blocked,
    wait_until_refused,
)

from butido_store.admin.migrate import ZERO, Migrator
from butido_store.errors import MigrationError

Connection = psycopg.Connection[tuple[object, ...]]


@pytest.mark.parametrize("number", [2, 3])
def test_several_at_once(
    database: Connection,
    second: Connection,
    directory: Directory,
    start: Callable[..., subprocess.Popen[str]],
    number: int,
) -> None:
    directory.table("0001.fruit", "fruit")
    directory.add("0002.wait", "SELECT pg_advisory_xact_lock(42);", "SELECT 1;")
    directory.table("0003.nut", "nut")
    second.execute("SELECT pg_advisory_lock(42)")
    names = [f"migrator {n}" for n in range(number)]
    running = [start(name) for name in names]
    wait_until(
        database,
        "count(*) FILTER (WHERE wait_event_type = 'Lock') = 1"
        " AND count(*) FILTER (WHERE query LIKE 'SELECT /* migration/lock */%%') = %s"
        f" FROM {SESSIONS} WHERE application_name = ANY(%s)",
        number - 1,
        names,
    )
    second.execute("SELECT pg_advisory_unlock(42)")
    results = sorted(result(process) for process in running)
    assert results == [[]] * (number - 1) + [["0001.fruit", "0002.wait", "0003.nut"]]
    assert value(database, "SELECT count(*) FROM butido._yoyo_log") == 3


def test_waiting_ends_with_who_is_at_work(
    database: Connection, second: Connection, directory: Directory
) -> None:
    directory.table("0001.fruit", "fruit")
    hold_lock(second)
    pid = second.info.backend_pid
    migrator = Migrator(database, directory=directory.path, lock_wait=0)
    with pytest.raises(MigrationError, match=rf"another migrator is at work .*process {pid}\)"):
        migrator.apply()
    with pytest.raises(MigrationError, match="another migrator"):
        migrator.rollback(to=ZERO)
    assert snapshot(database) == [("public", None, None)]
    elsewhere = Migrator(database, schema="two", directory=directory.path, lock_wait=0)
    assert elsewhere.apply() == ["0001.fruit"]
    second.execute("SELECT pg_advisory_unlock_all()")
    assert migrator.apply() == ["0001.fruit"]


@pytest.mark.usefixtures("fruit")
def test_an_index_is_built_while_another_migrator_waits(
    database: Connection,
    second: Connection,
    start: Callable[..., subprocess.Popen[str]],
) -> None:
    with second.transaction():
        # The index has to wait for this writer, long enough for the second migrator to come.
        second.execute("INSERT INTO butido.fruit VALUES ('apple')")
        first = start("first")
        wait_until_blocked(database, "first")
        waiting = start("waiting")
        wait_until_refused(database, "waiting")
    assert result(first) == ["0002.index"]
    assert result(waiting) == []
    assert index_is_valid(database, "fruit_name_key")


@pytest.fixture
def note(directory: Directory, fruit: Migrator) -> Directory:
    """A directory whose last migration locks the table fruit."""
    assert fruit.apply() == ["0002.index"]
    directory.add(
        "0003.note",
        "ALTER TABLE fruit ADD COLUMN note text;",
        "ALTER TABLE fruit DROP COLUMN note;",
        notes=NOTES.replace("none", "ACCESS EXCLUSIVE on fruit"),
    )
    return directory


def test_a_lock_is_tried_for_until_it_is_there(
    database: Connection, second: Connection, note: Directory, database_dsn: str
) -> None:
    told: Queue[str] = Queue()
    # What only reads the table holds a lock that conflicts; a lock that does not is not named.
    with second.transaction(), psycopg.connect(database_dsn) as other:
        second.execute("SELECT FROM butido.fruit")
        other.execute("SELECT FROM butido._yoyo_migration")
        migrator = Migrator(database, directory=note.path, tell=told.put)
        with ThreadPoolExecutor(1) as threads:
            applied = threads.submit(migrator.apply)
            line = told.get(timeout=PATIENCE.total_seconds())
            # Readers get through while it tries, behind whatever attempt they meet.
            with psycopg.connect(database_dsn) as reader:
                reader.execute(f"SET lock_timeout = {PATIENCE.total_seconds() * 1000:.0f}")
                for attempt in range(2, 5):
                    reader.execute("SELECT FROM butido.fruit")
                    reader.rollback()
                    again = told.get(timeout=PATIENCE.total_seconds())
                    assert again.startswith(f"0003.note: attempt {attempt} had to wait for a lock")
            assert not applied.done()
            second.execute("ROLLBACK")
            assert applied.result(PATIENCE.total_seconds()) == ["0003.note"]
    pid, role = second.info.backend_pid, second.info.user
    when = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"
    assert re.fullmatch(
        rf"0003\.note: attempt 1 had to wait for a lock; in the way: process {pid} \(role {role}, "
        rf"idle in transaction, transaction since {when}, query since {when}; AccessShareLock on "
        r"fruit\); the next attempt is in 0\.25 s",
        line,
    )


def test_a_lock_that_is_never_there_is_given_up(
    database: Connection, second: Connection, note: Directory
) -> None:
    migrator = Migrator(database, directory=note.path, retry_for=0)
    way = rf"SQLSTATE 55P03; nothing .*in the way: process {second.info.backend_pid} \("
    with second.transaction():
        second.execute("SELECT FROM butido.fruit")
        with pytest.raises(MigrationError, match=rf"note\.sql:\d+: .*{way}"):
            migrator.apply()
    assert migrator.apply() == ["0003.note"]
    with second.transaction():
        second.execute("SELECT FROM butido.fruit")
        with pytest.raises(MigrationError, match=rf"rollback\.sql:\d+: .*{way}"):
            migrator.rollback(to="0002.index")


def test_all_locks_together_are_waited_for_no_longer_than_one(
    database: Connection, directory: Directory
) -> None:
    directory.add(
        "0001.t",
        "SELECT count(*) FROM generate_series(1, 1000000);"
        "CREATE TABLE seen AS SELECT current_setting('lock_timeout') AS value;",
        "DROP TABLE seen;",
    )
    Migrator(database, directory=directory.path).apply()
    seen = str(value(database, "SELECT value FROM butido.seen"))
    assert 10 <= int(seen.removesuffix("ms")) < 200
