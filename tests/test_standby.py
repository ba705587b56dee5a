"""With a synchronous standby: a write is acknowledged only when the standby has it."""

import asyncio
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from uuid import UUID

import pytest
from psycopg.conninfo import make_conninfo
from samples import create, finish, sha256, start
from standby import SAMPLES, Pair, Wait

from butido_store import AsyncStore, Statement, Store, artifact, job, uuid7
from butido_store.artifact import Artifact

pytestmark = pytest.mark.own_server

Writes = Mapping[str, Future[object]]
# Starts the write of each sample, all at once.
Start = Callable[[], Writes]


@pytest.fixture
def _threads(pair: Pair) -> Iterator[Start]:
    with ExitStack() as stack, ThreadPoolExecutor(len(SAMPLES)) as threads:
        stores = {
            name: stack.enter_context(Store.connect(pair.dsn(name), schema=name))
            for name in SAMPLES
        }
        yield lambda: {
            name: threads.submit(stores[name].run, *statements)
            for name, (_, statements) in SAMPLES.items()
        }
        # What still waits could not be waited for.
        pair.thaw()


@pytest.fixture
def _tasks(pair: Pair) -> Iterator[Start]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def opened() -> dict[str, AsyncStore]:
        return {name: await AsyncStore.connect(pair.dsn(name), schema=name) for name in SAMPLES}

    async def closed() -> None:
        for store in stores.values():
            await store.close()

    try:
        stores = asyncio.run_coroutine_threadsafe(opened(), loop).result()
        yield lambda: {
            name: asyncio.run_coroutine_threadsafe(stores[name].run(*statements), loop)
            for name, (_, statements) in SAMPLES.items()
        }
        pair.thaw()
        asyncio.run_coroutine_threadsafe(closed(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(params=["threads", "tasks"])
def start_all(request: pytest.FixtureRequest) -> Start:
    """What starts all writes, by stores that block and by stores that await."""
    started: Start = request.getfixturevalue(f"_{request.param}")
    return started


def all_wait(pair: Pair, writes: Writes, before: set[Wait]) -> set[Wait]:
    """Wait until each write waits for the standby, anew, and see that none is acknowledged."""
    while True:
        done = {name: write for name, write in writes.items() if write.done()}
        waits = pair.waits() - before
        if writes.keys() == done.keys() | {name for name, _, _ in waits}:
            said = {name: write.exception() or write.result() for name, write in done.items()}
            assert not done, "\n".join(f"{name}: {value!r}" for name, value in said.items())
            return waits
        time.sleep(0.01)


def acknowledged(pair: Pair, writes: Writes) -> None:
    """Let the standby confirm, and see that each write is acknowledged."""
    pair.thaw()
    for write in writes.values():
        write.result()


@pytest.mark.parametrize("function", ["pg_cancel_backend", "pg_terminate_backend"])
def test_a_write_whose_wait_is_ended_waits_again(
    pair: Pair, start_all: Start, function: str
) -> None:
    pair.freeze()
    writes = start_all()
    waits = all_wait(pair, writes, set())
    pair.signal(function, waits)
    again = all_wait(pair, writes, waits)
    # Now for what confirms it, which is interrupted, too.
    pair.signal(function, again)
    all_wait(pair, writes, waits | again)
    acknowledged(pair, writes)


def test_a_write_that_a_killed_primary_has_waits_again(pair: Pair, start_all: Start) -> None:
    pair.freeze()
    writes = start_all()
    waits = all_wait(pair, writes, set())
    pair.kill()
    pair.restart()
    all_wait(pair, writes, waits)
    acknowledged(pair, writes)


class Builder:
    """Builds jobs one after the other until it is told to stop, and keeps what was acknowledged."""

    def __init__(self, number: int, stop: threading.Event) -> None:
        self.name = f"write {number}"
        self.builds: list[tuple[UUID, str, Artifact]] = []
        self._stop = stop

    def work(self) -> Generator[Statement[object], object, None]:
        """Yield what is to be run, one after the other."""
        while not self._stop.is_set():
            of_submit, one = uuid7(), uuid7()
            source = yield artifact.register(str(one), sha256=sha256(str(one)), size=1)
            assert isinstance(source, Artifact)
            yield create(of_submit)
            yield start(one, of_submit, inputs=[source.uuid])
            yield job.append_log(one, seq=0, data=str(one))
            yield finish(one, str(one))
            self.builds.append((one, str(one), source))

    def in_a_thread(self, dsn: str) -> None:
        """Run it by a store that blocks."""
        with Store.connect(dsn) as store:
            work, value = self.work(), None
            with suppress(StopIteration):
                while True:
                    value = store.run(work.send(value))

    async def in_a_task(self, dsn: str) -> None:
        """Run it by a store that awaits."""
        async with await AsyncStore.connect(dsn) as store:
            work, value = self.work(), None
            with suppress(StopIteration):
                while True:
                    value = await store.run(work.send(value))


def test_nothing_acknowledged_is_missing_after_a_failover(short_directory: Path) -> None:
    pair = Pair(short_directory, {})
    stop = threading.Event()
    builders = [Builder(number, stop) for number in range(6)]
    with pair.running(), ThreadPoolExecutor(len(builders)) as threads:
        with Store.connect(pair.primary.dsn) as store:
            # Who adds these at the same time waits for another builder, not for the standby.
            of_submit = uuid7()
            store.run(create(of_submit), start(uuid7(), of_submit))
        places = [str(server.socket_directory) for server in (pair.primary, pair.standby)]
        builds: dict[str, Future[object]] = {}
        for number, builder in enumerate(builders):
            dsn = make_conninfo(
                pair.dsn(builder.name),
                host=",".join(places),
                port="5432,5432",
                target_session_attrs="read-write",
            )
            if number % 2:
                builds[builder.name] = threads.submit(builder.in_a_thread, dsn)
            else:
                builds[builder.name] = threads.submit(asyncio.run, builder.in_a_task(dsn))
        try:
            for function in ("pg_cancel_backend", "pg_terminate_backend"):
                pair.freeze()
                waits = all_wait(pair, builds, set())
                pair.signal(function, waits)
                all_wait(pair, builds, waits)
                pair.thaw()
            pair.freeze()
            waits = all_wait(pair, builds, set())
            pair.signal("pg_cancel_backend", waits)
            all_wait(pair, builds, waits)
            pair.fail_over()
        finally:
            stop.set()
            pair.thaw()
        for build in builds.values():
            build.result()
        with Store.connect(pair.standby.dsn) as store:
            for builder in builders:
                assert builder.builds
                for one, text, source in builder.builds:
                    assert store.run(job.get(one)).state == "success"
                    assert store.run(job.log(one)) == text
                    assert store.run(job.inputs(one)) == [source]
                    assert [made.path for made in store.run(job.outputs(one))] == [text]
