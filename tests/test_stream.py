"""Streams: rows as they come, while the store goes on with other work."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql
from psycopg_pool import AsyncConnectionPool, ConnectionPool
from samples import create, finish, start

from butido_store import (
    AsyncStore,
    Store,
    job,
    open_schema,
    open_schema_async,
    report,
    submit,
    uuid7,
)
from butido_store.errors import NotRunning, StoreError

pytestmark = pytest.mark.any_server

JOBS = 5
ALL = report.jobs(limit=None)


@pytest.fixture
def running(dsn: str, schema: str) -> list[UUID]:
    """Jobs that run, more than one."""
    of_submit, jobs = uuid7(), [uuid7() for _ in range(JOBS)]
    with Store.connect(dsn, schema=schema) as store:
        store.run(create(of_submit), *(start(uuid, of_submit) for uuid in jobs))
    return jobs


@contextmanager
def own(dsn: str, schema: str) -> Iterator[Store]:
    """A store on a connection of its own."""
    with Store.connect(dsn, schema=schema) as store:
        yield store


@contextmanager
def pooled(dsn: str, schema: str) -> Iterator[Store]:
    """A store on a pool."""

    def configure(connection: psycopg.Connection[Any]) -> None:
        open_schema(connection, schema)

    kwargs = {"autocommit": True}
    with ConnectionPool(
        dsn, min_size=1, max_size=4, kwargs=kwargs, configure=configure, open=True
    ) as pool:
        yield Store(pool)


both = pytest.mark.parametrize("opened", [own, pooled])
Opened = Callable[[str, str], Any]


@both
def test_what_is_run_inside_a_stream_stays(
    opened: Opened, dsn: str, schema: str, running: list[UUID]
) -> None:
    with opened(dsn, schema) as store, Store.connect(dsn, schema=schema) as other:
        for row in store.stream(ALL):
            store.run(finish(row.uuid))
            break
        assert other.run(job.get(row.uuid)).state == "success"
        for row in store.stream(ALL):
            if row.state == "running":
                store.run(finish(row.uuid))
        assert {other.run(job.get(uuid)).state for uuid in running} == {"success"}


def test_what_is_awaited_inside_a_stream_stays(dsn: str, schema: str, running: list[UUID]) -> None:
    async def configure(connection: psycopg.AsyncConnection[Any]) -> None:
        await open_schema_async(connection, schema)

    async def use(store: AsyncStore) -> None:
        async for row in store.stream(ALL):
            if row.state == "running":
                await store.run(finish(row.uuid))
                break
        async for row in store.stream(ALL):
            await store.run(job.get(row.uuid))

    async def main() -> None:
        async with await AsyncStore.connect(dsn, schema=schema) as store:
            await use(store)
        kwargs = {"autocommit": True}
        async with AsyncConnectionPool(
            dsn, min_size=1, max_size=4, kwargs=kwargs, configure=configure, open=False
        ) as pool:
            await use(AsyncStore(pool))

    asyncio.run(asyncio.wait_for(main(), 60))
    with Store.connect(dsn, schema=schema) as other:
        ended = [uuid for uuid in running if other.run(job.get(uuid)).state == "success"]
    assert len(ended) == 2


def test_on_the_callers_only_connection_nothing_else_runs_meanwhile(
    connection: psycopg.Connection[Any], running: list[UUID]
) -> None:
    store = Store(connection)
    rows = store.stream(ALL)
    first = next(rows)
    with pytest.raises(StoreError, match="a stream has this connection"):
        store.run(finish(first.uuid))
    with pytest.raises(StoreError, match="a stream has this connection"):
        next(store.stream(ALL))
    assert len([first, *rows]) == len(running)
    store.run(finish(first.uuid))
    closed = store.stream(ALL)
    next(closed)
    closed.close()
    with pytest.raises(NotRunning):
        store.run(job.heartbeat(first.uuid))


def test_on_the_callers_only_connection_nothing_else_is_awaited_meanwhile(
    dsn: str, schema: str, running: list[UUID]
) -> None:
    async def main() -> None:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            await open_schema_async(connection, schema)
            store = AsyncStore(connection)
            rows = store.stream(ALL)
            first = await anext(rows)
            with pytest.raises(StoreError, match="a stream has this connection"):
                await store.run(finish(first.uuid))
            await rows.aclose()
            await store.run(finish(first.uuid))

    asyncio.run(asyncio.wait_for(main(), 60))


@both
def test_streams_side_by_side_and_one_that_is_left_early(
    opened: Opened, dsn: str, schema: str, running: list[UUID]
) -> None:
    with opened(dsn, schema) as store:
        pairs = list(zip(store.stream(ALL), store.stream(ALL), strict=True))
        assert [a.uuid for a, _ in pairs] == [b.uuid for _, b in pairs]
        assert len(pairs) == len(running)
        for _ in range(10):
            left = store.stream(ALL)
            next(left)
            left.close()
        assert len(list(store.stream(ALL))) == len(running)


@both
def test_a_stream_is_begun_in_one_thread_and_ended_in_another(
    opened: Opened, dsn: str, schema: str, running: list[UUID]
) -> None:
    with opened(dsn, schema) as store:
        rows = store.stream(ALL)
        found = [next(rows)]
        thread = threading.Thread(target=lambda: found.extend(rows))
        thread.start()
        thread.join(60)
        assert {row.uuid for row in found} == {*running}
        # Nothing is held that another thread waits for.
        other = threading.Thread(target=lambda: store.run(finish(running[0])))
        other.start()
        other.join(60)
        assert store.run(job.get(running[0])).state == "success"


def test_a_closed_store_streams_nothing(dsn: str, schema: str) -> None:
    store = Store.connect(dsn, schema=schema)
    store.close()
    with pytest.raises(StoreError, match="closed"):
        next(store.stream(ALL))


def test_the_servers_statistics_tell_which_report_is_streamed(
    dsn: str, schema: str, running: list[UUID], connection: psycopg.Connection[Any]
) -> None:
    with Store.connect(dsn, schema=schema) as store:
        rows = store.stream(ALL)
        next(rows)
        found = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE query ~ '\"report/jobs\"'"
            " AND datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchone()
        rows.close()
    assert found == (1,)


_OPENED = """
import sys
from butido_store import Store
opened = []
sys.addaudithook(lambda event, arguments: event == "open" and opened.append(str(arguments[0])))
for _ in range(2):
    opened.clear()
    Store.connect(sys.argv[1], schema=sys.argv[2]).close()
