"""What is to be built once: who starts it, takes another's result, waits, or takes over."""

import asyncio
import os
import random
import select
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import psycopg
import pytest
from conftest import AnyStore
from hypothesis import settings
from samples import create, ended, finish, later, sha256, start

from butido_store import (
    AsyncStore,
    Statement,
    Store,
    artifact,
    build,
    job,
    open_schema,
    report,
    submit,
    uuid7,
)
from butido_store.artifact import Output, Reuse
from butido_store.errors import InvalidInput, NotFound, NotRunning, Unavailable
from butido_store.job import Started, Underway

pytestmark = pytest.mark.any_server

HOUR = timedelta(hours=1)


@pytest.fixture
def submit_uuid(store: AnyStore) -> UUID:
    uuid = uuid7()
    store.run(create(uuid))
    return uuid


def once(
    uuid: UUID, submit_uuid: UUID, besides: tuple[UUID, ...] = (), **changes: Any
) -> Statement[Started | Reuse | Underway]:
    return job.once(start(uuid, submit_uuid, **changes), silent_for=HOUR, besides=besides)


def test_one_starts_and_others_learn_of_it(store: AnyStore, submit_uuid: UUID) -> None:
    first, second, other = uuid7(), uuid7(), uuid7()
    # Beside other builds, on other endpoints.
    store.run(once(uuid7(), submit_uuid, script="before", endpoint="a"))
    started = store.run(once(first, submit_uuid))
    assert isinstance(started, Started)
    store.run(once(uuid7(), submit_uuid, script="after", endpoint="z"))
    assert started.fingerprint == store.run(job.get(first)).fingerprint
    # The same again is the same.
    assert store.run(once(first, submit_uuid)) == started
    underway = store.run(once(second, submit_uuid, endpoint="builder-2"))
    stored = store.run(job.get(first))
    assert underway == Underway(first, "builder-1", stored.started_at, stored.heartbeat_at)
    with pytest.raises(NotFound):
        store.run(job.get(second))
    # Another build is another matter.
    assert isinstance(store.run(once(other, submit_uuid, script="make test")), Started)
    store.run(finish(other))
    assert isinstance(store.run(once(second, submit_uuid)), Underway)

    made = store.run(finish(first, "out/b", "out/a"))
    reuse = store.run(once(second, submit_uuid))
    assert reuse == Reuse(first, later(60), made)
    assert store.run(once(first, submit_uuid)) == started


def test_what_is_under_way_is_known_without_the_one_that_it_replaces(
    store: AnyStore, submit_uuid: UUID, connection: psycopg.Connection[Any]
) -> None:
    useless, second, third = uuid7(), uuid7(), uuid7()
    store.run(once(useless, submit_uuid))
    store.run(finish(useless))
    assert isinstance(store.run(once(second, submit_uuid, besides=(useless,))), Started)
    # As prune does.
    connection.execute("DELETE FROM job WHERE uuid = %s", [useless])
    connection.commit()
    underway = store.run(once(third, submit_uuid))
    assert isinstance(underway, Underway)
    assert underway.job_uuid == second


@pytest.mark.parametrize("state", ["error", "lost"])
def test_after_one_that_came_to_nothing_the_next_one_starts(
    state: job.EndState, store: AnyStore, submit_uuid: UUID
) -> None:
    first, second = uuid7(), uuid7()
    store.run(once(first, submit_uuid))
    store.run(finish(first, state=state))
    assert isinstance(store.run(once(second, submit_uuid)), Started)


def test_what_was_done_without_a_claim_is_reused(store: AnyStore, submit_uuid: UUID) -> None:
    plain, recorded, second = uuid7(), uuid7(), uuid7()
    store.run(start(plain, submit_uuid))
    # It keeps nobody from anything while it runs.
    assert isinstance(store.run(once(second, submit_uuid)), Started)
    underway = store.run(once(uuid7(), submit_uuid))
    assert isinstance(underway, Underway)
    assert underway.job_uuid == second
    store.run(finish(plain))
    assert store.run(once(uuid7(), submit_uuid)) == Reuse(plain, later(60), ())
    store.run(finish(second))
    store.run(job.record(ended(recorded, submit_uuid, started_at=later(2))))
    assert store.run(once(uuid7(), submit_uuid)) == Reuse(recorded, later(60), ())
    # Of those that started together, the last one by uuid.
    store.run(job.record(ended(UUID(int=1), submit_uuid, started_at=later(2))))
    assert store.run(once(uuid7(), submit_uuid)) == Reuse(recorded, later(60), ())


