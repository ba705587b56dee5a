"""A job that runs in a `with` block: alive while it runs, its log recorded, ended in every case."""

import asyncio
import gc
import sys
import threading
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Any
from uuid import UUID

import psycopg
import pytest
from samples import create, sha256, start

from butido_store import AsyncStore, Statement, Store, artifact, build, job, uuid7
from butido_store.artifact import Artifact, Output
from butido_store.building import Building, RunningJob
from butido_store.errors import Conflict, InvalidInput, NotFound, NotRunning, Unavailable
from butido_store.job import Job
from butido_store.log import decode_log

pytestmark = pytest.mark.any_server

SAID: dict[str, Any] = {
    "package": "zlib",
    "version": "1.3",
    "image": "debian:12",
    "endpoint": "builder-1",
    "script": "make",
    "env": {"CC": "gcc"},
}
OFTEN = timedelta(milliseconds=5)


class Watched(Store):
    """A store that tells what was run, and may be told to fail."""

    def watch(self) -> "Watched":
        self.seen: list[str] = []
        self.came = threading.Condition()
        self.fail: Callable[[str], None] = lambda name: None
        return self

    def run(self, *statements: Statement[Any]) -> Any:
        names = " ".join(map(repr, statements))
        self.fail(f"before {names}")
        value: Any = super().run(*statements)
        self.fail(f"after {names}")
        with self.came:
            self.seen.append(names)
            self.came.notify_all()
        return value

    def wait_for(self, *names: str) -> None:
        """Wait until statements of these queries were run, in this order."""

        def came() -> bool:
            rest = iter(self.seen)
            return all(any(name in one for one in rest) for name in names)

        with self.came:
            assert self.came.wait_for(came, 60)


@pytest.fixture
def store(dsn: str, schema: str) -> Any:
    with Watched.connect(dsn, schema=schema) as opened:
        yield opened.watch()


@pytest.fixture
def of_submit(store: Watched) -> UUID:
    """The uuid of a submit that is there."""
    uuid = uuid7()
    store.run(create(uuid))
    store.seen.clear()
    return uuid


def sweep(connection: psycopg.Connection[Any], store: Store, one: UUID) -> None:
    """Mark a job as lost, as a sweep does whose patience is none."""
    while store.run(job.get(one)).state == "running":
        connection.execute(
            "UPDATE job SET heartbeat_at = '2020-01-01' WHERE uuid = %s AND state = 'running'",
            [one],
        )
        store.run(job.sweep(silent_for=timedelta(days=1)))


# How it ends ----------------------------------------------------------------------------------


HOW: dict[str, Any] = {
    "reason": "done",
    "exit_code": -15,
    "measurements": {"cpu_seconds": 0.5, "peak_memory_bytes": 2**40},
}


def test_a_job_runs_in_a_block(store: Watched, of_submit: UUID) -> None:
    one, source = uuid7(), store.run(artifact.register("src", sha256=sha256("src"), size=3))
    with build(store, one, submit=of_submit, **SAID, inputs=[source]) as running:
        found = store.run(job.get(one))
        assert (found.state, found.fingerprint) == ("running", running.fingerprint)
        running.log("configure\n")
        running.log(b"ma\xffke\n")
        outputs = [Output("a", sha256("a"), 1), Output("A", sha256("A"), 1)]
        made = running.finish("success", outputs, **HOW)
        assert running.uuid == one
    found = store.run(job.get(one))
    assert found.state == "success"
    assert {name: getattr(found, name) for name in HOW} == HOW
    assert found.finished_at is not None
    assert found.finished_at >= found.started_at
    assert store.run(job.log(one)) == "configure\nma\\xffke\n"
    assert [*made] == store.run(job.outputs(one))


def without(said: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in said.items() if key != name}


def test_a_job_tells_whether_it_was_done_before(store: Watched, of_submit: UUID) -> None:
    source = store.run(artifact.register("src", sha256=sha256("src"), size=3))
    other = store.run(artifact.register("src", sha256=sha256("other"), size=5))

    def asked(source: Artifact, **change: object) -> Building[Store]:
        # An iterator can be read once only.
        said = {**SAID, **change, "inputs": iter([source])}
        return build(store, uuid7(), submit=of_submit, **said)

    first = asked(source)
    assert store.run(first.reusable()) is None
    with first as running:
        made = running.finish("success", [Output("a", sha256("a"), 1)])
    again = store.run(asked(source, endpoint="builder-2").reusable())
    assert again == store.run(
        artifact.reusable(**without(SAID, "endpoint"), inputs=[("src", sha256("src"))])
    )
    assert again is not None
    assert (again.job_uuid, again.outputs) == (running.uuid, made)
    assert store.run(job.inputs(running.uuid)) == [source]
    for name in ("package", "version", "image", "script"):
        assert store.run(asked(source, **{name: "other"}).reusable()) is None
    assert store.run(asked(source, env={}).reusable()) is None
    assert store.run(asked(other).reusable()) is None


