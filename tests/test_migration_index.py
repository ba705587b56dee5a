"""Migrations that are not transactional: an index is built while builders go on."""

import signal
import subprocess
from collections.abc import Callable

import psycopg
import pytest
from migrating import (
    CONCURRENT,
    DIE_BEFORE_THE_RECORD,
    PATIENCE,
    SESSIONS,
    Directory,
    exists,
    index_is_valid,
    result,
    states,
    wait_until,
    wait_until_blocked,
)

from butido_store.admin.migrate import Migrator
from butido_store.errors import MigrationError

Connection = psycopg.Connection[tuple[object, ...]]


def test_an_index_that_failed_is_built_anew(database: Connection, fruit: Migrator) -> None:
    database.execute("INSERT INTO butido.fruit VALUES ('apple'), ('apple')")
    with pytest.raises(MigrationError, match=r"0002\.index\.sql:\d+: .*23505; .*starts afresh"):
        fruit.apply()
    assert index_is_valid(database, "fruit_name_key") is False
    assert states(fruit)["0002.index"] == "pending"

    database.execute("DELETE FROM butido.fruit")
    assert fruit.apply() == ["0002.index"]
    assert index_is_valid(database, "fruit_name_key") is True


def test_an_index_cut_off_is_built_anew(
    database: Connection,
    second: Connection,
    fruit: Migrator,
    start: Callable[..., subprocess.Popen[str]],
) -> None:
    with second.transaction():
        second.execute("INSERT INTO butido.fruit VALUES ('apple')")
        process = start("first")
        wait_until_blocked(database, "first")
        database.execute(
            f"SELECT pg_terminate_backend(pid) FROM {SESSIONS} WHERE application_name = 'first'"
        )
        assert process.wait(PATIENCE.total_seconds()) == 1
    assert index_is_valid(database, "fruit_name_key") is False
    assert fruit.apply() == ["0002.index"]
    assert index_is_valid(database, "fruit_name_key") is True


def test_an_index_built_but_not_recorded_is_no_obstacle(
    database: Connection,
    fruit: Migrator,
    start: Callable[..., subprocess.Popen[str]],
) -> None:
    process = start(before=DIE_BEFORE_THE_RECORD)
    assert process.wait(PATIENCE.total_seconds()) == -signal.SIGKILL
    assert index_is_valid(database, "fruit_name_key") is True
    assert states(fruit)["0002.index"] == "pending"
    assert fruit.apply() == ["0002.index"]


def test_an_index_is_dropped_and_comes_back(database: Connection, directory: Directory) -> None:
    directory.table("0001.fruit", "fruit")
    directory.concurrent("0002.index")
    directory.add("0003.no-index", *CONCURRENT[::-1], transactional=False)
    migrator = Migrator(database, directory=directory.path)
    migrator.apply()
    assert not exists(database, "fruit_name_key")
    # As a rollback that was cut off leaves it.
    database.execute("CREATE INDEX fruit_name_key ON butido.fruit (name)")
    assert migrator.rollback(to="0002.index") == ["0003.no-index"]
    assert index_is_valid(database, "fruit_name_key") is True


@pytest.mark.usefixtures("fruit")
def test_a_timeout_of_the_role_does_not_cut_off_an_index(
    database: Connection,
    second: Connection,
    start: Callable[..., subprocess.Popen[str]],
) -> None:
    with second.transaction():
        second.execute("INSERT INTO butido.fruit VALUES ('apple')")
        process = start("first", "os.environ['PGOPTIONS'] = '-c lock_timeout=1'")
        wait_until(
            database,
            f"EXISTS (SELECT FROM {SESSIONS} JOIN pg_locks USING (pid)"
            " WHERE clock_timestamp() - waitstart > '20 ms')",
        )
    assert result(process) == ["0002.index"]
