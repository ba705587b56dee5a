"""A job while a builder runs it: started, kept alive, its log recorded, and ended whatever happens.

Written once, in coroutines, as `_connection` explains: `RunningJob` is their blocking face and
`AsyncRunningJob` the awaiting one.
"""

import asyncio
import threading
import time
import traceback
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from concurrent import futures
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from math import inf
from types import TracebackType
from typing import Any, ClassVar, Generic, cast
from uuid import UUID

from butido_store import _check, artifact, job
from butido_store._connection import AWAITING, BLOCKING, Way, at_once, within
from butido_store._pipeline import done
from butido_store._statement import Statement
from butido_store.artifact import Artifact, Output, Reuse
from butido_store.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    NotRunning,
    StoreError,
    Unavailable,
)
from butido_store.job import EndState, Number, Started, Underway
from butido_store.log import LogBuffer
from butido_store.store import AnyStore, AsyncStore, Store, any_store, of_kind

__all__ = ["HEARTBEAT", "AsyncRunningJob", "Building", "RunningJob", "build"]

HEARTBEAT = timedelta(seconds=10)
# How late a piece of the log or a sign of life may be, in seconds.
_TICK = 0.25
# How much of an exception a reason has, in characters.
_REASON_LENGTH = 1000
# Between two looks at a job that is awaited, in seconds: at first, and at most.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0
# With these the store says that the job takes nothing more. Others may pass.
_FINAL = (NotRunning, NotFound, Conflict)


def build(
    store: AnyStore,
    uuid: UUID,
    *,
    submit: UUID,
    package: str,
    version: str,
    image: str,
    image_sha256: bytes | None = None,
    endpoint: str,
    script: str,
    env: Mapping[str, str],
    inputs: Iterable[UUID | Artifact] = (),
    container_hash: str | None = None,
    heartbeat: timedelta = HEARTBEAT,
    once: timedelta | None = None,
    besides: Iterable[UUID] = (),
    wait: float | None = None,
) -> "Building[AnyStore]":
    """Run a job in a `with` block: recorded from before it starts until it has ended.

    With an `AsyncStore` it is `async with`, and `log` and `finish` are awaited::

        with build(store, uuid7(), submit=…, package=…, …) as running:
            code = run_in_container(script, follow=running.log)
            if code == 0:
                made = running.finish("success", [Output.from_file("out/a.tar", "a.tar")])

    `Building.reusable` of what this returns asks first whether the job is worth starting.

    The block runs the job by whatever means, and may give `running` to other threads or tasks. In
    the background the log is written each second and a sign of life given. How the job ends:

    - as `finish` says; only so is it a success;
    - as `error` where the block ends without that, or by an exception, of which the first 1,000
      characters are then the reason;
    - as `lost` where the block is interrupted (`KeyboardInterrupt`, `SystemExit`, a cancellation;
      the reason is `interrupted` or `cancelled`), or by an error of the store, since then nobody
      knows how the job would have ended;
    - not at all where the process is killed outright: a sweep finds the silent job.

    With `once` no two builders do the same at once, as `job.once` has it. Where another one does,
    the block is entered when that has ended, or when it has been silent for so long that this one
    takes its place. If there is a result then, or was before, `reuse` has it, nothing was started,
    and the block has only to look::

        with build(store, uuid7(), submit=…, …, once=6 * HEARTBEAT) as running:
            if running.reuse is None:
                …

    If a sweep has marked the job as lost meanwhile, since it gave no sign of life for too long,
    stop: another builder may have it. `NotRunning` says so: in a `with` block the next `log`,
    `check` or `finish` raises it; an `async with` block is cancelled, and raises it.

    :param store: not one in a transaction of the caller's, which would hide the job until its end
    :param uuid: the job's uuid, `uuid7()` for instance
    :param submit: uuid of the submit that it is part of
    :param package: name of the package that it builds
    :param version: its version
    :param image: name of the image
    :param image_sha256: the digest that the name means, 32 bytes, where that is known; then the job
        is another build than one with another digest, or with none
    :param endpoint: name of the build host
    :param script: the script that runs in the container
    :param env: its whole environment: the package's own and the submit's additional one
    :param inputs: the artifacts that are copied into the container, or their uuids
    :param container_hash: the container's id, where it is known already
    :param heartbeat: how often it gives a sign of life; sweeps have to wait several times as long
    :param once: after how long without a sign of life another builder's job counts as lost, several
        times the heartbeat; without it the job starts whatever others do
    :param besides: with `once`, successful jobs whose results are of no use: their files are gone
    :param wait: with `once`, for how many seconds to wait for other builders at most; None for as
        long as they take
    :returns: what starts the job when it is entered
    :raises InvalidInput: at once, when a value cannot be stored
    :raises NotFound: when entered, if the submit or an input is not in the store
    :raises Conflict: when entered, if the uuid is there with other content
    :raises Unavailable: when entered, if another builder is not done within `wait`
    """
    _check.span("heartbeat", heartbeat)
    _check.given(_check.span, "once", once)
    inputs = list(_check.each("inputs", inputs))
    start: Callable[..., Statement[Any]] = partial(
        job.start,
        uuid,
        submit=submit,
        package=package,
        version=version,
        image=image,
        image_sha256=image_sha256,
        endpoint=endpoint,
        script=script,
        env=env,
        inputs=inputs,
        container_hash=container_hash,
    )
    if once is not None:
        start = partial(_once, start, silent_for=once, besides=_check.uuids("besides", besides))
    elif wait is not None or _check.uuids("besides", besides):
        raise InvalidInput("besides and wait are of use only with once")
    # What cannot be stored is refused now, though the job starts when it is entered.
    start(started_at=datetime.now(UTC))
    if once is not None and once <= heartbeat:
        raise InvalidInput(
            f"once is {once}: a builder that is alive says so each {heartbeat} (heartbeat), and "
            "would be taken for lost; give it several times as long"
        )
    reusable = partial(
        artifact.reusable,
        package=package,
        version=version,
        image=image,
        image_sha256=image_sha256,
        script=script,
        env=env,
        # A uuid among them is refused when it is asked.
        inputs=cast(list[Artifact], inputs),
    )
    at_most = _check.given(_check.seconds, "wait", wait)
    pause = _LONGEST_PAUSE if once is None else min(_LONGEST_PAUSE, once.total_seconds() / 4)
    waits = inf if at_most is None else at_most, pause
    return Building(any_store(store), uuid, start, reusable, heartbeat.total_seconds(), waits)