def test_a_job_starts_when_it_is_entered(dsn: str, schema: str, of_submit: UUID) -> None:
    """One that waited for its turn would look silent, and be swept."""

    async def main() -> None:
        async with AsyncStore.connect(dsn, schema=schema) as waiting:
            todo = build(waiting, uuid7(), submit=of_submit, **SAID)
            before = datetime.now(UTC)
            async with todo as running:
                assert (await waiting.run(job.get(running.uuid))).started_at >= before

    asyncio.run(main())
    with Store.connect(dsn, schema=schema) as store:
        todo = build(store, uuid7(), submit=of_submit, **SAID)
        before = datetime.now(UTC)
        with todo as running:
            assert store.run(job.get(running.uuid)).started_at >= before


def test_reuse_is_asked_by_content(store: Watched, of_submit: UUID) -> None:
    by_uuid = build(store, uuid7(), submit=of_submit, **SAID, inputs=[uuid7()])
    message = r"inputs\[0\] must be an artifact, or a pair of its path and SHA-256"
    with pytest.raises(InvalidInput, match=message):
        by_uuid.reusable()


def test_a_job_runs_in_a_block_that_awaits(dsn: str, schema: str, store: Watched) -> None:
    of_submit, one = uuid7(), uuid7()

    async def main() -> None:
        async with AsyncStore.pooled(dsn, schema=schema) as waiting:
            await waiting.run(create(of_submit))
            async with build(waiting, one, submit=of_submit, **SAID) as running:
                await asyncio.gather(*(running.log(f"{n}\n") for n in range(10)))
                made = await running.finish("success", [Output("a", sha256("a"), 1)], **HOW)
            assert [*made] == await waiting.run(job.outputs(one))

    asyncio.run(main())
    found = store.run(job.get(one))
    assert (found.state, {name: getattr(found, name) for name in HOW}) == ("success", HOW)
    assert store.run(job.log(one)) == "".join(f"{n}\n" for n in range(10))


ENDS = [
    (None, "error", None),
    (ValueError("the compiler is missing"), "error", "ValueError: the compiler is missing"),
    (ValueError("a\0\udcff"), "error", "ValueError: a\\x00\\xff"),
    (ValueError("x" * 2000), "error", f"ValueError: {'x' * 988}…"),
    (KeyboardInterrupt(), "lost", "interrupted"),
    (SystemExit(3), "lost", "interrupted"),
    (asyncio.CancelledError(), "lost", "cancelled"),
    (futures.CancelledError(), "lost", "cancelled"),
    (
        Unavailable("of something else"),
        "lost",
        "butido_store.errors.Unavailable: of something else",
    ),
]


@pytest.mark.parametrize(("error", "state", "reason"), ENDS)
def test_what_does_not_say_how_it_ended_is_no_success(
    error: BaseException | None,
    state: str,
    reason: str | None,
    store: Watched,
    of_submit: UUID,
) -> None:
    one = uuid7()

    def run() -> None:
        with build(store, one, submit=of_submit, **SAID) as running:
            running.log("so far")
            if error:
                raise error

    ended_by(error, run)
    found, text = store.run(job.get(one), job.log(one))
    assert (found.state, found.reason, text) == (state, reason, "so far")
    assert not any(str(one) in thread.name for thread in threading.enumerate())


@pytest.mark.parametrize(("error", "state", "reason"), ENDS)
def test_what_does_not_say_how_it_ended_is_no_success_awaited(
    error: BaseException | None,
    state: str,
    reason: str | None,
    dsn: str,
    schema: str,
    store: Watched,
    of_submit: UUID,
) -> None:
    one = uuid7()

    async def main() -> None:
        async with (
            AsyncStore.connect(dsn, schema=schema) as waiting,
            build(waiting, one, submit=of_submit, **SAID) as running,
        ):
            await running.log("so far")
            if error:
                raise error

    ended_by(error, lambda: asyncio.run(main()))
    found, text = store.run(job.get(one), job.log(one))
    assert (found.state, found.reason, text) == (state, reason, "so far")


def ended_by(error: BaseException | None, run: Callable[[], object]) -> None:
    if error is None:
        run()
        return
    with pytest.raises(type(error)) as raised:
        run()
    assert not hasattr(raised.value, "__notes__")


