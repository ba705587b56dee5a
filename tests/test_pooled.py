"""A store on a pool of its own, and how a store is opened and closed."""

import asyncio
import logging
import math
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest
from conftest import AnyStore, Awaited
from psycopg.conninfo import make_conninfo
from samples import create, start

from butido_store import AsyncStore, Store, job, report, submit, uuid7
from butido_store.admin.migrate import Migrator
from butido_store.embedded import Server
from butido_store.errors import (
    ConnectionFailed,
    InvalidInput,
    SchemaMismatch,
    StoreError,
    Unavailable,
)

pytestmark = pytest.mark.any_server

ALL = report.jobs(limit=None)


@contextmanager
def pooled(kind: str, dsn: str | None, **options: Any) -> Iterator[AnyStore]:
    """Open a store of either kind on a pool of its own."""
    if kind == "sync":
        with Store.pooled(dsn, **options) as store:
            yield cast(AnyStore, store)
    else:
        waited = Awaited(lambda: AsyncStore.pooled(dsn, **options))
        try:
            yield cast(AnyStore, waited)
        finally:
            waited.close()


either = pytest.mark.parametrize("kind", ["sync", "async"])


def sessions(connection: psycopg.Connection[Any]) -> int:
    """Return how many sessions are named `pooled`: those of other tests may be about to end."""
    row = connection.execute(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'pooled'"
    ).fetchone()
    assert row is not None
    return int(str(row[0]))


@either
def test_a_pool_takes_one_call(kind: str, dsn: str, schema: str) -> None:
    with pooled(kind, dsn, schema=schema) as store:
        uuid = uuid7()
        store.run(create(uuid), start(uuid7(), uuid))
        assert store.run(submit.get(uuid)).uuid == uuid


def test_threads_do_not_wait_for_each_other(
    dsn: str, schema: str, connection: psycopg.Connection[Any]
) -> None:
    """Each has a connection at the same time, and none is left when the store is closed."""
    of_submit, first, second = uuid7(), uuid7(), uuid7()
    with Store.pooled(f"{dsn} application_name=pooled", schema=schema, max_size=2) as store:
        store.run(create(of_submit), start(first, of_submit), start(second, of_submit))
        with ExitStack() as locks:
            # One run waits for a lock that is released only after the other one has ended.
            blocker = locks.enter_context(psycopg.connect(dsn))
            blocker.execute("SELECT set_config('search_path', quote_ident(%s), false)", [schema])
            blocker.execute("SELECT 1 FROM job WHERE uuid = %s FOR UPDATE", [first])
            waits = threading.Thread(target=lambda: store.run(job.heartbeat(first)))
            waits.start()
            store.run(job.heartbeat(second))
            assert waits.is_alive()
        waits.join(60)
        assert not waits.is_alive()
        assert 1 <= sessions(connection) <= 2
    while sessions(connection):
        pass


def test_tasks_do_not_wait_for_each_other(dsn: str, schema: str) -> None:
    async def main() -> None:
        async with AsyncStore.pooled(dsn, schema=schema, min_size=2, max_size=2) as store:
            uuid = uuid7()
            await store.run(create(uuid), *(start(uuid7(), uuid) for _ in range(3)))
            async for one in store.stream(ALL):
                # The stream has a connection, and this has the other.
                await store.run(job.heartbeat(one.uuid))

    asyncio.run(asyncio.wait_for(main(), 60))


@either
def test_what_is_wrong_is_said_at_once(kind: str, dsn: str, schema: str) -> None:
    """Not after the time that a pool takes to give up, nor in a log."""
    with (
        pytest.raises(SchemaMismatch, match="--schema none migrate apply"),
        pooled(kind, dsn, schema="none"),
    ):
        pass
    with (
        pytest.raises(ConnectionFailed, match="nobody"),
        pooled(kind, make_conninfo(dsn, user="nobody"), schema=schema),
    ):
        pass
    with (
        pytest.raises(InvalidInput, match="max_size"),
        pooled(kind, dsn, schema=schema, min_size=3, max_size=2),
    ):
        pass


