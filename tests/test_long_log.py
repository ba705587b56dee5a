"""Logs that no text can hold, and logs that were removed: each is told, and the rest goes on."""

import json
from collections.abc import Mapping
from datetime import timedelta
from itertools import accumulate
from uuid import UUID

import psycopg
import pytest
from conftest import AnyStore
from hypothesis import example, given
from hypothesis import strategies as st
from samples import create, ended, finish, later, start
from shell import Run

from butido_store import Store, job, log, report, uuid7
from butido_store._query import query
from butido_store._statement import Step
from butido_store.errors import Conflict, LogRemoved, NotFound, NotRunning

Connection = psycopg.Connection[tuple[object, ...]]


def remove_log(connection: Connection, uuid: UUID) -> None:
    connection.execute("UPDATE job SET log = NULL WHERE uuid = %s", [uuid])


# Removed ----------------------------------------------------------------------------------------


def test_a_removed_log_is_no_empty_one(store: AnyStore, connection: Connection) -> None:
    of_submit, removed, empty = uuid7(), uuid7(), uuid7()
    store.run(create(of_submit))
    store.run(job.record(ended(removed, of_submit, log="é\n")))
    store.run(job.record(ended(empty, of_submit, log="")))
    remove_log(connection, removed)
    for ask in (job.log, job.log_after):
        with pytest.raises(LogRemoved, match=f"the log of job {removed} was removed"):
            store.run(ask(removed))
    assert issubclass(LogRemoved, NotFound)
    assert (store.run(job.log(empty)), store.run(job.log_after(empty)).text) == ("", "")
    told = {removed: (3, True), empty: (0, False)}
    for uuid, expected in told.items():
        one = store.run(job.get(uuid))
        (page,) = store.run(report.job(uuid, log=True))
        found = connection.execute(
            "SELECT log_size, log_removed FROM job_overview WHERE uuid = %s", [uuid]
        ).fetchone()
        assert (one.log_size, one.log_removed) == (page.log_size, page.log_removed) == expected
        assert found == expected
        assert page.log == (None if uuid == removed else "")
    assert {row.uuid: (row.log_size, row.log_removed) for row in store.run(report.jobs())} == told
    assert connection.execute(
        "SELECT uuid, job_log(uuid) FROM job ORDER BY log_size"
    ).fetchall() == [(empty, ""), (removed, None)]


def test_a_removed_log_is_told_in_a_loop_and_in_the_shell(
    dsn: str, schema: str, connection: Connection, run: Run
) -> None:
    of_submit, one = uuid7(), uuid7()
    with Store.connect(dsn, schema=schema) as store:
        store.run(create(of_submit), job.record(ended(one, of_submit)))
        remove_log(connection, one)
        with pytest.raises(LogRemoved):
            [*log.follow(store, one)]
    options = ("--dsn", dsn, "--schema", schema)
    for follow in ([], ["--follow"]):
        done = run(*options, "log-of", *follow, str(one))
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"Error: the log of job {one} was removed\n"
    page = run(*options, "job", "-L", str(one)).stdout.splitlines()
    assert ["log_size", "5"] in map(str.split, page)
    assert "log_removed" in {line.split()[0] for line in page if line}
    (row,) = json.loads(run(*options, "job", "-L", str(one), "--format", "json").stdout)
    assert (row["log"], row["log_size"], row["log_removed"]) == (None, 5, True)


def test_a_write_is_known_after_the_log_was_removed(
    store: AnyStore, connection: Connection
) -> None:
    of_submit, whole, in_pieces = uuid7(), uuid7(), uuid7()
    store.run(create(of_submit))
    store.run(job.record(ended(whole, of_submit, log="né\n")))
    store.run(start(in_pieces, of_submit))
    pieces = [
        job.append_log(in_pieces, seq=seq, data=data) for seq, data in enumerate(["n", "é\n"])
    ]
    for one in (*pieces, finish(in_pieces)):
        store.run(one)
    for uuid in (whole, in_pieces):
        remove_log(connection, uuid)
    store.run(job.record_all([ended(whole, of_submit, log="né\n")]))
    for statement in (finish(in_pieces), job.record(ended(whole, of_submit, log="né\n"))):
        store.run(statement)
    # Another piece may be as long.
    for one in pieces:
        with pytest.raises(NotRunning):
            store.run(one)
    # Of as many bytes, for all that is known.
    store.run(job.record(ended(whole, of_submit, log="no!\n")))
    with pytest.raises(Conflict, match=r"other content: log$"):
        store.run(job.record(ended(whole, of_submit, log="né")))
    for seq, data in [(1, "é"), (2, "é\n")]:
        with pytest.raises(NotRunning):
            store.run(job.append_log(in_pieces, seq=seq, data=data))


# Too long for a text ----------------------------------------------------------------------------


def smaller(name: str, size: str, values: Mapping[str, object]) -> tuple[bytes, list[object]]:
    """Return a query as the library sends it, with a lower limit in bytes in its text."""
    text, parameters = Step(query(name), values).rendered()
    assert size.encode() in text
    return text.replace(size.encode(), b"8"), parameters


