"""A client: a store that does acts, and notes in its journal what it was told.

A program of its own in the rounds, so that it can be killed: `python -m chaos.client` reads what it
is to do from its argument, and stops at SIGTERM.
"""

import asyncio
import json
import random
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, TypeVar, cast

import psycopg

from butido_store import AsyncStore, Store, job, open_schema, report
from butido_store.errors import Canceled, ConnectionFailed, StoreError, Unavailable
from chaos import guards
from chaos.journal import UNKNOWN, Journal, Outcome, read
from chaos.writing import Act, Thinker, Told, statements, told

A = TypeVar("A")
# What bounds a caller's own wait for a host that is gone; a store sees to its own.
_TIMEOUTS: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 20000,
}
# Longer than any store tries again: what takes longer hangs.
PATIENCE = 60.0
Loop = asyncio.AbstractEventLoop | None


class Doer:
    """Does acts one after the other by a store, of either face."""

    def __init__(
        self,
        store: Store | AsyncStore,
        loop: Loop,
        dsn: str,
        schema: str,
        journal: Journal,
        patience: float = PATIENCE,
    ) -> None:
        """Use a store.

        :param loop: what runs in another thread, where the store is awaited
        :param dsn: what it is connected to, for what is done on a connection of the caller's
        :param patience: seconds after which what is done within a stream counts as hanging
        """
        self._store = store
        self._dsn = dsn
        self._schema = schema
        self._journal = journal
        self._patience = patience
        self._loop = loop

    def do(self, act: Act) -> tuple[bool, Told]:
        """Do an act, whichever way it wants to be done; not on the event loop's own thread.

        :returns: whether its outcome is known, and what was told, None where it was refused
        """
        if act["do"] == "both":
            with ThreadPoolExecutor() as threads:
                return all(known for known, _ in threads.map(self.do, act["acts"])), None
        since = self._journal.begin(act)
        way = {"callers": self._in_a_transaction, "stream": self._in_a_stream}.get(
            act.get("in", "")
        )
        try:
            value = told((way or self._run)(act))
        except (StoreError, psycopg.Error, TimeoutError) as error:
            kind = type(error).__name__
            if isinstance(error, psycopg.OperationalError) or (
                isinstance(error, psycopg.Error) and error.sqlstate is None
            ):
                # Of the link, as psycopg has it, and not of what was asked.
                kind = "OperationalError"
            self._journal.end(act, since, kind=kind, error=str(error))
            return kind not in UNKNOWN, None
        self._journal.end(act, since, told=value)
        return True, value

    def _wait(self, answer: Awaitable[A] | A) -> A:
        """Return what a store of either face gives."""
        if self._loop is None:
            return cast(A, answer)

        async def answered() -> A:
            return await cast(Awaitable[A], answer)

        return asyncio.run_coroutine_threadsafe(answered(), self._loop).result()

    def _run(self, act: Act) -> object:
        return self._wait(self._store.run(*statements(act)))

    def _in_a_transaction(self, act: Act) -> object:
        """Do it in a transaction of the caller's, which goes on and is committed in any case."""
        with psycopg.connect(self._dsn, **_TIMEOUTS) as connection:
            open_schema(connection, self._schema)
            return self._refused_or(lambda: Store(connection).run(*statements(act)), connection)

    @staticmethod
    def _refused_or(run: Callable[[], object], connection: psycopg.Connection[Any]) -> object:
        try:
            return run()
        except StoreError:
            if not connection.closed:
                connection.commit()
            raise

    def _in_a_stream(self, act: Act) -> object:
        """Do it while a stream of the same store is not read on, and leave that at once."""
        # Not as a context manager, which would wait for what hangs.
        thread: list[object] = []
        failed: list[BaseException] = []

        def run() -> None:
            try:
                thread.append(self._run(act))
            except BaseException as error:
                failed.append(error)

        with self._streaming():
            running = threading.Thread(target=run, daemon=True)
            running.start()
            running.join(self._patience)
            hangs = running.is_alive()
        running.join()
        if hangs:
            raise TimeoutError("a run hangs beside a stream")
        if failed:
            raise failed[0]
        return thread[0]

    @contextmanager
    def _streaming(self) -> Iterator[None]:
        """Have read the first row of a stream; one that fails is none of the matter."""
        rows = self._store.stream(report.jobs(limit=3))
        if isinstance(self._store, Store):
            with closing(cast(Any, rows)):
                with suppress(StoreError, StopIteration):
                    next(cast(Any, rows))
                yield
            return
        with suppress(StoreError, StopAsyncIteration):
            self._wait(cast(Any, rows).__anext__())
        yield
        with suppress(StoreError):
            self._wait(cast(Any, rows).aclose())


