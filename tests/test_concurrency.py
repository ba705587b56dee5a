"""Several at once, and crashes: nothing deadlocks, nothing acknowledged is lost or doubled."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from contention import contend
from samples import create, ended, finish, later, start

from butido_store import Store, job, uuid7
from butido_store._statement import Statement
from butido_store.admin.migrate import Migrator
from butido_store.embedded import Server
from butido_store.errors import Conflict, NotRunning, StoreError

pytestmark = pytest.mark.any_server


def test_processes_that_share_values_in_random_orders(dsn: str, schema: str) -> None:
    result = contend(dsn, schema=schema, processes=8, seconds=3)
    assert result.errors == []
    assert result.found == result.acknowledged > 0
    # Two that add the same missing value at once burn an id; retries of what is there do not.
    assert result.burnt <= sum(result.rows.values())


def _at_once(dsn: str, schema: str, *statements: Statement[object]) -> list[object]:
    """Run each statement on a connection of its own, all at once; return values and errors."""
    barrier = threading.Barrier(len(statements))
    answers: list[object] = []

    def run(statement: Statement[object]) -> None:
        with Store.connect(dsn, schema=schema) as store:
            barrier.wait()
            try:
                answers.append(store.run(statement))
            except StoreError as error:
                answers.append(error)

    threads = [threading.Thread(target=run, args=(statement,)) for statement in statements]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_two_that_start_the_same_uuid(dsn: str, schema: str) -> None:
    of_submit = uuid7()
    with Store.connect(dsn, schema=schema) as store:
        store.run(create(of_submit))
        for _ in range(10):
            uuid = uuid7()
            answers = _at_once(
                dsn, schema, *(start(uuid, of_submit, started_at=later(n)) for n in range(4))
            )
            # One has it; the others learn that somebody else does.
            assert sum(isinstance(answer, bytes) for answer in answers) == 1
            assert sum(isinstance(answer, Conflict) for answer in answers) == 3
            again = uuid7()
            answers = _at_once(dsn, schema, *[start(again, of_submit)] * 4)
            assert len({answer for answer in answers if isinstance(answer, bytes)}) == 1


def test_two_that_end_the_same_job(dsn: str, schema: str) -> None:
    of_submit = uuid7()
    with Store.connect(dsn, schema=schema) as store:
        store.run(create(of_submit))
        for _ in range(10):
            uuid, other = uuid7(), uuid7()
            store.run(start(uuid, of_submit), start(other, of_submit))
            answers = _at_once(
                dsn, schema, *(finish(uuid, "a", state=s) for s in ("success", "error", "lost"))
            )
            assert sum(isinstance(answer, tuple) for answer in answers) == 1
            assert sum(isinstance(answer, NotRunning) for answer in answers) == 2
            answers = _at_once(dsn, schema, *(finish(other, "a") for _ in range(3)))
            assert answers == answers[:1] * 3
            assert len(store.run(job.outputs(other))) == 1


def test_two_that_record_the_same_job(dsn: str, schema: str) -> None:
    of_submit = uuid7()
    with Store.connect(dsn, schema=schema) as store:
        store.run(create(of_submit))
        for _ in range(10):
            uuid, other = uuid7(), uuid7()
            answers = _at_once(dsn, schema, *[job.record(ended(uuid, of_submit))] * 4)
            assert answers == [store.run(job.record(ended(uuid, of_submit)))] * 4
            answers = _at_once(
                dsn, schema, *(job.record(ended(other, of_submit, log=str(n))) for n in range(4))
            )
            assert sum(isinstance(answer, bytes) for answer in answers) == 1
            assert sum(isinstance(answer, Conflict) for answer in answers) == 3


def test_log_and_end_at_once_lose_no_piece(dsn: str, schema: str) -> None:
    of_submit = uuid7()
    with Store.connect(dsn, schema=schema) as store:
        store.run(create(of_submit))
        for _ in range(10):
            uuid = uuid7()
            store.run(start(uuid, of_submit))
            pieces: list[Statement[object]] = [
                job.append_log(uuid, seq=n, data=f"{n};") for n in range(4)
            ]
            answers = _at_once(dsn, schema, *pieces, finish(uuid))
            acknowledged = sum(answer is None for answer in answers)
            # Too late, or before its turn.
            refused = sum(isinstance(answer, NotRunning | Conflict) for answer in answers)
            assert acknowledged + refused == 4
            assert store.run(job.log(uuid)) == "".join(f"{n};" for n in range(acknowledged))


def test_a_killed_server_loses_nothing_and_retries_double_nothing(short_directory: Path) -> None:
    with Server(short_directory) as server:
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            Migrator(connection).apply()
        acknowledged: list[tuple[UUID, UUID]] = []
        crashes = 3
        enough = threading.Event()

        def write() -> None:
            with Store.connect(server.dsn, retry_for=120) as store:
                while not enough.is_set():
                    of_submit, uuid = uuid7(), uuid7()
                    store.run(create(of_submit))
                    store.run(start(uuid, of_submit, env={"OWN": str(uuid)}))
                    store.run(job.append_log(uuid, seq=0, data="log"))
                    store.run(finish(uuid, "out"))
                    acknowledged.append((of_submit, uuid))

        writers = [threading.Thread(target=write) for _ in range(4)]
        for writer in writers:
            writer.start()
        for _ in range(crashes):
            before = len(acknowledged)
            while len(acknowledged) < before + 20:
                assert any(writer.is_alive() for writer in writers)
                time.sleep(0.01)
            pid = server.status().pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            server.start()
        before = len(acknowledged)
        while len(acknowledged) < before + 20:
            assert any(writer.is_alive() for writer in writers)
            time.sleep(0.01)
        enough.set()
        for writer in writers:
            writer.join()
        with psycopg.connect(server.dsn, options="-c search_path=butido") as connection:
            jobs = connection.execute(
                "SELECT submit_uuid, uuid FROM job WHERE state = 'success' AND log = 'log'"
            ).fetchall()
            outputs = connection.execute("SELECT count(*) FROM artifact").fetchone()
        assert sorted(jobs) == sorted(acknowledged)
        assert outputs == (len(acknowledged),)
        server.stop()


_LONG_LOG = r"""
import re, sys
from uuid import UUID
from butido_store import Store
from butido_store.log import LogBuffer

dsn, schema, uuid = sys.argv[1:]
with Store.connect(dsn, schema=schema) as store:
    buffer = LogBuffer(UUID(uuid))
    line = b"x" * 999 + b"\n"
    for _ in range(200_000):
        if statement := buffer.add(line):
            store.run(statement)
    if statement := buffer.flush():
        store.run(statement)
with open("/proc/self/status") as status:
    print(re.search(r"VmHWM:\s+(\d+) kB", status.read())[1])
"""


@pytest.mark.timeout(600)
def test_a_log_of_200_megabytes_takes_little_memory(
    dsn: str, schema: str, connection: psycopg.Connection[Any]
) -> None:
    of_submit, uuid = uuid7(), uuid7()
    with Store.connect(dsn, schema=schema) as store:
        store.run(create(of_submit), start(uuid, of_submit))
        client = subprocess.run(
            [sys.executable, "-c", _LONG_LOG, dsn, schema, str(uuid)],
            check=True,
            capture_output=True,
            text=True,
        )
        assert int(client.stdout) < 100 * 1024  # kilobytes
        store.run(finish(uuid))
    row = connection.execute(
        "SELECT octet_length(log), (SELECT count(*) FROM job_log_chunk) FROM job"
    ).fetchone()
    assert row == (200_000_000, 0)