def test_what_happens_after_the_end_does_not_change_it(store: Watched, of_submit: UUID) -> None:
    one = uuid7()

    def run() -> None:
        with build(store, one, submit=of_submit, **SAID) as running:
            assert running.finish("success") == ()
            for late in (running.check, running.log, lambda: running.finish("error")):
                with pytest.raises(NotRunning, match="has ended"):
                    late()
            raise KeyboardInterrupt

    ended_by(KeyboardInterrupt(), run)
    assert store.run(job.get(one)).state == "success"


def test_a_task_that_is_cancelled_has_lost_its_job(
    dsn: str, schema: str, store: Watched, of_submit: UUID
) -> None:
    one = uuid7()

    async def main() -> None:
        async with AsyncStore.connect(dsn, schema=schema) as waiting:
            begun = asyncio.Event()

            async def work() -> None:
                async with build(waiting, one, submit=of_submit, **SAID) as running:
                    await running.log("so far")
                    begun.set()
                    await asyncio.Event().wait()

            task = asyncio.create_task(work())
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            # The store works.
            assert (await waiting.run(job.get(one))).state == "lost"

    asyncio.run(main())
    assert store.run(job.log(one)) == "so far"


# How it starts --------------------------------------------------------------------------------


def test_what_cannot_start_leaves_others_alone(store: Watched, of_submit: UUID) -> None:
    one = uuid7()
    store.run(start(one, of_submit))
    with pytest.raises(Conflict), build(store, one, submit=of_submit, **SAID):
        pass
    assert store.run(job.get(one)).state == "running"
    with pytest.raises(NotFound), build(store, uuid7(), submit=of_submit, **SAID, inputs=[one]):
        pass
    with pytest.raises(InvalidInput, match="script"):
        build(store, uuid7(), submit=of_submit, **{**SAID, "script": "\0"})
    with pytest.raises(InvalidInput, match="heartbeat"):
        build(store, uuid7(), submit=of_submit, **SAID, heartbeat=timedelta(0))


def test_the_wrong_kind_of_block_is_refused(dsn: str, schema: str, store: Watched) -> None:
    async def main() -> None:
        async with AsyncStore.connect(dsn, schema=schema) as waiting:
            with pytest.raises(TypeError, match="AsyncStore takes `async with`"):
                build(waiting, uuid7(), submit=uuid7(), **SAID).__enter__()  # type: ignore[misc]
            with pytest.raises(TypeError, match="Watched takes `with`"):
                await build(store, uuid7(), submit=uuid7(), **SAID).__aenter__()  # type: ignore[misc]

    asyncio.run(main())


# What goes on in the background ---------------------------------------------------------------


def test_it_gives_signs_of_life_and_writes_the_log(store: Watched, of_submit: UUID) -> None:
    one = uuid7()
    with build(store, one, submit=of_submit, **SAID, heartbeat=OFTEN) as running:
        store.wait_for("job/insert>", "job/heartbeat>", "job/heartbeat>")
        running.log("little")
        # Nobody asks for it: a second later it is there.
        store.wait_for("job/insert_chunk>")
        assert store.run(job.log(one)) == "little"
        running.log("x" * 70_000)
        assert len(store.run(job.log(one))) == 70_006


def test_it_gives_signs_of_life_while_it_awaits(
    dsn: str, schema: str, connection: psycopg.Connection[Any], of_submit: UUID
) -> None:
    one = uuid7()

    async def main() -> None:
        async with AsyncStore.connect(dsn, schema=schema) as waiting:

            async def until(what: Callable[[Job, str], bool]) -> None:
                while not what(*await waiting.run(job.get(one), job.log(one))):
                    await asyncio.sleep(0.01)

            async with build(waiting, one, submit=of_submit, **SAID, heartbeat=OFTEN) as running:
                connection.execute("UPDATE job SET heartbeat_at = '2020-01-01'")
                await until(lambda found, log: found.heartbeat_at.year > 2020)
                await running.log("little")
                await until(lambda found, log: log == "little")

    asyncio.run(asyncio.wait_for(main(), 60))


