"""Reads from a standby: what the store itself wrote is there, or the primary is asked."""

import asyncio
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import psycopg
import pytest
from conftest import AnyStore, Awaited
from hypothesis import settings
from psycopg.conninfo import make_conninfo
from samples import create, finish, start
from standby import Pair

from butido_store import AsyncStore, Secrets, Store, _reader, artifact, job, report, submit, uuid7
from butido_store.errors import ConnectionFailed, InvalidInput, NotFound, StoreError, Unavailable

pytestmark = pytest.mark.any_server

KINDS = {
    "connection": Store.connect,
    "pool": Store.pooled,
    "awaited connection": AsyncStore.connect,
    "awaited pool": AsyncStore.pooled,
}
# A wait that a test would not survive.
LONG = 3600.0


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """A primary, and a standby that has all and shows it when it may."""
    with tempfile.TemporaryDirectory(prefix="butido-") as name:
        Path(name).chmod(0o755)
        both = Pair(Path(name), {})
        with both.running(synchronous=False):
            yield both


@contextmanager
def opened(pair: Pair, kind: str = "connection", **options: Any) -> Iterator[AnyStore]:
    """Open a store that reads from the standby, with connections of its name."""
    primary, standby = (
        make_conninfo(server.dsn, application_name="reader")
        for server in (pair.primary, pair.standby)
    )
    options = {"reader": standby, "reader_wait": LONG, **options}
    open_: Callable[..., Any] = KINDS[kind]
    store = Awaited(lambda: open_(primary, **options)) if "awaited" in kind else None
    with closing(store or open_(primary, **options)) as one:
        yield cast(AnyStore, one)