@pytest.fixture
def running(connection: Connection, dsn: str, schema: str) -> UUID:
    """The uuid of a job that is running."""
    of_submit, uuid = uuid7(), uuid7()
    with Store.connect(dsn, schema=schema) as store:
        store.run(create(of_submit), start(uuid, of_submit))
    return uuid


@given(
    pieces=st.lists(st.text("ab\n\ré", max_size=9), max_size=9),
    state=st.sampled_from(["running", "error", "lost"]),
)
@example(pieces=["aaaaaa\n", "a", "a", "bbbbbbbb", "\na"], state="error")
@example(pieces=["aaaa", "aaaaaaa\né", "aa", "a"], state="running")
@example(pieces=["aaaa", "\nbbb"], state="error")
@example(pieces=["error: a\n", "b" * 80_001 + "\n", "error: é\n"], state="error")
@example(pieces=["a\n", "error: a\n" + "b" * 41_000], state="error")
@example(pieces=["aaaa", "\nbbb"], state="lost")
@example(pieces=["aaaa", "\nbbbb"], state="lost")
def test_pieces_are_the_whole_log(
    pieces: list[str], state: str, running: UUID, connection: Connection
) -> None:
    """With limits of 8 bytes, as for a log over 512 MiB: in each way to read it all is there."""
    whole = "".join(pieces)
    with psycopg.RawCursor(connection) as cursor, connection.transaction(force_rollback=True):
        for seq, text in enumerate(pieces):
            cursor.execute("INSERT INTO job_log_chunk VALUES ($1, $2, $3)", [running, seq, text])
        if state == "error":
            _, end, delete = finish(running, state="error").steps
            cursor.execute(*smaller("job/end", "536870912", end.parameters))
            cursor.execute(*delete.rendered())
        if state == "lost":
            cursor.execute("UPDATE job SET heartbeat_at = heartbeat_at - interval '1 hour'")
            _, sweep, *_ = job.sweep(silent_for=timedelta(minutes=1)).steps
            cursor.execute(*smaller("job/sweep", "536870912", sweep.parameters))
        cursor.execute("SELECT log, log_size, failure FROM job WHERE uuid = $1", [running])
        row = cursor.fetchone()
        if state != "running":
            size = len(whole.encode())
            cursor.execute("SELECT failure_lines($1::text)", [whole])
            failure = (cursor.fetchone() or ()) if state == "error" else (None,)
            assert row == ("" if size > 8 else whole, size, *failure)
        texts = cursor.execute(*smaller("job/log", "268435456", {"job": running})).fetchall()
        assert "".join(str(text) for (text,) in texts) == whole
        assert all(len(str(text).encode()) <= 8 or text in pieces for (text,) in texts)
        seen: list[str] = []
        after: dict[str, object] = {}
        for _ in range(len(pieces) + 1):
            values = {"job": running, "characters": len("".join(seen)), **after}
            cursor.execute(*smaller("job/log_after", "16777216", values))
            (found,) = cursor.fetchall()
            seen.append(str(found[1]))
            if found[2] is None:
                break
            after = {"after": found[2]}
        assert "".join(seen) == whole
        assert found[2] is None
        cursor.execute(*smaller("report/search_log", "16777216", {"regex": "."}))
        lines = [(line[5], line[6]) for line in cursor.fetchall()]
        # Of each character the piece that is searched together, when chunks are put in pieces of 8.
        starts = accumulate((len(text.encode()) for text in pieces), initial=0)
        searched = [at // 8 for at, text in zip(starts, pieces, strict=False) for _ in text]
        if state != "running" and len(whole.encode()) <= 8:
            searched = [0] * len(whole)
        expected, first = list[tuple[int, str]](), 0
        for number, full in enumerate(whole.split("\n"), 1):
            # A line begins at the break before it, and is cut where it leaves the piece after that.
            places = [*dict.fromkeys(searched[max(first - 1, 0) : first + len(full)])][:2]
            kept = [place in places for place in searched[first : first + len(full)]]
            if full:
                expected.append((number, full[: sum(kept)]))
            first += len(full) + 1
        assert lines == expected


def test_a_log_of_more_than_a_gigabyte_is_ended_and_read(
    dsn: str, schema: str, running: UUID, connection: Connection
) -> None:
    size = 1 << 26
    connection.execute("INSERT INTO job_log_chunk SELECT %s, 0, repeat('x', %s)", [running, size])
    # Copies of a long text that is stored already are not compressed again.
    connection.execute(
        "INSERT INTO job_log_chunk SELECT c.job_uuid, g.seq, c.chunk"
        " FROM job_log_chunk AS c, generate_series(1, 16) AS g (seq)"
    )
    end = "\na.c:3: error: 'x'\nneedle\n"
    with Store.connect(dsn, schema=schema) as store:
        store.run(job.append_log(running, seq=17, data=end))
        store.run(finish(running, state="error", finished_at=later(9)))
        one = store.run(job.get(running))
        (failure,) = store.run(report.failures())
        (page,) = store.run(report.job(running, log=True))
        first = next(iter(log.follow(store, running)))
        last = store.run(job.log_after(running, after=16))
    assert failure.lines == "a.c:#: error: 'x'"
    assert one.log_size == page.log_size == 17 * size + len(end)
    assert (page.log, page.log_removed) == (None, False)
    assert (len(first), last.text) == (size, end)
