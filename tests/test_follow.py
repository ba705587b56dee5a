"""Following a log: each line as it comes, to the job's end, also over a restart of the server."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from conftest import AnyStore
from hypothesis import given
from hypothesis import strategies as st
from samples import create, finish, start

from butido_store import AsyncStore, Store, job, log, uuid7
from butido_store.admin.migrate import Migrator
from butido_store.embedded import Server
from butido_store.errors import NotFound

pytestmark = pytest.mark.any_server

_PROGRAM = (sys.executable, "-m", "butido_store")


@contextmanager
def following(dsn: str, schema: str, what: str) -> Iterator[subprocess.Popen[str]]:
    """Follow a log in a process of its own, which ends with the test."""
    process = subprocess.Popen(
        [*_PROGRAM, "--dsn", dsn, "--schema", schema, "log-of", "--follow", what],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    """Return the next line that it prints."""
    assert process.stdout is not None
    return process.stdout.readline()


def test_lines_come_while_the_job_runs_and_end_with_it(dsn: str, schema: str) -> None:
    of_submit, one = uuid7(), uuid7()
    with Store.connect(dsn, schema=schema) as store:
        store.run(create(of_submit), start(one, of_submit))
        store.run(job.append_log(one, seq=0, data="before\n"))
        with following(dsn, schema, str(one)) as process:
            assert line(process) == "before\n"
            for seq, text in enumerate(["one\n", "a\\b é\0\n", "three\n"], 1):
                store.run(job.append_log(one, seq=seq, data=text))
                assert line(process) == text.replace("\0", "\\x00")
            # The last piece comes in the same moment as the end.
            store.run(job.append_log(one, seq=4, data="four\nfive"), finish(one))
            assert line(process) == "four\n"
            assert line(process) == "five"
            assert process.wait(60) == 0


def test_a_restart_of_the_server_is_survived(short_directory: Path) -> None:
    of_submit, one = uuid7(), uuid7()
    with Server(short_directory) as server:
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            Migrator(connection).apply()
        with Store.connect(server.dsn) as store:
            store.run(create(of_submit), start(one, of_submit))
            store.run(job.append_log(one, seq=0, data="one\n"))
            with following(server.dsn, "butido", str(one)) as process:
                assert line(process) == "one\n"
                server.stop()
                server.start()
                store.run(job.append_log(one, seq=1, data="two\n"))
                assert line(process) == "two\n"
                store.run(job.append_log(one, seq=2, data="three\n"), finish(one))
                assert line(process) == "three\n"
                assert line(process) == ""
                assert process.wait(60) == 0


def test_without_follow_it_prints_what_there_is(dsn: str, schema: str) -> None:
    of_submit, one = uuid7(), uuid7()
    with Store.connect(dsn, schema=schema) as store:
        store.run(create(of_submit), start(one, of_submit))
        store.run(job.append_log(one, seq=0, data="so far"))
    command = [*_PROGRAM, "--dsn", dsn, "--schema", schema, "log-of", str(one)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stdout, done.stderr, done.returncode) == ("so far", "", 0)


def test_what_reads_it_may_stop_reading(dsn: str, schema: str) -> None:
    of_submit = uuid7()
    with Store.connect(dsn, schema=schema) as store:
        store.run(create(of_submit))
        store.run(*(start(uuid7(), of_submit) for _ in range(3000)))
    command = [*_PROGRAM, "--dsn", dsn, "--schema", schema]
    process = subprocess.Popen(
        [*command, "jobs", "--limit=0", "--format=jsonl"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert "uuid" in json.loads(process.stdout.readline())
    process.stdout.close()
    with process.stderr:
        assert "Traceback" not in process.stderr.read()
    process.wait(60)


@given(
    pieces=st.lists(st.text(alphabet="ab\n\\é😀\0", max_size=6), max_size=6),
    asks=st.sets(st.integers(0, 6)),
)
def test_the_pieces_are_the_log(store: AnyStore, pieces: list[str], asks: set[int]) -> None:
    """Whenever it is asked between the pieces, and after the end, nothing is missing or double."""
    of_submit, one = uuid7(), uuid7()
    store.run(create(of_submit), start(one, of_submit))
    seen, after = "", None

    def ask() -> str:
        nonlocal seen, after
        piece = store.run(job.log_after(one, after=after, characters=len(seen)))
        seen += piece.text
        after = after if piece.seq is None else piece.seq
        return piece.state

    for seq, data in enumerate(pieces):
        if seq in asks:
            assert ask() == "running"
        store.run(job.append_log(one, seq=seq, data=data))
    store.run(finish(one))
    assert ask() == "success"
    assert seen == store.run(job.log(one))
    assert ask() == "success"
    assert seen == store.run(job.log(one))


def test_a_job_that_is_not_there_has_no_log(store: AnyStore) -> None:
    with pytest.raises(NotFound):
        store.run(job.log_after(uuid7()))


def test_a_loop_gets_each_piece_and_ends_with_the_job(dsn: str, schema: str) -> None:
    of_submit, one = uuid7(), uuid7()
    with Store.connect(dsn, schema=schema) as store:
        store.run(create(of_submit), start(one, of_submit))
        following = log.follow(store, one, every=0)
        texts = iter(following)
        store.run(job.append_log(one, seq=0, data="one"))
        assert next(texts) == "one"
        store.run(*(job.append_log(one, seq=seq, data=f"{seq}\0\n") for seq in (1, 2)))
        assert next(texts) == "1\\x00\n2\\x00\n"
        left = iter(following)
        assert next(left) == "one1\\x00\n2\\x00\n"
        left.close()
        # The last piece comes in the same moment as the end.
        store.run(job.append_log(one, seq=3, data="last"), finish(one))
        assert [*texts] == ["last"]
        assert [*following] == [*log.follow(store, one)] == [store.run(job.log(one))]
        with pytest.raises(NotFound):
            next(iter(log.follow(store, uuid7())))


def test_a_loop_that_awaits_gets_the_same(dsn: str, schema: str) -> None:
    of_submit, one = uuid7(), uuid7()

    async def main() -> None:
        async with AsyncStore.connect(dsn, schema=schema) as store:
            await store.run(create(of_submit), start(one, of_submit))
            following = log.follow(store, one, every=0)
            texts = aiter(following)
            await store.run(job.append_log(one, seq=0, data="one"))
            assert await anext(texts) == "one"
            # While it waits for more, others go on.
            more = asyncio.create_task(anext(texts))
            await store.run(job.append_log(one, seq=1, data="two"))
            assert await more == "two"
            await store.run(job.append_log(one, seq=2, data="last"), finish(one))
            assert [text async for text in texts] == ["last"]
            assert [text async for text in following] == [await store.run(job.log(one))]
            with pytest.raises(NotFound):
                await anext(aiter(log.follow(store, uuid7())))

    asyncio.run(asyncio.wait_for(main(), 60))


def test_the_wrong_kind_of_loop_is_refused(dsn: str, schema: str) -> None:
    async def main() -> None:
        async with AsyncStore.connect(dsn, schema=schema) as store:
            with pytest.raises(TypeError, match="AsyncStore takes `async for`"):
                iter(log.follow(store, uuid7()))

    asyncio.run(main())
    with (
        Store.connect(dsn, schema=schema) as store,
        pytest.raises(TypeError, match="Store takes `for`"),
    ):
        aiter(log.follow(store, uuid7()))