def test_threads_share_it(store: Watched, of_submit: UUID) -> None:
    one = uuid7()
    with (
        build(store, one, submit=of_submit, **SAID, heartbeat=OFTEN) as running,
        ThreadPoolExecutor(4) as pool,
    ):
        lines = [f"{n}".rjust(999) + "\n" for n in range(400)]
        list(pool.map(running.log, lines))
        pool.submit(running.finish, "success").result()
    assert store.run(job.get(one)).state == "success"
    assert sorted(store.run(job.log(one)).splitlines(keepends=True)) == lines


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_log_survives_that_the_database_is_away(
    when: str, store: Watched, of_submit: UUID
) -> None:
    """Whether what was lost was the write or its answer."""
    one, failures = uuid7(), iter(range(8))

    def fail(name: str) -> None:
        written = "job/insert_chunk" in name or "job/end" in name
        if written and name.startswith(when) and next(failures, None) is not None:
            raise Unavailable("the cable was pulled")

    def until_done(call: Callable[[], object]) -> None:
        while True:
            try:
                call()
            except Unavailable:
                continue
            return

    with build(store, one, submit=of_submit, **SAID, heartbeat=OFTEN) as running:
        store.fail = fail
        for letter in "abc":
            # What was not written stays, and is written with what comes next.
            with pytest.raises(Unavailable):
                running.log(letter * 70_000)
        store.wait_for("job/insert_chunk>")
        failures = iter(range(2))
        running.log("end")
        until_done(lambda: running.finish("success", [Output("a", sha256("a"), 1)]))
    store.fail = lambda name: None
    assert store.run(job.get(one)).state == "success"
    assert store.run(job.log(one)) == "".join(letter * 70_000 for letter in "abc") + "end"
    assert [made.path for made in store.run(job.outputs(one))] == ["a"]


def test_what_cannot_be_ended_is_noted(store: Watched, of_submit: UUID) -> None:
    def fail(name: str) -> None:
        if "job/end" in name:
            raise Unavailable("the cable was pulled")

    store.fail = fail
    with (
        pytest.raises(KeyboardInterrupt) as raised,
        build(store, uuid7(), submit=of_submit, **SAID),
    ):
        raise KeyboardInterrupt
    assert "could not be ended as lost: the cable was pulled" in raised.value.__notes__[0]
    with (
        pytest.raises(Unavailable, match="the cable"),
        build(store, uuid7(), submit=of_submit, **SAID),
    ):
        pass


def until_told(running: RunningJob) -> None:
    """Ask whether the job was swept, until it is known."""
    while True:
        try:
            running.check()
        except NotRunning:
            return


# A sweep --------------------------------------------------------------------------------------


def test_who_was_swept_is_told(
    store: Watched, of_submit: UUID, connection: psycopg.Connection[Any]
) -> None:
    one = uuid7()
    with build(store, one, submit=of_submit, **SAID, heartbeat=OFTEN) as running:
        running.check()
        sweep(connection, store, one)
        until_told(running)
        for call in (running.log, lambda: running.finish("success")):
            with pytest.raises(NotRunning, match="its state is lost"):
                call()
    # It knows: it is not told again.
    assert store.run(job.get(one)).state == "lost"


@pytest.mark.parametrize("heartbeat", [OFTEN, timedelta(hours=1)])
def test_who_was_swept_and_does_not_look_is_told_at_the_end(
    heartbeat: timedelta, store: Watched, of_submit: UUID, connection: psycopg.Connection[Any]
) -> None:
    def run(then: Callable[[RunningJob], object]) -> None:
        one = uuid7()
        with build(store, one, submit=of_submit, **SAID, heartbeat=heartbeat) as running:
            sweep(connection, store, one)
            then(running)

    def fail(_: RunningJob) -> None:
        raise ValueError("mine")

    def know(running: RunningJob) -> None:
        with pytest.raises(NotRunning, match="its state is lost"):
            running.finish("success")

    for then in (lambda _: None, lambda running: running.finish("success")):
        with pytest.raises(NotRunning, match="its state is lost") as told:
            run(then)
        assert not hasattr(told.value, "__notes__")
    # Who knows is not told again.
    run(know)
    with pytest.raises(ValueError, match="mine") as raised:
        run(fail)
    assert "its state is lost" in "\n".join(raised.value.__notes__)


def test_who_was_swept_is_cancelled(
    dsn: str, schema: str, store: Watched, of_submit: UUID, connection: psycopg.Connection[Any]
) -> None:
    one = uuid7()

    async def main() -> None:
        async with AsyncStore.connect(dsn, schema=schema) as waiting:

            async def work() -> None:
                async with build(waiting, one, submit=of_submit, **SAID, heartbeat=OFTEN):
                    await asyncio.to_thread(sweep, connection, store, one)
                    await asyncio.Event().wait()

            with pytest.raises(NotRunning, match="its state is lost"):
                await work()
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0
            assert (await waiting.run(job.get(one))).state == "lost"

    asyncio.run(asyncio.wait_for(main(), 60))


# Interruptions --------------------------------------------------------------------------------

_TRACED = {str(Path(sys.modules[name].__file__ or "")) for name in (
    "butido_store.building", "butido_store.log"
)}  # fmt: skip


