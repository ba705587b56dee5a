"""Servers and pools that do not answer: a run ends in its time, and says what is wrong."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from chaos.proxy import Proxy
from conftest import AnyStore
from psycopg import generators, sql
from psycopg.abc import PQGen
from psycopg.conninfo import make_conninfo
from psycopg.pq.abc import PGconn, PGresult
from psycopg_pool import AsyncConnectionPool, ConnectionPool
from samples import create

from butido_store import AsyncStore, Store, report, uuid7
from butido_store._watch import Watched
from butido_store.admin.migrate import Migrator
from butido_store.embedded import Server
from butido_store.errors import SchemaMismatch, StoreError, Unavailable
from butido_store.store import open_schema, open_schema_async

pytestmark = pytest.mark.any_server


@contextlib.contextmanager
def _frozen(dsn: str, data: Path) -> Iterator[None]:
    """Stop all of a server's processes, and let them go on."""
    with psycopg.connect(dsn) as connection:
        pids = [row[0] for row in connection.execute("SELECT pid FROM pg_stat_activity")]
        pids.remove(connection.info.backend_pid)
    # First the one that begins the others.
    pids.insert(0, int((data / "postmaster.pid").read_text().split()[0]))
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in reversed(pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@pytest.mark.own_server
def test_a_run_does_not_wait_for_a_server_that_is_frozen(short_directory: Path) -> None:
    with Server(short_directory) as server:
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            Migrator(connection).apply()
        data = server.directory / "data"
        dsn = make_conninfo(server.dsn, connect_timeout=2)

        async def awaited() -> None:
            async with await AsyncStore.connect(dsn, retry_for=0.5) as store:
                with _frozen(server.dsn, data), pytest.raises(Unavailable, match=r"silent|timeout"):
                    await store.run(create(uuid7()))
                await store.run(create(uuid7()))

        with Store.connect(dsn, retry_for=0.5) as store:
            with _frozen(server.dsn, data), pytest.raises(Unavailable, match=r"silent|timeout"):
                store.run(create(uuid7()))
            store.run(create(uuid7()))
        asyncio.run(awaited())


def test_a_pool_whose_connections_are_refused_says_why(dsn: str) -> None:
    def configure(connection: psycopg.Connection[Any]) -> None:
        open_schema(connection, "nowhere")

    with (
        ConnectionPool(
            dsn, kwargs={"autocommit": True}, configure=configure, timeout=0.5, open=True
        ) as pool,
        pytest.raises(SchemaMismatch, match=r"--schema nowhere migrate apply"),
    ):
        Store(pool).run(report.jobs())


def test_a_pool_whose_connections_are_refused_says_why_where_it_is_awaited(dsn: str) -> None:
    async def configure(connection: psycopg.AsyncConnection[Any]) -> None:
        await open_schema_async(connection, "nowhere")

    async def run() -> None:
        async with AsyncConnectionPool(
            dsn, kwargs={"autocommit": True}, configure=configure, timeout=0.5, open=False
        ) as pool:
            with pytest.raises(SchemaMismatch, match=r"--schema nowhere migrate apply"):
                await AsyncStore(pool).run(report.jobs())

    asyncio.run(run())


def test_a_pool_that_has_no_connection_to_lend_is_asked_again(dsn: str, schema: str) -> None:
    def configure(connection: psycopg.Connection[Any]) -> None:
        open_schema(connection, schema)

    options: dict[str, Any] = {"kwargs": {"autocommit": True}, "configure": configure}
    with ConnectionPool(dsn, min_size=1, timeout=0.1, open=True, **options) as pool:
        pool.wait()
        lent = pool.getconn()
        attempts = []

        class Counting:
            def connection(self) -> Any:
                attempts.append(time.monotonic())
                if len(attempts) == 3:
                    pool.putconn(lent)
                return pool.connection()

        assert Store(Counting(), retry_for=20).run(report.jobs()) == []
        assert len(attempts) == 3


def test_a_pool_that_is_closed_is_not_asked_again(dsn: str) -> None:
    pool = ConnectionPool(dsn, open=True)
    pool.close()
    with pytest.raises(StoreError, match=r"^the pool is closed$") as refused:
        Store(pool).run(report.jobs())
    assert not isinstance(refused.value, Unavailable)


def test_a_pool_that_is_closed_is_not_asked_again_where_it_is_awaited(dsn: str) -> None:
    async def run() -> None:
        pool = AsyncConnectionPool(dsn, open=False)
        await pool.open()
        await pool.close()
        with pytest.raises(StoreError, match=r"^the pool is closed$"):
            await AsyncStore(pool).run(report.jobs())

    asyncio.run(run())


@pytest.mark.own_server
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_a_cancelled_connect_leaves_nothing(
    short_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the embedded server that it started, nor a connection."""
    monkeypatch.setenv("BUTIDO_STORE_DATA", str(short_directory))
    with Server() as server, psycopg.connect(server.dsn, autocommit=True) as connection:
        Migrator(connection).apply()

    async def run(delay: float) -> None:
        task = asyncio.ensure_future(AsyncStore.connect())
        await asyncio.sleep(delay)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await (await task).close()

    before = sorted(os.listdir("/proc/self/fd"))
    for delay in (0, 0.01, 0.1, 0.3, 0.6):
        asyncio.run(run(delay))
        assert not (server.directory / "data" / "postmaster.pid").exists()
    assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.mark.own_server
def test_a_cancelled_close_closes(short_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUTIDO_STORE_DATA", str(short_directory))
    with Server() as server, psycopg.connect(server.dsn, autocommit=True) as connection:
        Migrator(connection).apply()

    async def run() -> None:
        store = await AsyncStore.connect()
        task = asyncio.ensure_future(store.close())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(StoreError, match="closed"):
            await store.run(report.jobs())

    asyncio.run(run())
    assert not (server.directory / "data" / "postmaster.pid").exists()


def _waiting(connection: psycopg.Connection[Any]) -> int:
    """Return how many sessions of this database wait for a lock."""
    row = connection.execute(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    ).fetchone()
    assert row
    return int(row[0])


def test_a_pool_opens_a_connection_after_one_that_hangs(
    dsn: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("butido_store._connection._OPENING", 0.1)
    hangs = sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(
        sql.Identifier(schema, "_yoyo_migration")
    )
    with (
        psycopg.connect(dsn, autocommit=True) as other,
        Store.pooled(dsn, schema=schema, max_size=1, retry_for=0.1) as store,
    ):
        with psycopg.connect(dsn) as locking:
            locking.execute(hangs)
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND state = 'idle'"
            )
            # The server does not notice that the first one is cut.
            deadline = time.monotonic() + 60
            while _waiting(other) < 2:
                assert time.monotonic() < deadline
                with contextlib.suppress(Unavailable):
                    store.run(report.jobs())
        while True:
            with contextlib.suppress(Unavailable):
                assert store.run(report.jobs()) == []
                break


def test_a_run_ends_in_its_time_while_another_server_is_asked_whether_it_is_there(
    dsn: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("butido_store._watch._PATIENCE", 20.0)
    cuts: list[str] = []
    cut = Watched.cut

    def noted(self: Watched, why: str) -> None:
        cuts.append(why)
        cut(self, why)

    monkeypatch.setattr(Watched, "cut", noted)
    with (
        Proxy(dsn) as proxy,
        Store.connect(proxy.dsn, schema=schema, retry_for=0.3) as silent,
        Store.connect(dsn, schema=schema, retry_for=0, timeout=0.5) as store,
        psycopg.connect(dsn) as locking,
        ThreadPoolExecutor() as threads,
    ):
        locking.execute(
            sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(
                sql.Identifier(schema, "submit")
            )
        )
        proxy.freeze()
        try:
            links = proxy.begun
            running = threads.submit(silent.run, report.jobs())
            while proxy.begun == links:
                time.sleep(0.01)
            with pytest.raises(Unavailable, match="longer than its timeout"):
                store.run(create(uuid7()))
            # The other one is not yet.
            assert len(cuts) == 1
        finally:
            locking.rollback()
            proxy.thaw()
        assert running.result() == []


def test_a_run_is_tried_again_where_an_answer_lacks(
    store: AnyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a pooler says why it ends the link, and libpq has seen no end of it yet."""
    fetch, broken = generators.fetch_many, list[PGconn]()

    def fetch_some(pgconn: PGconn) -> PQGen[list[PGresult]]:
        if not broken:
            broken.append(pgconn)
        if pgconn is broken[0]:
            return []
        results: list[PGresult] = yield from fetch(pgconn)
        return results

    monkeypatch.setattr(generators, "fetch_many", fetch_some)
    uuid = uuid7()
    store.run(create(uuid), create(uuid7()))
    assert broken
    assert uuid in [one.uuid for one in store.run(report.submits())]
