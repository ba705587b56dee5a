"""Writes jobs while exceptions come at random moments, and looks at what is there after each.

A process of its own, since the exceptions come out of signal handlers. What was acknowledged has
to be there, what is there has to be whole, and the store has to go on.
"""

import asyncio
import contextlib
import random
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType
from typing import Any
from uuid import UUID

from samples import create, ended, finish, later, sha256, start

from butido_store import AsyncStore, Statement, Store, artifact, job, uuid7
from butido_store.artifact import Output
from butido_store.errors import NotFound

SUBMIT, SOURCE = uuid7(), uuid7()


class Interruption(Exception):
    """What a signal handler of the caller's raises: a time limit, for instance."""


def interrupt(_: int, __: FrameType | None) -> None:
    """Raise what Ctrl-C raises, or another exception."""
    raise random.choice((KeyboardInterrupt, Interruption))


def before() -> list[Statement[Any]]:
    """Return what the jobs need."""
    return [create(SUBMIT), artifact.register("src/a", sha256=sha256("a"), size=1, uuid=SOURCE)]


def some_writes(uuid: UUID) -> list[Statement[Any]]:
    """Return one or several writes, in one way or another, that record a job with two outputs."""
    outputs = [Output(path, sha256(path), 1) for path in ("a", "b")]
    match random.randrange(3):
        case 0:
            whole = ended(uuid, SUBMIT, inputs=[SOURCE], outputs=outputs)
            return [job.record(whole)]
        case 1:
            whole = ended(uuid, SUBMIT, inputs=[SOURCE], outputs=outputs)
            return [job.record_all([whole, ended(uuid7(), SUBMIT)])]
        case _:
            return [
                start(uuid, SUBMIT, inputs=[SOURCE]),
                job.append_log(uuid, seq=0, data="done\n"),
                finish(uuid, "a", "b", finished_at=later(9)),
            ]


def reads(uuid: UUID) -> tuple[Statement[Any], ...]:
    """Return what asks for all of the job."""
    return job.get(uuid), job.outputs(uuid), job.inputs(uuid), job.log(uuid)


def check(found: Sequence[Any]) -> None:
    """Hold what is there against what was to be written."""
    one, outputs, inputs, log = found
    whole = (one.state, len(outputs), len(inputs), log) == ("success", 2, 1, "done\n")
    assert whole, f"half-written: {found}"


def blocking(dsn: str, schema: str, rounds: int) -> int:
    """Interrupt a store as often; return how many of its writes were."""
    interrupted = 0
    with Store.connect(dsn, schema=schema) as store:
        store.run(*before())
        started = time.perf_counter()
        for _ in range(10):
            store.run(*some_writes(uuid7()))
        span = (time.perf_counter() - started) / 8
        signal.signal(signal.SIGALRM, interrupt)
        for _ in range(rounds):
            uuid, acknowledged = uuid7(), False
            with contextlib.suppress(KeyboardInterrupt, Interruption):
                try:
                    signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, span))
                    store.run(*some_writes(uuid))
                    acknowledged = True
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            interrupted += not acknowledged
            try:
                check(store.run(*reads(uuid)))
            except NotFound:
                assert not acknowledged, "lost"
    return interrupted


async def awaiting(dsn: str, schema: str, rounds: int) -> int:
    """Cancel tasks of a store as often; return how many were."""
    interrupted = 0
    loop = asyncio.get_running_loop()
    async with await AsyncStore.connect(dsn, schema=schema) as store:
        await store.run(*before())
        started = time.perf_counter()
        for _ in range(10):
            await store.run(*some_writes(uuid7()))
        span = (time.perf_counter() - started) / 8
        for _ in range(rounds):
            uuid, acknowledged = uuid7(), False
            task = asyncio.ensure_future(store.run(*some_writes(uuid)))
            loop.call_later(random.uniform(0, span), task.cancel)
            with contextlib.suppress(asyncio.CancelledError):
                await task
                acknowledged = True
            interrupted += not acknowledged
            try:
                check(await store.run(*reads(uuid)))
            except NotFound:
                assert not acknowledged, "lost"
    return interrupted


if __name__ == "__main__":
    kind, its_dsn, its_schema, its_rounds = sys.argv[1:]
    random.seed()
    if kind == "sync":
        count = blocking(its_dsn, its_schema, int(its_rounds))
    else:
        count = asyncio.run(awaiting(its_dsn, its_schema, int(its_rounds)))
    sys.stdout.write(f"{count}\n")
