"""A stream that nobody reads on: its transaction does not last for ever."""

import asyncio
import math
import subprocess
import sys
import time

import psycopg
import pytest

from butido_store import AsyncStore, Store, report
from butido_store.errors import StoreError

pytestmark = pytest.mark.any_server

Connection = psycopg.Connection[tuple[object, ...]]
SAYS = "not read on for so long that the server ended the stream"
PROGRAM = """
import sys
from butido_store.cli import main, reports
reports._IDLE_SECONDS = 0.05
main.main(sys.argv[1:])
"""


@pytest.fixture
def many(dsn: str, connection: Connection) -> str:
    """DSN of a database with more images than a page of a stream has, or a pipe."""
    connection.execute(
        "INSERT INTO image (name) SELECT repeat('x', 100) || n FROM generate_series(1, 5000) AS n"
    )
    return dsn


def until_gone(connection: Connection, known: int) -> None:
    """Wait for the server to end all sessions of stores in the database but so many."""
    while connection.execute(
        "SELECT count(*) > %s FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'butido_store'",
        [known],
    ).fetchone() != (False,):
        time.sleep(0.01)


@pytest.mark.parametrize("idle", [math.inf, 1e8])
def test_any_limit_is_one_of_the_servers(idle: float, dsn: str, schema: str) -> None:
    with Store.connect(dsn, schema=schema) as store:
        assert list(store.stream(report.images(), idle=idle)) == []


def test_the_server_ends_it(many: str, schema: str, connection: Connection) -> None:
    with Store.connect(many, schema=schema) as store:
        rows = store.stream(report.images(limit=None), idle=0.05)
        next(rows)
        until_gone(connection, 1)
        with pytest.raises(StoreError, match=SAYS):
            list(rows)
        # What is read on is not ended, and the store goes on.
        assert len([*store.stream(report.images(limit=None), idle=60)]) == 5000


def test_and_awaited(many: str, schema: str, connection: Connection) -> None:
    async def read() -> None:
        async with await AsyncStore.connect(many, schema=schema) as store:
            rows = store.stream(report.images(limit=None), idle=0.05)
            await anext(rows)
            until_gone(connection, 1)
            with pytest.raises(StoreError, match=SAYS):
                [row async for row in rows]

    asyncio.run(read())


def test_a_shorter_limit_of_the_session_stays(
    many: str, schema: str, connection: Connection
) -> None:
    limited = f"{many} options='-c idle_in_transaction_session_timeout=50ms'"
    with Store.connect(limited, schema=schema) as store:
        rows = store.stream(report.images(limit=None), idle=999)
        next(rows)
        until_gone(connection, 1)
        with pytest.raises(StoreError, match=SAYS):
            list(rows)


@pytest.mark.usefixtures("run")
def test_a_pager_left_open_is_ended(many: str, schema: str, connection: Connection) -> None:
    words = ("--dsn", many, "--schema", schema, "images", "--limit", "0", "--format", "jsonl")
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == "{"
        until_gone(connection, 1)
        _, said = process.communicate()
    assert process.returncode == 1
    assert SAYS in said
    assert said.count("\n") == 1