def test_results_of_no_use_are_made_again_once(store: AnyStore, submit_uuid: UUID) -> None:
    plain, claimed, third, fourth = (uuid7() for _ in range(4))
    store.run(once(claimed, submit_uuid), finish(claimed))
    store.run(job.record(ended(plain, submit_uuid)))
    assert store.run(once(third, submit_uuid, (plain,))) == Reuse(claimed, later(60), ())
    assert isinstance(store.run(once(third, submit_uuid, (plain, claimed))), Started)
    underway = store.run(once(fourth, submit_uuid, (plain, claimed)))
    assert isinstance(underway, Underway)
    store.run(finish(third, finished_at=later(61)))
    reuse = store.run(once(fourth, submit_uuid, (plain, claimed)))
    assert reuse == Reuse(third, later(61), ())
    assert isinstance(store.run(once(fourth, submit_uuid, (plain, claimed, third))), Started)


def test_a_silent_one_is_lost_and_its_place_taken(
    store: AnyStore, submit_uuid: UUID, connection: psycopg.Connection[Any]
) -> None:
    first, second, third = uuid7(), uuid7(), uuid7()
    store.run(once(first, submit_uuid))
    store.run(job.append_log(first, seq=0, data="so far"))
    assert isinstance(store.run(once(second, submit_uuid)), Underway)
    connection.execute("UPDATE job SET heartbeat_at = heartbeat_at - interval '59 minutes'")
    assert isinstance(store.run(once(second, submit_uuid)), Underway)
    connection.execute("UPDATE job SET heartbeat_at = heartbeat_at - interval '2 minutes'")
    silent = start(uuid7(), submit_uuid, script="make test")
    store.run(silent)
    connection.execute("UPDATE job SET heartbeat_at = now() - interval '1 day'")
    assert isinstance(store.run(once(second, submit_uuid)), Started)
    assert store.run(job.get(first)).state == "lost"
    assert store.run(job.log(first)) == "so far"
    with pytest.raises(NotRunning):
        store.run(finish(first))
    # Nobody else's silence matters.
    assert [one.state for one in store.run(report.jobs(state="running"))] == ["running"] * 2
    assert isinstance(store.run(once(third, submit_uuid)), Underway)


def test_what_is_refused(store: AnyStore, submit_uuid: UUID) -> None:
    uuid = uuid7()
    for silent_for in (timedelta(0), timedelta(days=400_000)):
        with pytest.raises(InvalidInput, match="silent_for is"):
            job.once(start(uuid, submit_uuid), silent_for=silent_for)
    for other in (job.record(ended(uuid, submit_uuid)), job.get(uuid), finish(uuid)):
        with pytest.raises(InvalidInput, match=r"start must be what job\.start gives"):
            job.once(other, silent_for=HOUR)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="start must be a Statement, not UUID"):
        job.once(uuid, silent_for=HOUR)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="besides"):
        once(uuid, submit_uuid, (uuid, uuid))
    # Where a shared value is unknown, that alone keeps the first attempt from writing.
    store.run(start(uuid7(), submit_uuid))
    with pytest.raises(NotFound, match="there is no submit"):
        store.run(once(uuid, uuid7()))
    with pytest.raises(NotFound, match="there is no artifact"):
        store.run(once(uuid, submit_uuid, inputs=[uuid7()]))


def test_what_is_unknown_is_not_the_same(
    store: AnyStore, submit_uuid: UUID, connection: psycopg.Connection[Any]
) -> None:
    source, other = store.run(artifact.register("src", sha256=sha256("src"), size=3)), uuid7()
    connection.execute("UPDATE artifact SET sha256 = NULL")
    store.run(start(other, submit_uuid))
    with pytest.raises(InvalidInput, match="the content of one is unknown"):
        store.run(once(uuid7(), submit_uuid, inputs=[source]))
    assert [one.uuid for one in store.run(report.jobs())] == [other]


def test_together_with_others(store: AnyStore, submit_uuid: UUID) -> None:
    """All or none, whatever becomes of the one that is to be done once."""
    first, request = uuid7(), uuid7()
    started, _ = store.run(once(first, submit_uuid), create(request, image="new"))
    assert isinstance(started, Started)
    later_one = uuid7()
    _, underway = store.run(create(later_one, image="newer"), once(uuid7(), submit_uuid))
    assert isinstance(underway, Underway)
    assert store.run(submit.get(later_one)).image == "newer"