@contextmanager
def plain(pair: Pair) -> Iterator[Store]:
    """Open another store, that writes and reads on the primary."""
    with Store.connect(pair.primary.dsn) as store:
        yield store


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what the store warned of; a pool says more."""
    return [said.getMessage() for said in caplog.records if said.name == "butido_store"]


def until(server_dsn: str, query: str) -> None:
    """Ask until something is so."""
    with psycopg.connect(server_dsn, autocommit=True) as connection:
        while connection.execute(query.encode()).fetchone() != (True,):
            time.sleep(0.01)


def asks_whether_it_is_there(pair: Pair) -> None:
    """Wait until a store has found the standby behind, and asks nothing else of it."""
    until(
        pair.standby.dsn,
        "SELECT count(*) > 0 FROM pg_stat_activity"
        " WHERE application_name = 'reader' AND query LIKE '%/* store/replayed */%'",
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_read_waits_for_what_the_store_wrote(
    kind: str, pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    one = uuid7()
    with opened(pair, kind) as store, ThreadPoolExecutor(1) as thread:
        with pair.paused():
            store.run(create(one))
            found = thread.submit(store.run, report.submits(limit=None), submit.env(one))
            asks_whether_it_is_there(pair)
            assert not found.done()
        submits, env = found.result()
    assert one in {each.uuid for each in submits}
    assert env == {"LANG": "C.UTF-8"}
    assert not warnings(caplog)


@pytest.mark.parametrize("kind", KINDS)
def test_the_primary_answers_where_the_standby_is_behind_for_too_long(
    kind: str, pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = uuid7(), uuid7()
    with opened(pair, kind, reader_wait=0.05) as store, pair.paused():
        store.run(create(one))
        assert one in {each.uuid for each in store.run(report.submits(limit=None))}
        [said] = warnings(caplog)
        assert "the primary answers for 30 s in place of the reader" in said
        # Without another wait.
        store.run(create(other))
        assert other in {each.uuid for each in store.run(report.submits(limit=None))}
        assert [said] == warnings(caplog)


def test_what_others_wrote_is_there_when_the_standby_has_it(pair: Pair) -> None:
    of_submit, one = uuid7(), uuid7()
    with opened(pair) as store, plain(pair) as other, pair.paused():
        other.run(create(of_submit), start(one, of_submit))
        assert of_submit not in {each.uuid for each in store.run(report.submits(limit=None))}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_found_the_primary_is_asked_for(kind: str, pair: Pair) -> None:
    of_submit, one, none = uuid7(), uuid7(), uuid7()
    with opened(pair, kind, reader_wait=0) as store, plain(pair) as other, pair.paused():
        other.run(create(of_submit), start(one, of_submit))
        assert store.run(job.get(one)).state == "running"
        # It is not older than what the store has shown.
        assert one in {each.uuid for each in store.run(report.jobs(limit=None))}
        with pytest.raises(NotFound, match=str(none)):
            store.run(job.get(none))


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_after_what_the_standby_lacks_is_the_primarys(kind: str, pair: Pair) -> None:
    one, none = uuid7(), uuid7()
    asked = report.submits(before=one, limit=1)
    with plain(pair) as other, pair.paused():
        other.run(create(uuid7()), create(one))
        page = other.run(asked)
        assert page
        # Each is the first question of its store, which nothing has to wait for.
        with opened(pair, kind) as store:
            assert store.run(asked) == page
        with opened(pair) as store:
            assert isinstance(store, Store)
            assert [*store.stream(asked)] == page
        with opened(pair) as store, pytest.raises(NotFound, match=str(none)):
            store.run(report.submits(before=none))


def test_what_decides_a_write_is_asked_of_the_primary(pair: Pair) -> None:
    of_submit, one = uuid7(), uuid7()
    same: dict[str, Any] = {"package": str(one), "version": "1", "image": "i", "script": "s"}
    reusable = artifact.reusable(**same, env={}, inputs=[])
    with opened(pair) as store, plain(pair) as other, pair.paused():
        other.run(create(of_submit), start(one, of_submit, **same, env={}), finish(one))
        assert not store.run(report.jobs(package=str(one)))
        found = store.run(reusable)
        assert found is not None
        assert found.job_uuid == one


def test_a_stream_waits_for_what_the_store_wrote(pair: Pair) -> None:
    one, asked = uuid7(), report.submits(limit=None)
    with opened(pair) as store, plain(pair) as other, ThreadPoolExecutor(1) as thread:
        assert isinstance(store, Store)
        with pair.paused():
            other.run(create(one))
            assert one not in {each.uuid for each in store.stream(asked)}
            store.run(create(one))
            found = thread.submit(lambda: {each.uuid for each in store.stream(asked)})
            asks_whether_it_is_there(pair)
            assert not found.done()
        assert one in found.result()
    with opened(pair, reader_wait=0.05) as store, pair.paused():
        assert isinstance(store, Store)
        store.run(create(two := uuid7()))
        assert two in {each.uuid for each in store.stream(asked)}


def test_a_stream_that_is_awaited_waits_for_it(pair: Pair) -> None:
    one = uuid7()

    async def streamed() -> set[UUID]:
        async with AsyncStore.connect(
            pair.primary.dsn, reader=pair.standby.dsn, reader_wait=LONG
        ) as store:
            await store.run(create(one))
            return {each.uuid async for each in store.stream(report.submits(limit=None))}

    assert one in asyncio.run(streamed())


def test_what_others_have_begun_to_write_is_not_waited_for(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(pair, reader_wait=10.0) as store, psycopg.connect(pair.primary.dsn) as other:
        store.run(create(one := uuid7()))
        other.execute("SELECT pg_logical_emit_message(TRUE, '', '')")
        assert one in {each.uuid for each in store.run(report.submits(limit=None))}
    assert not warnings(caplog)


def test_what_is_not_on_the_disk_yet_is_waited_for(pair: Pair) -> None:
    dsn = make_conninfo(pair.primary.dsn, options="-c synchronous_commit=off")
    with Store.connect(dsn, reader=pair.standby.dsn, reader_wait=LONG) as store:
        for _ in range(2):
            store.run(create(one := uuid7()))
            assert one in {each.uuid for each in store.run(report.submits(limit=None))}


def test_a_reader_that_is_no_standby_is_not_asked(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(pair, reader=pair.primary.dsn) as store:
        store.run(create(one := uuid7()))
        assert one in {each.uuid for each in store.run(report.submits(limit=None))}
    [said] = warnings(caplog)
    assert "no standby" in said


@pytest.mark.parametrize("kind", ["connection", "awaited pool"])
def test_a_standby_that_is_down_loses_no_answer(
    kind: str, pair: Pair, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConnectionFailed, match=r"^reader: the connection string is not valid"):
        Store.connect(pair.primary.dsn, reader="hidden")
    with opened(pair, kind, reader="host=/nowhere password=hidden", reader_wait=0.1) as store:
        store.run(create(one := uuid7()))
        assert one in {each.uuid for each in store.run(report.submits(limit=None))}
        store.run(create(one))
    assert len(warnings(caplog)) == 1
    assert "hidden" not in caplog.text
    # One that comes back.
    monkeypatch.setattr(_reader, "_REST", 0.0)
    with opened(pair, kind, reader_wait=5.0) as store:
        store.run(report.submits())
        with psycopg.connect(pair.standby.dsn, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'reader'"
            )
        caplog.clear()
        store.run(report.submits())
        assert not warnings(caplog)


def write_on(store: Store) -> None:
    """Write for ever: a session of a server that was killed may still serve for a moment."""
    while True:
        store.run(create(uuid7()))


def test_a_standby_answers_where_the_primary_is_down(pair: Pair) -> None:
    with opened(pair, retry_for=0.0) as store:
        store.run(report.submits())
        pair.kill()
        try:
            store.run(report.submits())
            assert isinstance(store, Store)
            with pytest.raises(Unavailable):
                write_on(store)
            # Where it is not known how far that would have come, there is no answer.
            with pytest.raises(Unavailable):
                store.run(report.submits())
        finally:
            pair.restart()
    pair.until_it_confirms()


def test_a_query_that_the_standby_ends_is_asked_of_the_primary(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    waiting = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted"
    with (
        opened(pair, reader_wait=0) as store,
        ThreadPoolExecutor(1) as thread,
        psycopg.connect(pair.primary.dsn, autocommit=True) as connection,
    ):
        store.run(report.submits())
        with connection.transaction():
            connection.execute("LOCK TABLE butido.release")
            with psycopg.connect(pair.primary.dsn) as other:
                # With a commit the standby gets what came before, too.
                other.execute("SELECT pg_logical_emit_message(TRUE, '', '')")
            until(pair.standby.dsn, "SELECT count(*) > 0 FROM pg_locks WHERE mode ~ '^AccessEx'")
            found = thread.submit(store.run, report.submits(limit=1), report.releases())
            until(pair.standby.dsn, waiting)
            with psycopg.connect(pair.primary.dsn) as other:
                other.execute("LOCK TABLE butido.submit")
            until(pair.primary.dsn, waiting)
        found.result()
    # It was the query's fault, so that others go on there.
    assert not warnings(caplog)


def test_a_stream_that_the_standby_ends_says_so(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("butido_store._body._FETCH", 1)
    asked = report.submits(limit=None)
    with opened(pair) as store:
        assert isinstance(store, Store)
        store.run(create(uuid7()), create(uuid7()))
        rows = store.stream(asked)
        next(rows)
        with psycopg.connect(pair.primary.dsn) as other:
            other.execute("LOCK TABLE butido.submit")
        until(
            pair.standby.dsn,
            "SELECT count(*) = 0 FROM pg_stat_activity WHERE state = 'idle in transaction'",
        )
        with pytest.raises(Unavailable, match="conflict with recovery"):
            next(rows)
        assert len([*store.stream(asked)]) == len(store.run(asked))


def test_a_standby_counts_when_it_is_sure_of_the_timeline(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(pair) as store:
        store.run(create(uuid7()))
        store.run(report.submits())
        assert not warnings(caplog)
        pair.begin_timeline()
        store.run(create(one := uuid7()))
        assert one in {each.uuid for each in store.run(report.submits(limit=None))}
        [said] = warnings(caplog)
        assert "timeline" in said
    caplog.clear()
    with psycopg.connect(pair.primary.dsn, autocommit=True) as connection:
        connection.execute("CHECKPOINT")
    with psycopg.connect(pair.standby.dsn, autocommit=True) as connection:
        sure = None
        while sure != (True,):
            connection.execute("CHECKPOINT")
            found = connection.execute("SELECT timeline_id > 1 FROM pg_control_checkpoint()")
            sure = found.fetchone()
    with opened(pair) as store:
        store.run(create(one := uuid7()))
        assert one in {each.uuid for each in store.run(report.submits(limit=None))}
    assert not warnings(caplog)


def test_what_a_reader_cannot_be_is_refused_at_once(pair: Pair) -> None:
    for options, error, text in (
        ({"reader": 5}, InvalidInput, "reader"),
        ({"reader_wait": -1}, InvalidInput, "reader_wait"),
        ({"reader": "host"}, ConnectionFailed, "not valid"),
    ):
        for kind in KINDS:
            with pytest.raises(error, match=text), opened(pair, kind, **options):
                pass


def test_own_writes_are_read_whatever_happens_to_the_standby(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand, `--hypothesis-profile thorough`, a hundred faults, and to both servers."""
    thorough = settings.get_current_profile_name() == "thorough"
    monkeypatch.setattr(_reader, "_REST", 0.0)
    stop, moved, reads = threading.Event(), threading.Condition(), dict.fromkeys(KINDS, 0)

    def work(kind: str) -> None:
        with opened(pair, kind, reader_wait=0.2) as store:
            while not stop.is_set():
                store.run(create(one := uuid7(), actor=kind))
                [newest] = store.run(report.submits(actor=kind, limit=1))
                assert newest.uuid == one
                with moved:
                    reads[kind] += 1
                    moved.notify_all()

    def go_on() -> None:
        """Wait until each has read twice, or one has failed."""
        with moved:
            goals = {kind: number + 2 for kind, number in reads.items()}
            while any(reads[kind] < goals[kind] for kind in KINDS):
                moved.wait(timeout=1)
                for worker in workers:
                    if worker.done():
                        worker.result()

    with ThreadPoolExecutor(len(KINDS)) as threads:
        workers = [threads.submit(work, kind) for kind in KINDS]
        try:
            for _ in range(25 if thorough else 1):
                go_on()
                with pair.paused():
                    go_on()
                with psycopg.connect(pair.standby.dsn, autocommit=True) as connection:
                    connection.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE application_name = 'reader'"
                    )
                go_on()
                for server in (pair.standby, pair.primary) if thorough else ():
                    pair.kill(server)
                    if server is pair.standby:
                        go_on()
                    pair.restart(server)
                    go_on()
        finally:
            stop.set()
        for worker in workers:
            worker.result()
    pair.until_it_confirms()


