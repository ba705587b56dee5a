"""Writes under attack: refused, repeated, cut off, and at the same time as others."""

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast
from uuid import UUID

import psycopg
import pytest
from conftest import AnyStore
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo
from psycopg.pq import PipelineStatus, TransactionStatus
from samples import create, ended, finish, later, sha256, start

from butido_store import (
    AsyncStore,
    Statement,
    Store,
    artifact,
    job,
    open_schema,
    open_schema_async,
    release,
    report,
    submit,
    uuid7,
)
from butido_store._check import rfc3339
from butido_store.artifact import Output
from butido_store.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    NotRunning,
    StoreError,
    Unavailable,
)

Connection = psycopg.Connection[tuple[object, ...]]
Connect = Callable[[], Connection]
T = TypeVar("T")


class Callers(Protocol):
    """A store on a connection of the caller's, and plain SQL on the same."""

    run: Callable[..., Any]
    sql: Callable[[str], object]


@contextmanager
def callers(
    kind: str, dsn: str, schema: str, prepare_threshold: int | None = 5
) -> Iterator[Callers]:
    """Open a connection of the caller's, blocking or awaiting."""
    options: dict[str, Any] = {"autocommit": True, "prepare_threshold": prepare_threshold}
    if kind == "sync":
        with psycopg.connect(dsn, **options) as connection:
            open_schema(connection, schema)
            yield cast(Callers, _Pair(Store(connection).run, connection.execute))
        return
    with asyncio.Runner() as runner:
        awaited = runner.run(psycopg.AsyncConnection.connect(dsn, **options))
        runner.run(open_schema_async(awaited, schema))
        store = AsyncStore(awaited)
        yield cast(
            Callers,
            _Pair(
                lambda *statements: runner.run(store.run(*statements)),
                lambda text: runner.run(awaited.execute(text)),
            ),
        )
        runner.run(awaited.close())


@dataclass(frozen=True)
class _Pair:
    run: Callable[..., Any]
    sql: Callable[[Any], object]


class Meddled(psycopg.Connection[Any]):
    """A connection that lets something happen before each of the next exchanges."""

    before: Sequence[Callable[[], object]] = ()

    def wait(self, *arguments: Any, **options: Any) -> Any:
        """Let it happen, and go on."""
        state = self.pgconn
        if self.before and (state.transaction_status, state.pipeline_status) == (
            TransactionStatus.IDLE,
            PipelineStatus.OFF,
        ):
            happens, *self.before = self.before
            happens()
        return super().wait(*arguments, **options)


@pytest.fixture
def meddled(dsn: str, schema: str) -> Iterator[Meddled]:
    """A connection that lets something happen before each of the next exchanges."""
    with Meddled.connect(dsn, autocommit=True) as connection:
        open_schema(connection, schema)
        yield connection


def nothing() -> None:
    """Let nothing happen."""


@pytest.fixture
def of_submit(dsn: str, schema: str) -> UUID:
    """The uuid of a submit that is there."""
    uuid = uuid7()
    with Store.connect(dsn, schema=schema) as store:
        store.run(create(uuid))
    return uuid


def source(store: Any, path: str = "src") -> UUID:
    """Register a file from outside."""
    return cast(UUID, store.run(artifact.register(path, sha256=sha256(path), size=1)).uuid)


# What is refused leaves nothing, and the caller's transaction goes on ---------------------------