@pytest.fixture
def waiting(dsn: str, schema: str, connection: psycopg.Connection[Any]) -> Any:
    """Run a statement in a thread; tell whether it waits for a transaction, and what came of it."""
    answers: list[Any] = []

    def run(statement: Statement[object]) -> None:
        with Store.connect(dsn, schema=schema) as other:
            answers.append(other.run(statement))

    def begin(statement: Statement[object]) -> tuple[threading.Thread, list[Any]]:
        thread = threading.Thread(target=run, args=(statement,))
        thread.start()
        waits = (
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
            " AND wait_event_type = 'Lock' AND query LIKE '%job/insert%'"
        )
        while not connection.execute(waits).fetchone():
            assert thread.is_alive()
        return thread, answers

    return begin


@pytest.mark.parametrize("state", ["success", "error"])
def test_whoever_comes_while_it_ends_waits_for_how(
    state: job.EndState, dsn: str, schema: str, waiting: Any
) -> None:
    """The statement looked before the end was committed; the unique index is asked after it."""
    of_submit, first, second = uuid7(), uuid7(), uuid7()
    with Store.connect(dsn, schema=schema) as store:
        store.run(create(of_submit), once(first, of_submit))
    with psycopg.connect(dsn) as connection:
        open_schema(connection, schema)
        Store(connection).run(finish(first, state=state))
        thread, answers = waiting(once(second, of_submit))
        connection.commit()
    thread.join()
    if state == "success":
        assert answers == [Reuse(first, later(60), ())]
    else:
        assert isinstance(answers[0], Started)


def test_two_that_take_over_at_once(
    dsn: str, schema: str, waiting: Any, connection: psycopg.Connection[Any]
) -> None:
    of_submit, first, second, third = (uuid7() for _ in range(4))
    with Store.connect(dsn, schema=schema) as store:
        store.run(create(of_submit), once(first, of_submit))
    connection.execute("UPDATE job SET heartbeat_at = now() - interval '1 day'")
    with psycopg.connect(dsn) as own:
        open_schema(own, schema)
        assert isinstance(Store(own).run(once(second, of_submit)), Started)
        thread, answers = waiting(once(third, of_submit))
        own.commit()
    thread.join()
    assert [type(one) for one in answers] == [Underway]
    assert answers[0].job_uuid == second


# In a block ------------------------------------------------------------------------------------

SAID: dict[str, Any] = {
    "package": "zlib",
    "version": "1.3",
    "image": "debian:12",
    "endpoint": "builder-1",
    "script": "make",
    "env": {"CC": "gcc"},
}


def block(store: Any, of_submit: UUID, once: timedelta | None = HOUR, **changes: Any) -> Any:
    return build(store, uuid7(), submit=of_submit, **SAID, once=once, **changes)


@pytest.fixture
def own(dsn: str, schema: str) -> Iterator[Store]:
    with Store.connect(dsn, schema=schema) as opened:
        yield opened


@pytest.fixture
def of_submit(own: Store) -> UUID:
    uuid = uuid7()
    own.run(create(uuid))
    return uuid


def test_a_block_gets_the_result_of_another(own: Store, of_submit: UUID) -> None:
    with block(own, of_submit) as first:
        assert first.reuse is None
        made = first.finish("success", [Output("out/a", sha256("a"), 1)])
    with block(own, of_submit) as second:
        assert (second.reuse.job_uuid, second.reuse.outputs) == (first.uuid, made)
        for refused in (second.check, lambda: second.log("so"), lambda: second.finish("error")):
            with pytest.raises(NotRunning, match=f"job {first.uuid} has done the same"):
                refused()
    with pytest.raises(KeyError), block(own, of_submit) as third:
        raise KeyError(third.uuid)
    assert [one.uuid for one in own.run(report.jobs())] == [first.uuid]
    # Its file is gone.
    with block(own, of_submit, besides=[first.uuid]) as fourth:
        assert fourth.reuse is None
        fourth.finish("success")


def test_a_block_waits_for_another(dsn: str, schema: str, own: Store, of_submit: UUID) -> None:
    kinds: list[type] = []

    class Looking(Store):
        def run(self, *statements: Statement[Any]) -> Any:
            value: Any = super().run(*statements)
            if isinstance(value, Started | Underway | Reuse):
                kinds.append(type(value))
            if kinds == [Underway] * 3:
                own.run(finish(first_uuid))
            return value

    first_uuid = uuid7()
    own.run(job.once(start(first_uuid, of_submit, **SAID), silent_for=HOUR))
    with Looking.connect(dsn, schema=schema) as store, block(store, of_submit) as running:
        assert running.reuse.job_uuid == first_uuid
    assert kinds == [Underway, Underway, Underway, Reuse]


