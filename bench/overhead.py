"""What the library costs beside what it cannot do without: a call beside bare psycopg and aiosql,
the start of the command line beside the imports of psycopg and click.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import islice

import aiosql
import psycopg
from peers.store import Library
from psycopg.rows import class_row
from workload import submits

from butido_store import Store, job
from butido_store._query import query
from butido_store.job import Job


def measure(dsn: str, *, rounds: int, calls: int = 50) -> dict[str, dict[str, float]]:
    """Return the microseconds of CPU and of time of one call of each, medians of turns.

    :param dsn: of a store
    :param rounds: how many turns each has
    :param calls: how many calls a turn is
    """
    (one,) = islice(submits(time.time_ns()), 1)
    with Library(dsn) as library:
        library.create(one)
        library.record(one.jobs)
    uuid = one.jobs[3].uuid
    text = query("job/get").render(frozenset({"job"})).sql
    named = text.replace("$1", ":job").rstrip()
    plain = text.replace("$1", "%s").encode()
    queries = aiosql.from_str(f"-- name: get_job(job)^\n{named}\n", "psycopg")
    found: dict[str, tuple[list[float], list[float]]] = {}
    with (
        Store.connect(dsn) as store,
        psycopg.connect(dsn, autocommit=True, options="-c search_path=butido") as bare,
    ):

        def bare_call() -> object:
            cursor = bare.cursor(row_factory=class_row(Job))
            return cursor.execute(plain, [uuid]).fetchone()

        def aiosql_call() -> object:
            row = queries.get_job(bare, job=uuid)
            return Job(*row)

        asked: dict[str, Callable[[], object]] = {
            "bare psycopg": bare_call,
            "butido_store": lambda: store.run(job.get(uuid)),
            "aiosql": aiosql_call,
        }
        assert len({repr(call()) for call in asked.values()}) == 1
        for turn in range(-2, rounds):
            for name, call in asked.items():
                cpu, start = time.process_time(), time.perf_counter()
                for _ in range(calls):
                    call()
                taken = time.perf_counter() - start, time.process_time() - cpu
                if turn >= 0:
                    for kept, seconds in zip(found.setdefault(name, ([], [])), taken, strict=True):
                        kept.append(seconds / calls * 1e6)
    return {
        name: {"us": statistics.median(took), "cpu_us": statistics.median(used)}
        for name, (took, used) in found.items()
    }


def starts(*, rounds: int) -> dict[str, float]:
    """Return the seconds in which each program starts and ends, medians of turns.

    :param rounds: how many turns each has
    """
    main = "from butido_store.cli.main import main; main()"
    programs = {
        "imports": ["-c", "import psycopg, click"],
        "--version": ["-c", main, "--version"],
        "--help": ["-c", main, "--help"],
    }
    found: dict[str, list[float]] = {name: [] for name in programs}
    for turn in range(-1, rounds):
        for name, arguments in programs.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            if turn >= 0:
                found[name].append(time.perf_counter() - start)
    return {name: statistics.median(took) for name, took in found.items()}