def _once(
    start: Callable[..., Statement[bytes | None]],
    *,
    started_at: datetime,
    silent_for: timedelta,
    besides: Iterable[UUID],
) -> Statement[Started | Reuse | Underway]:
    return job.once(start(started_at=started_at), silent_for=silent_for, besides=besides)


class _Running:
    """What both kinds of a running job do."""

    _way: ClassVar[Way]

    def __init__(self, store: object, uuid: UUID, heartbeat: float) -> None:
        self.uuid = uuid
        self.fingerprint: bytes | None = None
        self.reuse: Reuse | None = None
        self._store: Any = store
        self._heartbeat = heartbeat
        self._tick = min(_TICK, heartbeat)
        self._lock: Any = self._way.lock()
        self._buffer = LogBuffer(uuid)
        # Cut from the log, and not known to be in the store.
        self._pieces: list[Statement[None]] = []
        self._alive = time.monotonic()
        self._finished_at: datetime | None = None
        self._ended = False
        # For another builder, so that nothing has been started.
        self._waiting = False
        # Why the job takes nothing more, and whether the builder knows.
        self._failure: Exception | None = None
        self._known = False

    def check(self) -> None:
        """Do nothing while the job runs.

        :raises NotRunning: it has ended, for instance since a sweep marked it as lost
        """
        if self._failure:
            self._known = True
            raise self._failure
        if self.reuse:
            raise NotRunning(
                f"job {self.uuid} was not started: job {self.reuse.job_uuid} has done the same"
            )
        if self._ended:
            raise NotRunning(f"job {self.uuid} has ended")

    async def _start(self, building: "Building[Any]") -> None:
        """Start the job, or find that another has done the same, once that has ended."""
        seconds, longest = building._waits
        deadline, pause = time.monotonic() + seconds, _FIRST_PAUSE
        while isinstance(found := await done(self._store.run(building._starting())), Underway):
            # Nothing has been started.
            building._started_at = None
            left = deadline - time.monotonic()
            if left <= 0:
                raise Unavailable(
                    f"job {found.job_uuid} on {found.endpoint} has been doing the same since "
                    f"{found.started_at}, and is not done; try again later"
                )
            self._waiting = True
            await done(self._way.sleep(min(pause, left)))
            self._waiting = False
            pause = min(pause * 1.5, longest)
        if isinstance(found, Reuse):
            self.reuse = found
        else:
            self.fingerprint = found.fingerprint if isinstance(found, Started) else found
        self._alive = time.monotonic()

    async def _record(self, *more: Statement[Any]) -> Any:
        """Write what was cut from the log and what comes after it, all or none."""
        statements = (*self._pieces, *more)
        # Where this is cut off, or fails, they stay: a repeated piece is no error.
        values = await done(self._store.run(*statements))
        self._pieces.clear()
        self._alive = time.monotonic()
        return values if len(statements) == 1 else values[-1]

    def _take(self, piece: Statement[None] | None) -> None:
        if piece:
            self._pieces.append(piece)

    @asynccontextmanager
    async def _turn(self) -> AsyncGenerator[None, None]:
        """Let the builder write, while nobody else does and the job takes it."""
        async with within(self._lock):
            self.check()
            try:
                yield
            except (NotRunning, NotFound) as error:
                self._failure, self._known = error, True
                raise

    async def _log(self, data: bytes | str) -> None:
        async with self._turn():
            self._take(self._buffer.add(data))
            if self._pieces:
                await self._record()

    async def _finish(
        self,
        state: EndState,
        outputs: Iterable[Output] = (),
        reason: str | None = None,
        exit_code: int | None = None,
        measurements: Mapping[str, Number] | None = None,
    ) -> tuple[Artifact, ...]:
        async with self._turn():
            # The same when it is tried again, so that it can be found to be the same.
            finished_at = self._finished_at or datetime.now(UTC)
            end = job.finish(
                self.uuid,
                state=state,
                finished_at=finished_at,
                outputs=outputs,
                reason=reason,
                exit_code=exit_code,
                measurements=measurements,
            )
            self._finished_at = finished_at
            self._take(self._buffer.flush())
            made = await self._record(end)
            self._ended = True
            return cast(tuple[Artifact, ...], made)

    async def _leave(self, error: BaseException | None) -> None:
        """End the job if it has not ended, and say what else there is to say.

        :param error: what the block was left by
        """
        if self.reuse:
            return
        # A gap in the log, which the job can end with, may have been found between two pieces.
        if not self._ended and not isinstance(self._failure, NotRunning | NotFound):
            state = _state(error)
            try:
                await self._give_up(state, _reason(error))
            except Exception as failed:
                if error is None:
                    raise
                error.add_note(f"job {self.uuid} could not be ended as {state}: {failed}")
        if self._failure and not self._known:
            if error is None:
                raise self._failure
            error.add_note(str(self._failure))

    async def _give_up(self, state: EndState, reason: str | None) -> None:
        try:
            await self._finish(state, reason=reason)
        except Conflict:
            # An interruption took a piece out of the log, between being cut and being kept.
            self._pieces.clear()
            await self._finish(state, reason=reason)

    async def _beat(self) -> bool:
        """Write the log that is due, or else a sign of life that is; tell whether to go on."""
        # Whoever holds the lock is writing, which is a sign of life, too.
        if not await done(self._acquired()):
            return True
        try:
            if self._ended or self._failure:
                return False
            self._take(self._buffer.add())
            if self._pieces:
                await self._record()
            elif time.monotonic() - self._alive >= self._heartbeat:
                await self._record(job.heartbeat(self.uuid))
        except Exception as error:
            if isinstance(error, StoreError) and not isinstance(error, _FINAL):
                return True
            self._failure = error
        finally:
            self._lock.release()
        if self._failure:
            self._interrupt()
        return not self._failure

    def _acquired(self) -> Awaitable[bool] | bool:
        """Take the lock if nobody has it."""
        raise NotImplementedError

    def _interrupt(self) -> None:
        """Tell the builder that the job takes nothing more."""