def test_a_block_that_is_awaited(dsn: str, schema: str, of_submit: UUID) -> None:
    async def main() -> None:
        async with AsyncStore.pooled(dsn, schema=schema) as store:
            built: list[UUID] = []

            async def work() -> UUID:
                async with block(store, of_submit) as running:
                    if running.reuse:
                        return cast(UUID, running.reuse.job_uuid)
                    built.append(running.uuid)
                    await running.finish("success")
                    return cast(UUID, running.uuid)

            assert await asyncio.gather(*(work() for _ in range(5))) == built * 5
            assert len(built) == 1

    asyncio.run(main())


def test_a_block_does_not_wait_for_longer(own: Store, of_submit: UUID) -> None:
    with block(own, of_submit) as first:
        for wait in (0, 0.01):
            with (
                pytest.raises(Unavailable, match=f"job {first.uuid} on builder-1 has been doing"),
                block(own, of_submit, wait=wait),
            ):
                raise AssertionError
        first.finish("success")
    assert [one.uuid for one in own.run(report.jobs())] == [first.uuid]


def test_a_block_that_is_interrupted_while_it_waits(
    dsn: str, schema: str, own: Store, of_submit: UUID
) -> None:
    async def main() -> None:
        waits = asyncio.Event()

        class Telling(AsyncStore):
            async def run(self, *statements: Statement[Any]) -> Any:
                value: Any = await super().run(*statements)
                waits.set()
                return value

        async with Telling.connect(dsn, schema=schema) as store:
            with block(own, of_submit) as first:

                async def work() -> None:
                    async with block(store, of_submit):
                        raise AssertionError

                task = asyncio.create_task(work())
                # From then on it stops only to wait.
                await waits.wait()
                task.cancel()
                with pytest.raises(asyncio.CancelledError) as caught:
                    await task
                assert not hasattr(caught.value, "__notes__")
                first.finish("success")

    asyncio.run(main())


def test_what_a_block_refuses(own: Store, of_submit: UUID) -> None:
    for said in ({"wait": 1}, {"besides": [uuid7()]}):
        with pytest.raises(InvalidInput, match="only with once"):
            block(own, of_submit, None, **said)
    with pytest.raises(InvalidInput, match="once is 0:00:00"):
        block(own, of_submit, timedelta(0))
    with pytest.raises(InvalidInput, match="once is 0:00:01"):
        block(own, of_submit, timedelta(seconds=1))
    with pytest.raises(InvalidInput, match="wait is -1"):
        block(own, of_submit, wait=-1)


# Processes that are killed ----------------------------------------------------------------------

BUILDER = Path(__file__).with_name("once_builder.py")


def test_killed_at_random_each_build_is_done_once(dsn: str, schema: str, own: Store) -> None:
    """Whoever waits for a killed one takes over; `--hypothesis-profile thorough` takes minutes."""
    full = settings.get_current_profile_name() == "thorough"
    processes, builds, kills, silent_for = (16, 50, 24, 10) if full else (4, 10, 3, 4)
    seed = random.randrange(2**32)
    chance, request, killed = random.Random(seed), uuid7(), set[str]()
    own.run(create(request))
    running: dict[int, subprocess.Popen[str]] = {}

    def begin() -> None:
        arguments = [dsn, schema, str(request), str(chance.random()), str(builds), str(silent_for)]
        process = subprocess.Popen(
            [sys.executable, str(BUILDER), *arguments],
            env={**os.environ, "PYTHONPATH": str(BUILDER.parents[1])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout
        running[process.stdout.fileno()] = process

    def end(process: subprocess.Popen[str]) -> int:
        with process:
            del running[process.stdout.fileno()]  # type: ignore[union-attr]
        return process.returncode

    for _ in range(processes):
        begin()
    try:
        while running:
            ready, _, _ = select.select([*running], [], [])
            process = running[chance.choice(ready)]
            assert process.stdout
            assert process.stdin
            if not process.stdout.readline():
                assert end(process) == 0, seed
                continue
            # Either before the builder goes on, or at whatever it does then.
            kill = len(killed) < kills and chance.random() < 0.3
            if not kill or chance.random() < 0.5:
                process.stdin.write("\n")
                process.stdin.flush()
            if kill:
                killed.add(f"builder-{process.pid}")
                process.kill()
                end(process)
                begin()
    finally:
        for process in [*running.values()]:
            process.kill()
            end(process)
    jobs = own.run(report.jobs(limit=None))
    done = Counter(one.version for one in jobs if one.state == "success")
    assert done == {str(number): 1 for number in range(builds)}, seed
    assert {one.state for one in jobs} <= {"success", "lost"}, seed
    # No other than a killed one was taken for lost.
    assert {one.endpoint for one in jobs if one.state == "lost"} <= killed, seed