@pytest.mark.parametrize(
    ("kind", "threshold"), [("sync", 0), ("sync", 1), ("async", 2), ("sync", 5), ("async", None)]
)
def test_what_is_refused_is_undone_whatever_is_prepared(
    kind: str,
    threshold: int | None,
    dsn: str,
    schema: str,
    of_submit: UUID,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A pipeline that fails in the middle leaves psycopg in doubt about what is prepared."""
    with callers(kind, dsn, schema, prepare_threshold=threshold) as store:
        taken = Output("a", sha256("a"), 1, source(store))
        for _ in range(3):
            uuid, other = uuid7(), uuid7()
            refused: list[list[Statement[object]]] = [
                [finish(uuid, outputs=[taken])],
                [job.append_log(uuid, seq=1, data="x"), finish(uuid, outputs=[taken])],
                [job.record(ended(other, of_submit, outputs=[taken]))],
                [job.record_all([ended(other, of_submit, outputs=[taken])])],
                [start(other, uuid7())],
                # What only reads, and is refused by the server.
                [report.jobs(before=other)],
                [report.submits(before=other), report.images()],
                [report.search_log(regex="(")],
            ]
            store.run(start(uuid, of_submit), job.append_log(uuid, seq=0, data="x"))
            for begin, commit in (
                ([], []),
                (["BEGIN"], ["COMMIT"]),
                (["BEGIN", "SAVEPOINT one", "SAVEPOINT two"], ["RELEASE one", "COMMIT"]),
            ):
                for text in begin:
                    store.sql(text)
                for statements in refused:
                    store.run(job.heartbeat(uuid))
                    with pytest.raises((Conflict, NotFound, InvalidInput)):
                        store.run(*statements)
                    assert store.run(job.get(uuid), job.log(uuid))[1] == "x"
                store.run(job.record(ended(uuid7(), of_submit, inputs=[taken.uuid])))
                for text in commit:
                    store.sql(text)
            assert [made.path for made in store.run(finish(uuid, "out"))] == ["out"]
            with pytest.raises(NotFound):
                store.run(job.get(other))
    assert [entry for entry in caplog.records if entry.levelno >= logging.WARNING] == []


def test_what_fails_in_a_failed_transaction_says_so(connection: Connection) -> None:
    store, uuid = Store(connection), uuid7()
    for statements in ([finish(uuid)], [finish(uuid), finish(uuid)]):
        connection.execute("BEGIN")
        with pytest.raises(psycopg.errors.SyntaxError):
            connection.execute("nonsense")
        with pytest.raises(StoreError, match="current transaction is aborted"):
            store.run(*statements)
        connection.execute("ROLLBACK")


@pytest.mark.parametrize("several", [False, True])
def test_a_transaction_goes_on_after_a_shared_value_that_cannot_be_added(
    connect: Connect, of_submit: UUID, several: bool
) -> None:
    connection, other = connect(), connect()
    store = Store(connection)
    connection.execute("SET lock_timeout = 100")
    with other.transaction(force_rollback=True):
        # Somebody else is about to add it.
        other.execute("INSERT INTO image (name) VALUES ('new')")
        with connection.transaction():
            store.run(start(first := uuid7(), of_submit))
            with pytest.raises(Unavailable):
                store.run(
                    start(uuid7(), of_submit, image="new"),
                    *([job.heartbeat(first)] if several else []),
                )
            assert store.run(job.get(first)).state == "running"
    assert [found.uuid for found in store.run(report.jobs())] == [first]


# Nobody adds to what is there already ------------------------------------------------------------


class _Still(datetime):
    @classmethod
    def now(cls, tz: Any = None) -> "_Still":
        return cls(2026, 1, 1, tzinfo=tz)


def test_a_clock_that_stands_still_adds_nothing_to_what_is_there(
    store: AnyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_submit, one, other, file = uuid7(), uuid7(), uuid7(), source(store)
    second = source(store, "second")
    store.run(create(of_submit))
    made, more = Output("a", sha256("a"), 1), Output("b", sha256("b"), 1)
    monkeypatch.setattr(job, "datetime", _Still)
    store.run(start(one, of_submit, inputs=[file]))
    with pytest.raises(Conflict):
        store.run(start(one, of_submit, inputs=[second]))
    store.run(finish(one, outputs=[made]))
    with pytest.raises(Conflict):
        store.run(finish(one, outputs=[more]))
    store.run(job.record(ended(other, of_submit, inputs=[file])))
    changed = ended(other, of_submit, inputs=[second], outputs=[more])
    for again in (job.record(changed), job.record_all([changed])):
        with pytest.raises(Conflict):
            store.run(again)
    for uuid, outputs in ((one, [made.uuid]), (other, [])):
        assert [found.uuid for found in store.run(job.inputs(uuid))] == [file]
        assert [found.uuid for found in store.run(job.outputs(uuid))] == outputs


def test_no_sign_of_life_is_taken_for_the_moment_of_a_write(
    store: AnyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a job that was swept would get the outputs of an end that is refused."""
    of_submit, uuid = uuid7(), uuid7()
    store.run(create(of_submit), start(uuid, of_submit))
    signs = [job.heartbeat(uuid), job.set_container(uuid, "a")]
    for sign in (*signs, job.append_log(uuid, seq=0, data="x")):
        store.run(sign)
        alive = store.run(job.get(uuid)).heartbeat_at
        moments = set[object]()
        # Whatever the clock says in the millisecond after it.
        for microseconds in range(0, 2000, 2):
            now = alive + timedelta(microseconds=microseconds)
            monkeypatch.setattr(_Still, "now", lambda tz, now=now: now)
            monkeypatch.setattr(job, "datetime", _Still)
            moments.add(finish(uuid).steps[1].parameters["at"])
        assert rfc3339(alive) not in moments
    store.run(finish(uuid))
    assert store.run(job.get(uuid)).heartbeat_at.microsecond % 1000


# What there is of each job, in whichever table.
OWNED = b"""
SELECT 'job', j.uuid, j::text FROM job AS j
UNION ALL SELECT 'chunk', c.job_uuid, c::text FROM job_log_chunk AS c
UNION ALL SELECT 'output', a.job_uuid, a::text FROM artifact AS a
UNION ALL SELECT 'input', i.job_uuid, i::text FROM job_input_artifacts AS i
"""


def test_a_write_of_one_job_changes_no_other_and_waits_for_none(
    connection: Connection, connect: Connect
) -> None:
    store, other = Store(connection), connect()
    of_submit, own, done, *running = (uuid7() for _ in range(5))
    file = source(store)
    store.run(create(of_submit), job.record(ended(done, of_submit, inputs=[file])))
    for uuid in (running[0], own, running[1]):
        store.run(start(uuid, of_submit, inputs=[file]))
    for uuid in running:
        store.run(*(job.append_log(uuid, seq=seq, data=str(uuid)) for seq in range(3)))
    connection.execute("SET lock_timeout = '1s'")
    with other.transaction():
        other.execute("SELECT FROM job WHERE uuid <> %s FOR UPDATE", [own])
        for statement in (
            job.heartbeat(own),
            job.append_log(own, seq=0, data="x"),
            job.append_log(own, seq=1, data="y"),
            job.set_container(own, "c"),
            finish(own, "a"),
        ):
            before = set(connection.execute(OWNED))
            store.run(statement)
            changed = before ^ set(connection.execute(OWNED))
            assert {uuid for _, uuid, _ in changed} == {own}, statement


def test_a_statement_may_be_run_again_and_twice_in_one_run(store: AnyStore) -> None:
    of_submit, one, two, made = uuid7(), uuid7(), uuid7(), Output("a", sha256("a"), 1)
    writes: list[Statement[object]] = [
        create(of_submit),
        start(one, of_submit),
        job.append_log(one, seq=0, data="x"),
        job.set_container(one, "c"),
        finish(one, outputs=[made]),
        job.record(
            ended(two, of_submit, inputs=[made.uuid], outputs=[Output("b", sha256("b"), 1)])
        ),
        job.record_all([ended(uuid7(), of_submit, outputs=[Output("c", sha256("c"), 1)])]),
        artifact.register("src", sha256=sha256("src"), size=1, uuid=uuid7()),
    ]
    twice = [statement for statement in writes for _ in range(2)]
    first = store.run(*twice)
    assert first[::2] == first[1::2]
    assert store.run(*twice) == first
    assert store.run(*writes) == first[::2]
    assert tuple(store.run(statement) for statement in writes) == first[::2]
    assert store.run(job.log(one)) == "x"


def test_the_steps_of_a_repeated_write_are_no_error(
    connection: Connection, of_submit: UUID
) -> None:
    """An error would be in the server's log, and end a script of psql's."""
    one, other = uuid7(), uuid7()
    store = Store(connection)
    for statement in (
        create(of_submit),
        start(one, of_submit),
        job.append_log(one, seq=0, data="x"),
        job.record_all([ended(other, of_submit)]),
    ):
        store.run(statement)
        for step in statement.steps:
            psycopg.RawCursor(connection).execute(*step.rendered())


def test_an_input_is_named_that_is_all_that_lacks(store: AnyStore) -> None:
    of_submit, unknown = uuid7(), uuid7()
    store.run(create(of_submit), start(uuid7(), of_submit))
    reader = ended(uuid7(), of_submit, inputs=[unknown])
    for statement in (
        start(uuid7(), of_submit, inputs=[unknown]),
        job.record(reader),
        job.record_all([reader]),
    ):
        with pytest.raises(NotFound, match=str(unknown)):
            store.run(statement)


# Somebody comes between two exchanges ------------------------------------------------------------


class WhileBlocked(Protocol):
    """Writes in a transaction that is committed as soon as somebody waits for it."""

    def __call__(self, other: Connection, statement: Statement[object]) -> None: ...


@pytest.fixture
def while_blocked(connect: Connect) -> Iterator[WhileBlocked]:
    """Write so, and have the last one's commit answered before its connection is closed."""
    observer = connect()
    threads: list[threading.Thread] = []

    def commit(other: Connection) -> None:
        waiting = "SELECT FROM pg_locks WHERE NOT granted AND %s = ANY(pg_blocking_pids(pid))"
        while not observer.execute(waiting, [other.info.backend_pid]).rowcount:
            pass
        other.execute("COMMIT")

    def write(other: Connection, statement: Statement[object]) -> None:
        other.execute("BEGIN")
        Store(other).run(statement)
        threads.append(threading.Thread(target=commit, args=[other]))
        threads[-1].start()

    yield write
    for thread in threads:
        thread.join()


def test_others_record_one_after_the_other_what_is_recorded_together(
    meddled: Meddled, connect: Connect, while_blocked: WhileBlocked, of_submit: UUID
) -> None:
    other, third = connect(), connect()
    jobs = [ended(uuid7(), of_submit, log=str(n)) for n in range(4)]
    Store(third).run(job.record(ended(uuid7(), of_submit)))
    meddled.before = [
        lambda: while_blocked(other, job.record(jobs[1])),
        nothing,
        lambda: while_blocked(other, job.record(jobs[2])),
    ]
    assert len(Store(meddled).run(job.record_all(jobs))) == 4
    assert [Store(third).run(job.log(one.uuid)) for one in jobs] == ["0", "1", "2", "3"]


def test_the_same_file_registered_at_once_is_one(connect: Connect) -> None:
    """Who is first in the index of uuids, and not in that of files, learns of it as an error."""
    barrier = threading.Barrier(4)
    answers: list[object] = []

    def register(store: Store, uuids: list[UUID]) -> None:
        for uuid in uuids:
            barrier.wait()
            try:
                path = str(uuid)
                store.run(artifact.register(path, sha256=sha256(path), size=1, uuid=uuid))
            except StoreError as error:
                answers.append(error)

    uuids = [uuid7() for _ in range(50)]
    threads = [threading.Thread(target=register, args=(Store(connect()), uuids)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == []


def test_a_sweep_waits_for_its_first_attempt(
    connect: Connect, while_blocked: WhileBlocked, of_submit: UUID
) -> None:
    """Whose connection was lost, and which goes on on the server."""
    first, store, uuid = connect(), Store(connect()), uuid7()
    sweep = job.sweep(silent_for=timedelta(microseconds=1))
    store.run(start(uuid, of_submit))
    while_blocked(first, sweep)
    assert store.run(sweep) == [uuid]


def test_what_appears_after_a_release_found_nothing_is_released(
    meddled: Meddled, connect: Connect
) -> None:
    said: dict[str, Any] = {"store": "stable", "actor": "me", "timestamp": later(0)}
    store, uuid = Store(connect()), uuid7()
    store.run(release.create(uuid7(), artifacts=[source(store)], **said))
    new = artifact.register("new", sha256=sha256("new"), size=1, uuid=uuid)
    meddled.before = [nothing, lambda: store.run(new)]
    assert Store(meddled).run(release.create(uuid7(), artifacts=[uuid], **said)) == [uuid]
    assert uuid in [found.artifact_uuid for found in store.run(report.releases())]


def test_a_job_that_ends_after_a_reuse_looked_is_reused(
    meddled: Meddled, connect: Connect, connection: Connection
) -> None:
    """Also where another submit reuses it meanwhile, and this one has reused another job."""
    of_submit, other, mine, one, two = (uuid7() for _ in range(5))
    store, said = Store(connect()), {"timestamp": later(0)}
    store.run(create(of_submit), create(other), create(mine), start(one, of_submit))
    store.run(start(two, of_submit), finish(two), submit.reuse(mine, [two], **said))
    ends: list[Statement[object]] = [finish(one), submit.reuse(other, [one], **said)]
    meddled.before = [nothing, lambda: store.run(*ends)]
    Store(meddled).run(submit.reuse(mine, [one], **said))
    rows = connection.execute("SELECT job_uuid FROM reuse WHERE submit_uuid = %s", [mine])
    assert {uuid for (uuid,) in rows} == {one, two}


def test_a_release_of_more_is_another_release(store: AnyStore) -> None:
    said: dict[str, Any] = {"store": "stable", "actor": "me", "timestamp": later(0)}
    act, one, two = uuid7(), source(store), source(store, "two")
    store.run(release.create(act, artifacts=[one], **said))
    with pytest.raises(Conflict):
        store.run(release.create(act, artifacts=[one, two], **said))
    # What another one had released before was no part of it, and is not when it was taken back.
    third = uuid7()
    store.run(release.create(uuid7(), artifacts=[two], **said))
    four = source(store, "four")
    assert store.run(release.create(third, artifacts=[two, four], **said)) == [four]
    store.run(release.withdraw(artifact=two, reason="bad", **said))
    assert store.run(release.create(third, artifacts=[two, four], **said)) == [four]


def test_a_repeated_release_gives_what_it_has_released(store: AnyStore) -> None:
    said: dict[str, Any] = {"store": "stable", "actor": "me", "timestamp": later(0)}
    of_submit, one, two, file = uuid7(), uuid7(), uuid7(), source(store)
    made = Output("a", sha256("a"), 1)
    store.run(create(of_submit), start(one, of_submit), finish(one, outputs=[made]))
    whole = release.create(uuid7(), submit=of_submit, **said)
    files = release.create(uuid7(), artifacts=[file, made.uuid], **said)
    assert (store.run(whole), store.run(files)) == ([made.uuid], [file])
    # What was taken back since, released again or made since is another matter.
    store.run(
        release.withdraw(artifact=made.uuid, reason="bad", **said),
        start(two, of_submit),
        finish(two, "b"),
    )
    assert store.run(whole, files, whole) == ([made.uuid], [file], [made.uuid])
    store.run(release.create(uuid7(), artifacts=[made.uuid], **said))
    assert (store.run(files), store.run(whole)) == ([file], [made.uuid])


def test_a_repeated_withdrawal_leaves_what_was_released_since(store: AnyStore) -> None:
    said: dict[str, Any] = {"store": "stable", "actor": "me", "timestamp": later(0)}
    file = source(store)
    back = release.withdraw(artifact=file, reason="bad", **said)
    store.run(release.create(uuid7(), artifacts=[file], **said))
    store.run(back)
    store.run(release.create(uuid7(), artifacts=[file], **said))
    store.run(back)
    assert [found.withdrawn_at is None for found in store.run(report.releases())].count(True) == 1


# Any writes in any order, against a model --------------------------------------------------------


@dataclass
class Kept:
    """What must be kept of a job."""

    variant: int
    inputs: frozenset[int]
    state: str = "running"
    log: list[str] = field(default_factory=list)
    container: str | None = None
    # The artifact of each path.
    outputs: dict[str, int] = field(default_factory=dict)
    recorded: bool = False


@dataclass
class Model:
    """What must be in the store; small numbers stand for uuids."""

    submits: dict[int, int] = field(default_factory=dict)
    jobs: dict[int, Kept] = field(default_factory=dict)
    artifacts: set[int] = field(default_factory=lambda: {0})
    reuses: set[tuple[int, int]] = field(default_factory=set)

    def create(self, number: int, variant: int) -> None:
        """Record a submit."""
        if self.submits.setdefault(number, variant) != variant:
            raise Conflict

    def reuse(self, number: int, jobs: frozenset[int]) -> None:
        """Record what a submit reused."""
        if number not in self.submits or not jobs <= self.jobs.keys():
            raise NotFound
        found = [self.jobs[one] for one in jobs]
        if any(one.state != "success" or one.variant // 10 == number for one in found):
            raise Conflict
        self.reuses |= {(number, one) for one in jobs}

    def running(self, number: int) -> Kept:
        """Return a job that takes more."""
        if number not in self.jobs:
            raise NotFound
        if self.jobs[number].state != "running":
            raise NotRunning
        return self.jobs[number]

    def start(self, number: int, submit: int, variant: int, inputs: frozenset[int]) -> None:
        """Start a job."""
        if found := self.jobs.get(number):
            if (found.variant, found.inputs) != (variant + 10 * submit, inputs):
                raise Conflict
            return
        if submit not in self.submits or not inputs <= self.artifacts:
            raise NotFound
        self.jobs[number] = Kept(variant + 10 * submit, inputs)

    def append(self, number: int, seq: int, letter: str) -> None:
        """Append to a log."""
        found = self.jobs.get(number)
        if found and not found.recorded and seq < len(found.log):
            if found.log[seq] == letter:
                return
            raise Conflict if found.state == "running" else NotRunning
        if seq > len(self.running(number).log):
            raise Conflict
        self.running(number).log.append(letter)

    def heartbeat(self, number: int) -> None:
        """Give a sign of life."""
        self.running(number)

    def set_container(self, number: int, name: str) -> None:
        """Record a container."""
        if (found := self.jobs.get(number)) and found.container == name:
            return
        found = self.running(number)
        if found.container:
            raise Conflict
        found.container = name

    def add(self, outputs: dict[str, int]) -> None:
        """Add what a job made."""
        made = {*outputs.values()}
        if self.artifacts & made or len(made) < len(outputs):
            raise Conflict
        self.artifacts |= made

    def finish(self, number: int, state: str, outputs: dict[str, int]) -> None:
        """End a job."""
        found = self.jobs.get(number)
        if found and found.state == state and found.outputs.keys() == outputs.keys():
            return
        if found and found.state == state != "lost":
            raise Conflict
        found = self.running(number)
        self.add(outputs)
        found.state, found.outputs = state, outputs

    def record_all(
        self, jobs: Sequence[tuple[int, int, int, frozenset[int], str, dict[str, int]]]
    ) -> None:
        """Record jobs that have ended."""
        new = []
        for number, of_submit, variant, inputs, letter, outputs in jobs:
            said = Kept(variant + 10 * of_submit, inputs, "success", [letter], None, outputs, True)
            if not (found := self.jobs.get(number)):
                new.append((number, of_submit, said))
            elif (
                (found.variant, found.inputs, found.state, found.container)
                != (said.variant, inputs, "success", None)
                or "".join(found.log) != letter
                or found.outputs.keys() != outputs.keys()
            ):
                raise Conflict
        for number, of_submit, said in new:
            others = [each for other, _, each in new if other != number]
            made = {file for each in others for file in each.outputs.values()}
            if of_submit not in self.submits or not said.inputs <= self.artifacts | made:
                raise NotFound
        for number, _, said in new:
            self.add(said.outputs)
            self.jobs[number] = said


def _has_an_order(jobs: list[Any]) -> bool:
    """Tell whether no jobs read each other's outputs in a ring, which cannot be said."""
    reads = {
        number: {other for other, *_, made in jobs if inputs & {*made.values()}}
        for number, _, _, inputs, *_ in jobs
    }
    try:
        TopologicalSorter(reads).prepare()
    except CycleError:
        return False
    return True


NUMBERS, LETTERS = st.integers(1, 3), st.sampled_from("ab")
INPUTS = st.frozensets(st.integers(0, 4), max_size=2)
OUTPUTS = st.dictionaries(st.sampled_from(["p", "q"]), st.integers(1, 5), max_size=2)
OPERATIONS: st.SearchStrategy[tuple[Any, ...]] = st.one_of(
    st.tuples(st.just("create"), st.integers(1, 2), st.integers(0, 1)),
    st.tuples(st.just("reuse"), st.integers(1, 2), st.frozensets(NUMBERS, max_size=2)),
    st.tuples(st.just("start"), NUMBERS, st.just(1), st.integers(0, 1), INPUTS),
    st.tuples(st.just("start"), NUMBERS, st.integers(1, 2), st.just(0), INPUTS),
    st.tuples(st.just("append"), NUMBERS, st.integers(0, 2), LETTERS),
    st.tuples(st.just("heartbeat"), NUMBERS),
    st.tuples(st.just("set_container"), NUMBERS, LETTERS),
    st.tuples(st.just("finish"), NUMBERS, st.sampled_from(["success", "lost"]), OUTPUTS),
    st.tuples(
        st.just("record_all"),
        st.lists(
            st.tuples(NUMBERS, st.just(1), st.integers(0, 1), INPUTS, LETTERS, OUTPUTS),
            min_size=1,
            max_size=3,
            unique_by=lambda one: one[0],
        ).filter(_has_an_order),
    ),
)
# Who writes, what is run together, and whether a transaction of the caller's is kept.
BATCHES = st.lists(
    st.tuples(
        st.sampled_from(["own", "callers", "nested"]),
        st.lists(st.lists(OPERATIONS, min_size=1, max_size=4), min_size=1, max_size=3),
        st.booleans(),
    ),
    min_size=1,
    max_size=6,
)


class Numbered:
    """Statements in which small numbers stand for uuids."""

    def __init__(self) -> None:
        self.submits, self.jobs, self.artifacts = ([uuid7() for _ in range(6)] for _ in range(3))

    def statement(self, name: str, *said: Any) -> Statement[object]:
        """Return the statement of an operation."""
        if name == "create":
            return create(self.submits[said[0]], package=f"p{said[1]}")
        if name == "reuse":
            reused = [self.jobs[number] for number in sorted(said[1])]
            return submit.reuse(self.submits[said[0]], reused, timestamp=later(0))
        if name == "record_all":
            jobs = [self._ended(*one) for one in said[0]]
            return job.record(jobs[0]) if len(jobs) == 1 else job.record_all(jobs)
        uuid = self.jobs[said[0]]
        if name == "start":
            _, of_submit, variant, inputs = said
            return start(
                uuid, self.submits[of_submit], env={"V": str(variant)}, inputs=self._files(inputs)
            )
        if name == "append":
            return job.append_log(uuid, seq=said[1], data=said[2])
        if name == "finish":
            return finish(uuid, state=said[1], outputs=self._outputs(said[2]))
        return cast(Statement[object], getattr(job, name)(uuid, *said[1:]))

    def _files(self, numbers: frozenset[int]) -> list[UUID]:
        return [self.artifacts[number] for number in sorted(numbers)]

    def _outputs(self, outputs: dict[str, int]) -> list[Output]:
        return [
            Output(path, sha256(path), 1, self.artifacts[number])
            for path, number in outputs.items()
        ]

    def _ended(
        self,
        number: int,
        of_submit: int,
        variant: int,
        inputs: frozenset[int],
        letter: str,
        outputs: dict[str, int],
    ) -> job.EndedJob:
        return ended(
            self.jobs[number],
            self.submits[of_submit],
            env={"V": str(variant)},
            inputs=self._files(inputs),
            log=letter,
            outputs=self._outputs(outputs),
        )

    def found(self, store: Store) -> dict[int, tuple[object, ...]]:
        """Return what is in the store of each job, and whose pieces of log are left over."""
        rows: dict[int, tuple[object, ...]] = {}
        for number, uuid in enumerate(self.jobs):
            with suppress(NotFound):
                one, log = store.run(job.get(uuid), job.log(uuid))
                inputs, outputs = store.run(job.inputs(uuid), job.outputs(uuid))
                rows[number] = (
                    self.submits.index(one.submit_uuid),
                    one.state,
                    log,
                    one.container_hash,
                    frozenset(self.artifacts.index(file.uuid) for file in inputs),
                    {file.path: self.artifacts.index(file.uuid) for file in outputs},
                )
        return rows

    def reuses(self, connection: Connection) -> set[tuple[int, int]]:
        """Return which submits reuse which jobs."""
        rows = connection.execute("SELECT submit_uuid, job_uuid FROM reuse").fetchall()
        return {
            (self.submits.index(cast(UUID, one)), self.jobs.index(cast(UUID, two)))
            for one, two in rows
            if one in self.submits
        }


def kept(model: Model) -> dict[int, tuple[object, ...]]:
    """Return what must be in the store of each job."""
    return {
        number: (
            one.variant // 10,
            one.state,
            "".join(one.log),
            one.container,
            one.inputs,
            one.outputs,
        )
        for number, one in sorted(model.jobs.items())
    }


def outcome(work: Callable[[], object]) -> object:
    """Return the kind of error that came of it, if any."""
    try:
        work()
    except StoreError as error:
        return type(error)
    return None


def together(model: Model, operations: Sequence[tuple[Any, ...]]) -> tuple[Model, object]:
    """Return what must be there after operations, all of them or none, and how they must end."""
    after = deepcopy(model)
    failed = outcome(lambda: [getattr(after, name)(*said) for name, *said in operations])
    return (model if failed else after), failed


def test_any_writes_leave_what_the_model_says(
    dsn: str, schema: str, connection: Connection
) -> None:
    @given(batches=BATCHES)
    def check(batches: Any) -> None:
        numbered, model = Numbered(), Model()
        before_all: list[tuple[Any, ...]] = [("create", 1, 0), ("start", 1, 1, 0, frozenset[int]())]
        model, _ = together(model, before_all)
        own.run(*(numbered.statement(*one) for one in before_all))
        artifact_0 = numbered.artifacts[0]
        path = str(artifact_0)
        own.run(artifact.register(path, sha256=sha256(path), size=1, uuid=artifact_0))
        for who, runs, keep in batches:
            before, store = model, own if who == "own" else other
            if who != "own":
                other.sql("BEGIN")
            if who == "nested":
                other.sql("SAVEPOINT one")
            for operations in runs:
                model, expected = together(model, operations)
                statements = [numbered.statement(*one) for one in operations]
                assert outcome(lambda: store.run(*statements)) == expected  # noqa: B023
            if who == "nested" and not keep:
                other.sql("ROLLBACK TO one")
            if who != "own":
                other.sql("COMMIT" if keep or who == "nested" else "ROLLBACK")
                model = model if keep else before
            assert numbered.found(own) == kept(model)
            assert numbered.reuses(connection) == model.reuses

    with Store.connect(dsn, schema=schema) as own, callers("sync", dsn, schema, 1) as other:
        check()


# Pieces of log, ends and sweeps at the same time -------------------------------------------------


class Race:
    """A builder that appends to a log, somebody who ends the job, and somebody who reads along."""

    def __init__(
        self, connect: Connect, of_submit: UUID, isolation: str, after: int | None
    ) -> None:
        self._connect = connect
        self._begin = f"BEGIN ISOLATION LEVEL {isolation}".encode()
        # After how many pieces the job is ended; None if it is swept.
        self._after = after
        self.uuid = uuid7()
        self.acknowledged: list[str] = []
        self.followed = ""
        self.errors: list[object] = []
        connection = connect()
        Store(connection).run(start(self.uuid, of_submit))
        # So that a sweep takes it, unless a piece has just come.
        connection.execute("UPDATE job SET heartbeat_at = heartbeat_at - interval '1 hour'")

    def run(self) -> None:
        """Let them run at once, to their end."""
        works = (self._append, self._end, self._follow)
        barrier = threading.Barrier(len(works))

        def guarded(work: Callable[[Connection], None], connection: Connection) -> None:
            barrier.wait()
            try:
                work(connection)
            except Exception as error:
                self.errors.append(error)

        threads = [threading.Thread(target=guarded, args=(work, self._connect())) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _append(self, connection: Connection) -> None:
        with suppress(NotRunning):
            for seq in range(0, 40, 2):
                pieces = [f"{seq};", f"{seq + 1};"]
                self._until_kept(
                    connection,
                    *(job.append_log(self.uuid, seq=seq + n, data=pieces[n]) for n in range(2)),
                )
                self.acknowledged += pieces

    def _end(self, connection: Connection) -> None:
        while Store(connection).run(job.get(self.uuid)).state == "running":
            if self._after is None:
                self._until_kept(connection, job.sweep(silent_for=timedelta(microseconds=1)))
            elif len(self.acknowledged) >= self._after:
                self._until_kept(connection, finish(self.uuid))

    def _until_kept(self, connection: Connection, *statements: Statement[object]) -> None:
        while True:
            connection.execute(self._begin)
            try:
                for statement in statements:
                    Store(connection).run(statement)
                connection.execute("COMMIT")
                return
            except Unavailable:
                connection.execute("ROLLBACK")
            except StoreError:
                connection.execute("ROLLBACK")
                raise

    def _follow(self, connection: Connection) -> None:
        store, after, state = Store(connection), None, "running"
        while state == "running":
            piece = store.run(job.log_after(self.uuid, after=after, characters=len(self.followed)))
            self.followed += piece.text
            state, after = piece.state, after if piece.seq is None else piece.seq


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ"])
@pytest.mark.parametrize("ender", ["finish", "sweep"])
def test_each_piece_is_in_the_log_once_or_refused(
    connect: Connect, of_submit: UUID, isolation: str, ender: str
) -> None:
    for number in range(6):
        race = Race(connect, of_submit, isolation, 3 * number if ender == "finish" else None)
        race.run()
        assert race.errors == []
        log = Store(connect()).run(job.log(race.uuid))
        assert log == "".join(race.acknowledged) == race.followed


def test_an_end_waits_for_a_piece_and_a_piece_for_an_end(
    connection: Connection, connect: Connect, while_blocked: WhileBlocked, of_submit: UUID
) -> None:
    other, store = connect(), Store(connection)
    one, two = uuid7(), uuid7()
    store.run(start(one, of_submit), start(two, of_submit))
    while_blocked(other, job.append_log(one, seq=0, data="x"))
    store.run(finish(one))
    assert store.run(job.log(one)) == "x"
    while_blocked(other, finish(two))
    with pytest.raises(NotRunning):
        store.run(job.append_log(two, seq=0, data="x"))
    assert store.run(job.log(two)) == ""
    assert connection.execute("SELECT count(*) FROM job_log_chunk").fetchone() == (0,)


def test_a_piece_waits_for_another_of_its_place(
    connection: Connection, connect: Connect, while_blocked: WhileBlocked, of_submit: UUID
) -> None:
    other, store, uuid = connect(), Store(connection), uuid7()
    store.run(start(uuid, of_submit))
    while_blocked(other, job.append_log(uuid, seq=0, data="x"))
    store.run(job.append_log(uuid, seq=0, data="x"))
    while_blocked(connect(), job.append_log(uuid, seq=1, data="y"))
    with pytest.raises(Conflict, match="another piece at place 1"):
        store.run(job.append_log(uuid, seq=1, data="z"))
    while_blocked(connect(), job.append_log(uuid, seq=2, data="z"))
    store.run(job.append_log(uuid, seq=3, data="!"))
    assert store.run(job.log(uuid)) == "xyz!"


def test_a_job_that_somebody_works_on_is_not_swept(
    connection: Connection, connect: Connect, of_submit: UUID
) -> None:
    other, store, uuid = connect(), Store(connection), uuid7()
    store.run(start(uuid, of_submit))
    connection.execute("UPDATE job SET heartbeat_at = heartbeat_at - interval '1 hour'")
    connection.execute("SET lock_timeout = 1000")
    with other.transaction():
        Store(other).run(job.append_log(uuid, seq=0, data="x"))
        assert store.run(job.sweep(silent_for=timedelta(minutes=30))) == []
    assert store.run(job.get(uuid)).state == "running"


def test_a_refused_end_leaves_what_is_not_in_the_one_piece(
    connection: Connection, of_submit: UUID
) -> None:
    store, uuid = Store(connection), uuid7()
    store.run(start(uuid, of_submit), job.append_log(uuid, seq=0, data="x"))
    store.run(finish(uuid))
    # As of a builder that worked in one long transaction when its job was swept.
    connection.execute("INSERT INTO job_log_chunk SELECT uuid, 1, 'y' FROM job")
    store.run(finish(uuid))
    assert store.run(job.log(uuid)) == "xy"


# A connection that is cut anywhere ---------------------------------------------------------------


class Cutter:
    """A server's socket that cuts a connection in the middle of a message, once it is told to."""

    def __init__(self, directory: Path, server: str) -> None:
        # Messages until the cut, which way they go, and how much of the last one comes through.
        self.cut: tuple[int, str, float] | None = None
        self._server = server
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(directory / ".s.PGSQL.5432"))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._server)
                pair = (client, server)
                for way, (origin, target) in {"out": pair, "back": pair[::-1]}.items():
                    threading.Thread(
                        target=self._pass_on, args=(way, origin, target), daemon=True
                    ).start()

    def _pass_on(self, way: str, origin: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := origin.recv(65536):
                if self.cut and self.cut[1] == way:
                    left, _, share = self.cut
                    self.cut = (left - 1, way, share) if left else None
                    if not left:
                        target.sendall(data[: int(len(data) * share)])
                        break
                target.sendall(data)
        for end in (origin, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def all_writes() -> list[list[Statement[object]]]:
    """Return every kind of write, of values that are new."""
    of_submit, other, one, two, three, silent = (uuid7() for _ in range(6))
    made = Output("a", sha256("a"), 1)
    said: dict[str, Any] = {"store": "stable", "actor": "me", "timestamp": later(0)}
    file = artifact.register(str(one), sha256=sha256("a"), size=1, uuid=uuid7())
    return [
        [create(of_submit, image=str(of_submit))],
        [start(one, of_submit, env={"OWN": str(one)})],
        [job.append_log(one, seq=0, data="x")],
        [job.set_container(one, "c"), job.append_log(one, seq=1, data="y" * 9000)],
        [finish(one, outputs=[made])],
        [file],
        [
            job.record_all(
                [ended(two, of_submit, inputs=[made.uuid], outputs=[Output("b", sha256("b"), 1)])]
            )
        ],
        [
            start(three, of_submit, inputs=[made.uuid]),
            job.append_log(three, seq=0, data="z"),
            finish(three, "c"),
        ],
        [start(silent, of_submit), job.append_log(silent, seq=0, data="z")],
        [job.sweep(silent_for=timedelta(microseconds=1))],
        [create(other), submit.reuse(other, [one], timestamp=later(0))],
        [submit.reuse(other, [one, three], timestamp=later(1))],
        [release.create(uuid7(), artifacts=[made.uuid], **said)],
        [release.create(uuid7(), submit=of_submit, **said)],
        [release.withdraw(artifact=made.uuid, reason="bad", **said)],
    ]


EVERYTHING = """
SELECT
    (SELECT count(*) FROM submit), (SELECT count(*) FROM job),
    (SELECT count(*) FROM artifact), (SELECT count(*) FROM job_input_artifacts),
    (SELECT count(*) FROM job_log_chunk), (SELECT sum(octet_length(log)) FROM job),
    (SELECT count(*) FROM release), (SELECT count(*) FROM release_withdrawal),
    (SELECT count(*) FROM reuse)
"""


def length(answer: object) -> int | None:
    """Return how many there are of what a write has done."""
    return len(answer) if isinstance(answer, list) else None


@pytest.mark.parametrize(("way", "share"), [("out", 0.5), ("out", 1), ("back", 0)])
def test_a_connection_that_is_cut_anywhere_loses_and_doubles_nothing(
    dsn: str, schema: str, connection: Connection, short_directory: Path, way: str, share: float
) -> None:
    host = psycopg.conninfo.conninfo_to_dict(dsn)["host"]
    cutter = Cutter(short_directory, f"{host}/.s.PGSQL.5432")
    through = make_conninfo(dsn, host=str(short_directory))
    with Store.connect(through, schema=schema, prepare_threshold=0) as store:
        answers = [length(store.run(*statements)) for statements in all_writes()]
        once = cast(tuple[int, ...], connection.execute(EVERYTHING).fetchone())
        messages, was_cut = 0, True
        while was_cut:
            was_cut = False
            for statements, answer in zip(all_writes(), answers, strict=True):
                cutter.cut = (messages, way, share)
                # Also where the answer was lost of what had been done.
                assert length(store.run(*statements)) == answer
                was_cut = was_cut or cutter.cut is None
            messages += 1
        found = cast(tuple[int, ...], connection.execute(EVERYTHING).fetchone())
        assert found == tuple(count * (messages + 1) for count in once)
    assert messages > 2
    cutter.close()