def _state(error: BaseException | None) -> EndState:
    """Return how a job ends whose block was left without saying so."""
    if error is None:
        return "error"
    unknown = isinstance(error, StoreError | futures.CancelledError)
    return "lost" if unknown or not isinstance(error, Exception) else "error"


def _reason(error: BaseException | None) -> str | None:
    """Return why a job ends whose block was left by that."""
    if error is None:
        return None
    if isinstance(error, asyncio.CancelledError | futures.CancelledError):
        return "cancelled"
    if not isinstance(error, Exception):
        return "interrupted"
    said = _check.storable("".join(traceback.format_exception_only(error)).strip())
    # An exception may hold all that a program printed.
    return said if len(said) <= _REASON_LENGTH else f"{said[:_REASON_LENGTH]}…"


async def _beats(
    running: "weakref.ref[_Running]", stopped: Callable[[], Awaitable[bool] | bool]
) -> None:
    """Give signs of life of a job until it is stopped, or nobody runs it any more."""
    while not await done(stopped()):
        one = running()
        if one is None or not await one._beat():
            return
        # Not held from here: an interruption may have kept its block from ending it.
        del one


async def _stopped(stop: asyncio.Event, seconds: float) -> bool:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
    return stop.is_set()


class RunningJob(_Running):
    """A job that is running, of a `Store`; threads may share it.

    `uuid` is the job's, `fingerprint` the SHA-256 of all that decides what it makes, 32 bytes, None
    where the content of an input is unknown. `reuse` is the result of a job that has done the same,
    where this one was to be done once: then nothing was started.
    """

    _way = BLOCKING
    # None where the start was cut off.
    _thread: threading.Thread | None = None

    def log(self, data: bytes | str = b"") -> None:
        """Take output; it is written at 64 kB or when it is a second old, whichever is first.

        :param data: output as it came; none, to be told only whether the job was swept
        :raises InvalidInput: at once, when it is neither bytes nor str
        :raises NotRunning: the job has ended, for instance since a sweep marked it as lost
        :raises Unavailable: there is much to write, and the database is away for too long; what
            could not be written is kept, and written with what comes next
        """
        at_once(self._log(data))

    def finish(
        self,
        state: EndState,
        outputs: Iterable[Output] = (),
        *,
        reason: str | None = None,
        exit_code: int | None = None,
        measurements: Mapping[str, Number] | None = None,
    ) -> tuple[Artifact, ...]:
        """End the job, with the rest of its log.

        :param state: `success`, `error` or `lost`
        :param outputs: the files that it made
        :param reason: why it ended so, as `job.finish` takes it
        :param exit_code: what the script's process ended with; negative for a signal
        :param measurements: what was measured of it, by name
        :returns: the artifacts that its outputs have become, by path
        :raises InvalidInput: at once, when a value cannot be stored
        :raises NotRunning: the job has ended, for instance since a sweep marked it as lost
        :raises Unavailable: the database is away for too long; it may be called again
        """
        return at_once(self._finish(state, outputs, reason, exit_code, measurements))

    def _begin(self, building: "Building[Any]") -> None:
        at_once(self._start(building))
        if self.reuse:
            return
        self._stop = threading.Event()
        running: weakref.ref[_Running] = weakref.ref(self)
        stopped = partial(self._stop.wait, self._tick)
        self._thread = threading.Thread(
            target=lambda: at_once(_beats(running, stopped)), name=f"job {self.uuid}", daemon=True
        )
        self._thread.start()

    def _end(self, error: BaseException | None) -> None:
        try:
            at_once(self._leave(error))
        finally:
            if self._thread:
                self._stop.set()
                # It was not started, perhaps.
                with suppress(RuntimeError):
                    self._thread.join()

    def _acquired(self) -> bool:
        return bool(self._lock.acquire(blocking=False))


