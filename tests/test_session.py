"""Sessions: whatever a database, a role or the environment sets, and callers register."""

import asyncio
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from filled import DONE, NEXT, WRITTEN
from psycopg.adapt import Loader
from psycopg.pq import TransactionStatus

from butido_store import AsyncStore, Statement, Store, job, report
from butido_store.errors import StoreError
from butido_store.store import open_schema, open_schema_async

Run = Callable[..., Any]
READS: list[Statement[Any]] = [
    job.get(DONE),
    job.get(NEXT),
    job.log(DONE),
    job.env(DONE),
    job.inputs(NEXT),
    report.jobs(),
    report.submits(),
    report.durations(),
    report.failures(),
    report.endpoints(),
    report.images(),
]


def _answers(dsn: str, schema: str) -> object:
    with Store.connect(dsn, schema=schema) as store:
        return store.run(*READS)


async def _awaited(dsn: str, schema: str) -> object:
    async with await AsyncStore.connect(dsn, schema=schema) as store:
        return await store.run(*READS)


SETTINGS = {
    "datestyle": "German, DMY",
    "intervalstyle": "sql_standard",
    "client_encoding": "latin1",
    "standard_conforming_strings": "off",
    "extra_float_digits": "-3",
    "bytea_output": "escape",
    "search_path": "pg_catalog",
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_what_a_database_sets_changes_no_answer(setting: str, clone_dsn: str, schema: str) -> None:
    with Store.connect(clone_dsn, schema=schema) as store:
        store.run(*WRITTEN)
    plain = _answers(clone_dsn, schema)
    with psycopg.connect(clone_dsn, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f"ALTER DATABASE {name} SET {setting} = {SETTINGS[setting]!r}")
    assert _answers(clone_dsn, schema) == plain
    assert asyncio.run(_awaited(clone_dsn, schema)) == plain


def test_what_the_environment_sets_changes_no_answer(
    filled: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = _answers(filled, schema)
    monkeypatch.setenv("PGDATESTYLE", "German, DMY")
    monkeypatch.setenv("PGCLIENTENCODING", "latin1")
    monkeypatch.setenv("PGOPTIONS", "-c intervalstyle=iso_8601")
    assert _answers(filled, schema) == plain
    assert asyncio.run(_awaited(filled, schema)) == plain


class _Shouting(Loader):
    def load(self, data: Any) -> str:
        return bytes(data).decode().upper()


TYPES = ("uuid", "jsonb", "timestamptz", "text", "int8", "bytea", "bool", "interval")


def test_rows_are_loaded_by_the_library_whatever_its_caller_registered(
    filled: str, schema: str
) -> None:
    plain = _answers(filled, schema)
    with psycopg.connect(filled, autocommit=True) as connection:
        for name in TYPES:
            connection.adapters.register_loader(name, _Shouting)
        open_schema(connection, schema)
        store = Store(connection)
        assert store.run(*READS) == plain
        assert [*store.stream(report.jobs())] == plain[5]


def test_rows_are_loaded_by_the_library_where_they_are_awaited(filled: str, schema: str) -> None:
    plain = _answers(filled, schema)

    async def answers() -> object:
        connection = await psycopg.AsyncConnection.connect(filled, autocommit=True)
        async with connection:
            for name in TYPES:
                connection.adapters.register_loader(name, _Shouting)
            await open_schema_async(connection, schema)
            return await AsyncStore(connection).run(*READS)

    assert asyncio.run(answers()) == plain


def test_a_caller_s_loaders_for_all_connections_are_left_alone(
    filled: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Registered for psycopg as a whole, and before the store connects."""
    plain = _answers(filled, schema)
    theirs = psycopg.adapters
    monkeypatch.setattr(theirs, "_loaders", [dict(one) for one in theirs._loaders])
    for name in TYPES:
        theirs.register_loader(name, _Shouting)
    assert _answers(filled, schema) == plain


def test_nothing_runs_in_a_pipeline_of_the_caller_s(filled: str, schema: str) -> None:
    with psycopg.connect(filled, autocommit=True) as connection:
        open_schema(connection, schema)
        store = Store(connection)
        with connection.pipeline(), pytest.raises(StoreError, match="leave that one first"):
            store.run(job.heartbeat(DONE))
        assert store.run(job.get(DONE)).uuid == DONE


def test_nothing_runs_in_a_pipeline_that_is_awaited(filled: str, schema: str) -> None:
    async def run() -> None:
        connection = await psycopg.AsyncConnection.connect(filled, autocommit=True)
        async with connection:
            await open_schema_async(connection, schema)
            store = AsyncStore(connection)
            async with connection.pipeline():
                with pytest.raises(StoreError, match="leave that one first"):
                    await store.run(job.heartbeat(DONE))
            assert (await store.run(job.get(DONE))).uuid == DONE

    asyncio.run(run())


def _in_child(action: Callable[[], None]) -> int:
    """Run in a fork's child; return its exit status, 0 where the action returned."""
    child = os.fork()
    if not child:
        try:
            action()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_fork_s_child_is_refused_and_its_parent_goes_on(filled: str, schema: str) -> None:
    with Store.connect(filled, schema=schema) as store:
        store.run(job.get(DONE))

        def child() -> None:
            with pytest.raises(StoreError, match="before a fork"):
                store.run(job.get(DONE))
            with pytest.raises(StoreError, match="before a fork"):
                next(store.stream(report.jobs()))
            store.close()
            with Store.connect(filled, schema=schema) as own:
                assert own.run(job.get(NEXT)).uuid == NEXT

        assert _in_child(child) == 0
        assert store.run(job.get(DONE)).uuid == DONE


def test_a_fork_s_child_is_refused_where_it_awaits(filled: str, schema: str) -> None:
    async def run() -> None:
        async with await AsyncStore.connect(filled, schema=schema) as store:
            await store.run(job.get(DONE))

            def child() -> None:
                async def ask() -> None:
                    with pytest.raises(StoreError, match="before a fork"):
                        await store.run(job.get(DONE))
                    await store.close()

                at_once = ask()
                with pytest.raises(StopIteration):
                    at_once.send(None)

            assert _in_child(child) == 0
            assert (await store.run(job.get(DONE))).uuid == DONE

    asyncio.run(run())


def test_the_session_tells_who_it_is(dsn: str, schema: str) -> None:
    found = []
    with psycopg.connect(dsn, autocommit=True) as connection:
        for options in ("", " application_name=builder-1"):
            with Store.connect(dsn + options, schema=schema):
                rows = connection.execute(
                    "SELECT application_name FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                    " AND application_name <> ''"
                ).fetchall()
                found.append([row[0] for row in rows])
    assert ["butido_store"] in found
    assert "builder-1" in found[1]


def test_a_run_ends_at_its_timeout(dsn: str, schema: str) -> None:
    """The lock that it waits for is not given."""
    with (
        Store.connect(dsn, schema=schema, timeout=1) as store,
        psycopg.connect(dsn) as holder,
    ):
        holder.execute(
            psycopg.sql.SQL("LOCK TABLE {}").format(psycopg.sql.Identifier(schema, "job"))
        )
        with pytest.raises(StoreError, match="longer than its timeout"):
            store.run(job.sweep(silent_for=timedelta(days=1)))
        holder.rollback()
        assert store.run(report.jobs()) == []


def test_a_schema_is_not_opened_in_a_transaction_which_would_be_committed(
    dsn: str, schema: str
) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("SELECT 1")
        with pytest.raises(StoreError, match="open_schema takes an idle one"):
            open_schema(connection, schema)
        assert connection.info.transaction_status == TransactionStatus.INTRANS
        connection.rollback()
        open_schema(connection, schema)


def test_nor_where_it_is_awaited(dsn: str, schema: str) -> None:
    async def run() -> None:
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            await connection.execute("SELECT 1")
            with pytest.raises(StoreError, match="open_schema takes an idle one"):
                await open_schema_async(connection, schema)

    asyncio.run(run())
