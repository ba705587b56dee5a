"""The migrator: one at a time works on a schema, and the others wait."""

import subprocess
from collections.abc import Callable

import psycopg
import pytest
from migrating import (
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