class AsyncRunningJob(_Running):
    """What `RunningJob` is, of an `AsyncStore`: awaited, and cancelled when it was swept."""

    _way = AWAITING
    _beating: asyncio.Task[None] | None = None
    # Whether this has cancelled the block, and the block is being left.
    _cancelled = False
    _leaving = False

    async def log(self, data: bytes | str = b"") -> None:
        """Take output as `RunningJob.log` does.

        :param data: output as it came; none, to be told only whether the job was swept
        :raises StoreError: as `RunningJob.log` says
        """
        await self._log(data)

    async def finish(
        self,
        state: EndState,
        outputs: Iterable[Output] = (),
        *,
        reason: str | None = None,
        exit_code: int | None = None,
        measurements: Mapping[str, Number] | None = None,
    ) -> tuple[Artifact, ...]:
        """End the job, with the rest of its log, as `RunningJob.finish` does.

        :param state: `success`, `error` or `lost`
        :param outputs: the files that it made
        :param reason: why it ended so, as `job.finish` takes it
        :param exit_code: what the script's process ended with; negative for a signal
        :param measurements: what was measured of it, by name
        :returns: the artifacts that its outputs have become, by path
        :raises StoreError: as `RunningJob.finish` says
        """
        return await self._finish(state, outputs, reason, exit_code, measurements)

    async def _begin(self, building: "Building[Any]") -> None:
        await self._start(building)
        if self.reuse:
            return
        self._stop = asyncio.Event()
        self._task = cast(asyncio.Task[Any], asyncio.current_task())
        self._cancelling = self._task.cancelling()
        stopped = partial(_stopped, self._stop, self._tick)
        self._beating = asyncio.create_task(_beats(weakref.ref(self), stopped))

    async def _end(self, error: BaseException | None) -> None:
        self._leaving = True
        # As asyncio.timeout does: who else has cancelled the task gets what they wanted.
        ours = self._cancelled and self._task.uncancel() <= self._cancelling
        try:
            if ours and self._failure and isinstance(error, asyncio.CancelledError):
                raise self._failure from error
            await self._leave(error)
        finally:
            if self._beating:
                self._stop.set()
                # Not awaited itself: it must not be cancelled with this, in the midst of a write.
                await asyncio.wait([self._beating])

    async def _acquired(self) -> bool:
        return not self._lock.locked() and bool(await self._lock.acquire())

    def _interrupt(self) -> None:
        if not self._leaving:
            self._cancelled = True
            self._task.cancel()