def work(
    doer: Doer, thinker: Thinker, before: list[Outcome], stop: threading.Event, pause: float = 0.0
) -> None:
    """Do what a builder thinks of until it is told to stop; first what the one before did not end.

    What became of an act that failed is unknown: it is done again, as a builder would. Others are
    now and then, too, and have to give the same.
    """

    def done(act: Act) -> Told:
        known, value = False, None
        while not known and not stop.is_set():
            known, value = doer.do(act)
            stop.wait(pause)
        if act["do"] not in ("both", "heartbeat") and thinker.random.random() < 0.1:
            doer.do(act)
        return value

    for outcome in before:
        if not outcome.acknowledged and not outcome.refused:
            done(outcome.act)
    builds, value = thinker.builds(), None
    while not stop.is_set():
        value = done(builds.send(value))


@contextmanager
def opened(
    face: str, dsn: str, schema: str, *, many: bool = False
) -> Iterator[tuple[Store | AsyncStore, Loop]]:
    """Open a store of this face, on one connection or on a pool, with the loop that awaits it."""
    kind: Any = Store if face == "sync" else AsyncStore
    open_ = kind.pooled if many else kind.connect
    if face == "sync":
        with open_(dsn, schema=schema) as store:
            yield store, None
        return
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def wait(answer: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(answer, loop).result()

    try:
        store = wait(open_(dsn, schema=schema))
        try:
            yield store, loop
        finally:
            wait(store.close())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def main(given: dict[str, Any]) -> None:
    """Work until SIGTERM."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    journal = Journal(Path(given["journal"]))
    before = read(map(Path, given["before"]))
    with ExitStack() as stack:
        if given["mutant"]:
            stack.enter_context(guards.MUTANTS[given["mutant"]]())
        if given["skewed"]:
            stack.enter_context(skewed_clock())
        while not stop.is_set():
            # The server may be away, or go away while it is asked what it has.
            many = given["threads"] > 1
            with (
                suppress(ConnectionFailed, Unavailable, Canceled),
                opened(given["face"], given["dsn"], given["schema"], many=many) as (store, loop),
            ):
                _work(given, store, loop, journal, before, stop)


def _work(
    given: dict[str, Any],
    store: Store | AsyncStore,
    loop: Loop,
    journal: Journal,
    before: list[Outcome],
    stop: threading.Event,
) -> None:
    doer = Doer(store, loop, given["dsn"], given["schema"], journal)
    with ThreadPoolExecutor(given["threads"]) as threads:
        working = [
            threads.submit(
                work,
                doer,
                Thinker(f"{given['seed']}-{number}", skewed=given["skewed"]),
                [] if number else before,
                stop,
                given["pause"],
            )
            for number in range(given["threads"])
        ]
        for each in working:
            each.result()


@contextmanager
def skewed_clock() -> Iterator[None]:
    """Have the clock that the library reads jump about, by days and by hours."""
    choose = random.Random(0)

    class Skewed(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            jump = choose.choice((0, 0, 0, -86400, -60, 60, 86400))
            return datetime.now(tz) + timedelta(seconds=jump)

    before = vars(job)["datetime"]
    vars(job)["datetime"] = Skewed
    try:
        yield
    finally:
        vars(job)["datetime"] = before


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
