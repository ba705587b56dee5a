"""Appending to a job's log, and following it: the library's chunks against log = log || chunk."""

import time
from itertools import islice

import psycopg
from peers.store import Library
from workload import submits

from butido_store import Store, job, uuid7
from butido_store.log import LogBuffer

_CHUNK = ("x" * 79 + "\n") * 13  # 1,040 bytes


def _running(dsn: str) -> job.EndedJob:
    """Start a job and return it."""
    (one,) = islice(submits(time.time_ns()), 1)
    with Library(dsn) as library:
        library.create(one)
    given = one.jobs[0]
    with Store.connect(dsn) as store:
        store.run(
            job.start(
                given.uuid,
                submit=given.submit,
                package=given.package,
                version=given.version,
                image=given.image,
                endpoint=given.endpoint,
                started_at=given.started_at,
                script=given.script,
                env=given.env,
            )
        )
    return given


def append(dsn: str, chunks: int) -> float:
    """Return the seconds that it takes to append chunks of 1 kB, buffered as the library does."""
    given = _running(dsn)
    with Store.connect(dsn) as store:
        start = time.perf_counter()
        buffer = LogBuffer(given.uuid)
        for _ in range(chunks):
            if statement := buffer.add(_CHUNK):
                store.run(statement)
        if statement := buffer.flush():
            store.run(statement)
        seconds = time.perf_counter() - start
        store.run(job.finish(given.uuid, state="success", finished_at=given.finished_at))
    with psycopg.connect(dsn, options="-c search_path=butido") as connection:
        found = connection.execute("SELECT length(log) FROM job WHERE uuid = %s", [given.uuid])
        assert found.fetchone() == (chunks * len(_CHUNK),)
    return seconds


def concatenate(dsn: str, chunks: int) -> float:
    """Return the seconds that it takes to append them to a text, one UPDATE for each."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS log (job uuid PRIMARY KEY, log text NOT NULL)"
        )
        uuid = uuid7()
        connection.execute("INSERT INTO log (job, log) VALUES (%s, '')", [uuid])
        start = time.perf_counter()
        for _ in range(chunks):
            connection.execute("UPDATE log SET log = log || %s WHERE job = %s", [_CHUNK, uuid])
        seconds = time.perf_counter() - start
        connection.execute("DROP TABLE log")
    return seconds


def tail(dsn: str, chunks: int) -> float:
    """Return the milliseconds that it takes to ask for what is new at the end of so long a log."""
    given = _running(dsn)
    with Store.connect(dsn) as store:
        for seq in range(chunks // 64):
            store.run(job.append_log(given.uuid, seq=seq, data=_CHUNK * 64))
        asked = job.log_after(given.uuid, after=chunks // 64 - 2, characters=0)
        taken = []
        for _ in range(50):
            start = time.perf_counter()
            store.run(asked)
            taken.append(time.perf_counter() - start)
    return sorted(taken)[25] * 1000