class Interruption:
    """Raises KeyboardInterrupt before one of the lines of the library's that this thread runs."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.lines = 0
        self.functions: list[str] = []

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in _TRACED:
            return None
        if event == "line":
            self.lines += 1
            if self.lines == self.at:
                outer: FrameType | None = frame
                while outer is not None:
                    self.functions.append(outer.f_code.co_name)
                    outer = outer.f_back
                raise KeyboardInterrupt
        return self


@pytest.mark.parametrize("finishes", [True, False])
def test_an_interruption_anywhere_leaves_a_job_that_has_ended(
    finishes: bool, store: Watched, of_submit: UUID
) -> None:
    before = threading.active_count()
    # Each piece leaves a beginning of a character in the buffer.
    log = [b"a" * 66_000 + b"\xc3", b"\xa9" + b"b" * 66_000 + b"\xc3", b"\xa9end"]
    at, interrupted = 0, 0
    while True:
        at += 1
        one, interruption = uuid7(), Interruption(at)
        store.seen.clear()
        try:
            sys.settrace(interruption)
            try:
                with build(store, one, submit=of_submit, **SAID) as running:
                    for text in log:
                        running.log(text)
                    if finishes:
                        running.finish("success")
            finally:
                sys.settrace(None)
        except KeyboardInterrupt:
            interrupted += 1
        else:
            break
        try:
            state, text = store.run(job.get(one)).state, store.run(job.log(one))
        except NotFound:
            assert not any("job/insert>" in names for names in store.seen)
            continue
        assert b"".join(log).startswith(decode_log(text))
        if state == "running":
            # It was left: what ends it has itself been interrupted.
            assert {"_end", "__exit__", "_begin"} & {*interruption.functions}
        assert state in ("running", "lost", "success" if finishes else "error")
    assert interrupted > 50
    assert store.run(job.get(one)).state == ("success" if finishes else "error")
    running = None  # type: ignore[assignment]
    gc.collect()
    # Whatever was left running gives no sign of life any more.
    for thread in threading.enumerate():
        if thread.name.startswith("job "):
            thread.join(60)
    assert threading.active_count() == before


def test_a_cancellation_anywhere_leaves_a_job_that_has_ended(
    dsn: str, schema: str, store: Watched, of_submit: UUID
) -> None:
    log = [b"a" * 66_000 + b"\xc3", b"\xa9" + b"b" * 66_000 + b"\xc3", b"\xa9end"]
    left = set[UUID]()
    cancelled = dict[UUID, bool]()

    async def work(waiting: AsyncStore, one: UUID) -> None:
        async with build(waiting, one, submit=of_submit, **SAID) as running:
            try:
                for data in log:
                    await running.log(data)
                await running.finish("success")
            finally:
                left.add(one)

    async def main() -> None:
        async with AsyncStore.pooled(dsn, schema=schema) as waiting:
            steps = 0
            while True:
                one = uuid7()
                task = asyncio.create_task(work(waiting, one))
                for _ in range(steps):
                    await asyncio.sleep(0)
                # What waits for the database is asked again and again meanwhile.
                steps = steps * 5 // 4 + 1
                in_block = one not in left
                if not task.cancel():
                    break
                await asyncio.wait([task])
                cancelled[one] = in_block

    asyncio.run(main())
    assert len(cancelled) > 10
    for one, in_block in cancelled.items():
        try:
            state, text = store.run(job.get(one)).state, store.run(job.log(one))
        except NotFound:
            assert one not in left
            continue
        assert b"".join(log).startswith(decode_log(text))
        assert state in ("lost", "success") if in_block else ("running", "lost", "success")


def test_an_interrupted_start_is_ended(store: Watched, of_submit: UUID) -> None:
    def fail(name: str) -> None:
        if name.startswith("after <Statement job/insert"):
            raise KeyboardInterrupt

    one = uuid7()
    store.fail = fail
    with pytest.raises(KeyboardInterrupt), build(store, one, submit=of_submit, **SAID):
        pass
    assert store.run(job.get(one)).state == "lost"


def test_a_cancelled_start_is_ended(dsn: str, schema: str, store: Watched, of_submit: UUID) -> None:
    class Cancelled(AsyncStore):
        async def run(self, *statements: Statement[Any]) -> Any:
            value: Any = await super().run(*statements)
            if "job/insert" in repr(statements):
                raise asyncio.CancelledError
            return value

    one = uuid7()

    async def main() -> None:
        async with (
            Cancelled.connect(dsn, schema=schema) as waiting,
            build(waiting, one, submit=of_submit, **SAID),
        ):
            pass

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert store.run(job.get(one)).state == "lost"