class Building(Generic[AnyStore]):
    """A job that starts when this is entered, and has ended when it is left; made by `build`."""

    def __init__(
        self,
        store: AnyStore,
        uuid: UUID,
        start: Callable[..., Statement[Any]],
        reusable: Callable[[], Statement[Reuse | None]],
        heartbeat: float,
        waits: tuple[float, float],
    ) -> None:
        """Do as `build` says."""
        self._store: AnyStore = store
        self._uuid = uuid
        self._start = start
        self._started_at: datetime | None = None
        self._reusable = reusable
        self._heartbeat = heartbeat
        # For another builder, in seconds: at most, and between two looks.
        self._waits = waits
        self._running: Any = None

    def reusable(self) -> Statement[Reuse | None]:
        """Ask as `artifact.reusable` does whether exactly this job has been done before::

            job = build(store, uuid7(), submit=…, package=…, …)
            if (reuse := store.run(job.reusable())) is None:
                with job as running:
                    …

        :returns: the newest successful job with the same fingerprint, or None
        :raises InvalidInput: at once, when an input was given by its uuid: reuse goes by content
        """
        return self._reusable()

    def _starting(self) -> Statement[Any]:
        # The same when the block is entered again, so that it can be found to be the same.
        self._started_at = self._started_at or datetime.now(UTC)
        return self._start(started_at=self._started_at)

    def __enter__(self: "Building[Store]") -> RunningJob:
        """Start the job."""
        of_kind(self._store, Store, "async with")
        self._running = running = RunningJob(self._store, self._uuid, self._heartbeat)
        try:
            running._begin(self)
            return running
        except StoreError:
            raise
        except BaseException as error:
            # It may have started.
            if not running._waiting:
                running._end(error)
            raise

    def __exit__(
        self: "Building[Store]",
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the job, if that was not done."""
        self._running._end(error)

    async def __aenter__(self: "Building[AsyncStore]") -> AsyncRunningJob:
        """Start the job."""
        of_kind(self._store, AsyncStore, "with")
        self._running = running = AsyncRunningJob(self._store, self._uuid, self._heartbeat)
        try:
            await running._begin(self)
            return running
        except StoreError:
            raise
        except BaseException as error:
            # It may have started.
            if not running._waiting:
                await running._end(error)
            raise

    async def __aexit__(
        self: "Building[AsyncStore]",
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the job, if that was not done."""
        await self._running._end(error)