def test_a_closed_store_reads_no_more(pair: Pair) -> None:
    for kind in ("connection", "pool"):
        with opened(pair, kind) as store:
            store.run(report.submits())
        with pytest.raises(StoreError, match="the store is closed"):
            store.run(report.submits())


def test_threads_share_a_reader(pair: Pair) -> None:
    def work(store: AnyStore, start: threading.Barrier) -> None:
        start.wait()
        for _ in range(5):
            store.run(create(one := uuid7()))
            assert one in {each.uuid for each in store.run(report.submits(limit=None))}

    for kind in ("connection", "pool"):
        start = threading.Barrier(4)
        with ExitStack() as stack:
            store = stack.enter_context(opened(pair, kind))
            threads = stack.enter_context(ThreadPoolExecutor(4))
            for found in [threads.submit(work, store, start) for _ in range(4)]:
                found.result()


@pytest.mark.parametrize("kind", KINDS)
def test_a_secret_is_looked_for_on_the_standby_by_its_digest(kind: str, pair: Pair) -> None:
    of_submit, one, later = uuid7(), uuid7(), uuid7()
    secrets, env = Secrets(b"only the builders have this key"), {"TOKEN": str(one)}
    asked, hidden = report.jobs(env=f"TOKEN={one}"), {"TOKEN": "<redacted>"}
    with opened(pair, kind, secrets=secrets) as store:
        store.run(create(of_submit, env=env), start(one, of_submit, env=env))
        assert store.run(job.env(one), submit.env(of_submit)) == (hidden, hidden)
        # What is not there yet shows who answers.
        with pair.paused(), Store.connect(pair.primary.dsn, secrets=secrets) as other:
            other.run(start(later, of_submit, env=env))
            assert [found.uuid for found in store.run(asked)] == [one]
            if isinstance(store, Store):
                assert [found.uuid for found in store.stream(asked)] == [one]
            assert {found.uuid for found in other.run(asked)} == {one, later}
    with opened(pair, kind, secrets=Secrets(bytes(16))) as store:
        assert store.run(asked) == []
    with opened(pair, kind) as store, pytest.raises(InvalidInput, match="TOKEN"):
        store.run(asked)