@either
def test_the_missing_extra_is_named(
    kind: str, dsn: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg_pool", None)
    with pytest.raises(StoreError, match=r"butido_store\[pool\]"), pooled(kind, dsn, schema=schema):
        pass


@either
def test_who_finds_all_connections_busy_is_told(kind: str, dsn: str, schema: str) -> None:
    async def main() -> None:
        async with AsyncStore.pooled(
            dsn, schema=schema, min_size=1, max_size=1, retry_for=2
        ) as store:
            await store.run(create(uuid7()))
            rows = store.stream(report.submits())
            await anext(rows)
            with pytest.raises(Unavailable, match=r"no connection to lend"):
                await store.run(create(uuid7()))
            await rows.aclose()
            await store.run(create(uuid7()))

    if kind == "async":
        asyncio.run(asyncio.wait_for(main(), 60))
        return
    with Store.pooled(dsn, schema=schema, min_size=1, max_size=1, retry_for=2) as store:
        store.run(create(uuid7()))
        rows = store.stream(report.submits())
        next(rows)
        with pytest.raises(Unavailable, match=r"no connection to lend"):
            store.run(create(uuid7()))
        rows.close()
        store.run(create(uuid7()))


def test_a_connection_is_awaited_without_end(
    dsn: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()
    with (
        Store.pooled(dsn, schema=schema, max_size=1, retry_for=math.inf) as store,
        ThreadPoolExecutor(1) as pool,
    ):
        store.run(create(uuid7()))
        rows = store.stream(report.submits())
        next(rows)
        log = logging.getLogger("psycopg.pool")
        monkeypatch.setattr(log, "info", lambda *_: asked.set())
        waiting = pool.submit(store.run, create(uuid7()))
        assert asked.wait(60)
        rows.close()
        waiting.result(60)


@either
def test_a_closed_pool_is_a_closed_store(kind: str, dsn: str, schema: str) -> None:
    with pooled(kind, dsn, schema=schema) as store:
        pass
    if kind == "sync":
        with pytest.raises(StoreError, match="the store is closed"):
            store.run(ALL)


@either
def test_connections_that_were_lost_are_made_anew(
    kind: str, dsn: str, schema: str, connection: psycopg.Connection[Any]
) -> None:
    named = f"{dsn} application_name=pooled"
    with pooled(kind, named, schema=schema, min_size=4, max_size=4, retry_for=60) as store:
        while sessions(connection) < 4:
            store.run(ALL)
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        uuid = uuid7()
        store.run(create(uuid))
        assert store.run(submit.get(uuid)).uuid == uuid


@either
def test_the_embedded_server_runs_while_the_pool_is_open(
    kind: str, short_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BUTIDO_STORE_DATA", str(short_directory))
    with Server() as server:
        dsn = server.dsn
        with psycopg.connect(dsn, autocommit=True) as connection:
            Migrator(connection).apply()
    with pooled(kind, None) as store:
        store.run(create(uuid7()))
        server.stop()
        # It is started again, and every connection that was lost with it is made anew.
        store.run(create(uuid7()))
        assert len(store.run(report.submits())) == 2
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(dsn)


def test_an_async_store_is_opened_by_one_word_or_two(dsn: str, schema: str) -> None:
    async def main() -> None:
        for open_ in (AsyncStore.connect, AsyncStore.pooled):
            async with open_(dsn, schema=schema) as entered:
                await entered.run(ALL)
            with pytest.raises(StoreError, match="closed"):
                await entered.run(ALL)
            async with await open_(dsn, schema=schema) as entered:
                await entered.run(ALL)
            store = await open_(dsn, schema=schema)
            await store.run(ALL)
            await store.close()
            # Nothing less than a coroutine is a task.
            store = await asyncio.create_task(open_(dsn, schema=schema))
            await store.close()
            with pytest.raises(SchemaMismatch):
                async with open_(dsn, schema="none"):
                    pass

    asyncio.run(main())
    store = asyncio.run(AsyncStore.connect(dsn, schema=schema))
    asyncio.run(store.close())
