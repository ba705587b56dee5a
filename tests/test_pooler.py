"""Behind a pooler in transaction mode, which lends a session for a transaction only."""

import asyncio
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner
from samples import create
from shell import Run

from butido_store import AsyncStore, Store, open_schema, open_schema_async, report, uuid7
from butido_store.cli.main import main

# What another session does to one that the store knows nothing of.
GONE = b"DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$"


def test_what_is_no_longer_prepared_runs_all_the_same(dsn: str, schema: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        open_schema(connection, schema)
        store = Store(connection)
        # Several are one transaction.
        for statements in ([report.images()], [create(uuid7()), create(uuid7())]):
            for _ in range(8):
                store.run(*statements)
            connection.execute(GONE, prepare=False)
            store.run(*statements)


def test_nor_does_that_fail_a_transaction_of_the_callers(dsn: str, schema: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        open_schema(connection, schema)
        store = Store(connection)
        for _ in range(8):
            store.run(report.images())
        with connection.transaction():
            connection.execute(GONE, prepare=False)
            store.run(report.images())


def test_and_awaited(dsn: str, schema: str) -> None:
    async def ask() -> None:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            await open_schema_async(connection, schema)
            store = AsyncStore(connection)
            for _ in range(8):
                await store.run(report.images())
            await connection.execute(GONE, prepare=False)
            await store.run(report.images())

    asyncio.run(ask())


@pytest.mark.parametrize(("words", "threshold"), [([], 5), (["--no-prepare"], None)])
def test_the_command_line_can_do_without(
    dsn: str, schema: str, words: list[str], threshold: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int | None] = []
    connect = Store.connect

    def noting(*given: Any, prepare_threshold: int | None = 5, **named: Any) -> Store:
        seen.append(prepare_threshold)
        return connect(*given, prepare_threshold=prepare_threshold, **named)

    monkeypatch.setattr(Store, "connect", noting)
    done = CliRunner().invoke(main, ["--dsn", dsn, "--schema", schema, *words, "images"])
    assert done.exit_code == 0
    assert seen == [threshold]


def test_psql_leaves_the_search_path_to_the_role(run: Run, dsn: str, schema: str) -> None:
    on = ("--dsn", dsn, "--schema", schema)
    show = ("psql", "-XAt", "-c", "SHOW search_path")
    assert run(*on, "--no-prepare", *show).stdout == '"$user", public\n'
    quoted = schema.replace('"', '""')
    assert quoted in run(*on, *show).stdout