assert not [name for name in opened if name.endswith(".sql")], opened
assert not {"yoyo", "butido_store.admin.migrate"} & {*sys.modules}
"""


def test_a_connection_is_opened_without_reading_the_migrations_again(dsn: str, schema: str) -> None:
    command = [sys.executable, "-c", _OPENED, dsn, schema]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_last_row_of_many_comes(dsn: str, schema: str) -> None:
    """More than the cursor fetches at once."""
    uuids = [uuid7() for _ in range(2100)]
    with Store.connect(dsn, schema=schema) as store:
        for uuid in uuids:
            store.run(create(uuid))
        found = [row.uuid for row in store.stream(report.submits(limit=None))]
        assert sorted(found) == sorted(uuids)
        assert store.run(submit.get(uuids[-1])).package == "zlib"


def test_two_stores_on_one_connection_know_of_each_other_s_stream(
    dsn: str, schema: str, running: list[UUID]
) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        open_schema(connection, schema)
        rows = Store(connection).stream(ALL)
        row = next(rows)
        with pytest.raises(StoreError, match="a stream has this connection"):
            Store(connection).run(finish(row.uuid))
        rows.close()
        Store(connection).run(finish(row.uuid))


def test_a_fork_s_child_leaves_a_stream_to_its_parent(
    dsn: str, schema: str, running: list[UUID]
) -> None:
    with Store.connect(dsn, schema=schema) as store:
        rows = store.stream(ALL)
        seen = [next(rows)]
        child = os.fork()
        if not child:
            try:
                list(rows)
            except StoreError as error:
                os._exit(0 if "opened before a fork" in str(error) else 2)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        seen.extend(rows)
        assert {*running} <= {row.uuid for row in seen}


def _interrupt_who_waits(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as watcher:
        waiting = "SELECT 1 FROM pg_locks WHERE NOT granted"
        while not watcher.execute(waiting).fetchall():
            pass
    os.kill(os.getpid(), signal.SIGUSR1)


def _time_is_up(_: int, __: object) -> None:
    raise TimeoutError


def test_a_stream_that_a_signal_handler_breaks_off_closes_the_callers_connection(
    dsn: str, schema: str
) -> None:
    before = signal.signal(signal.SIGUSR1, _time_is_up)
    try:
        with psycopg.connect(dsn, autocommit=True) as connection, psycopg.connect(dsn) as holder:
            open_schema(connection, schema)
            store = Store(connection)
            holder.execute(sql.SQL("LOCK TABLE {}").format(sql.Identifier(schema, "job")))
            threading.Thread(target=_interrupt_who_waits, args=[dsn]).start()
            with pytest.raises(TimeoutError):
                next(store.stream(ALL))
            with pytest.raises(StoreError, match=r"the connection is closed.*open another"):
                store.run(ALL)
    finally:
        signal.signal(signal.SIGUSR1, before)
