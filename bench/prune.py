"""Prune a tenth of a store while four processes record jobs: times of statements and of writers.

Run it with `./dev run python bench/prune.py --jobs 1000000`: on an embedded server in --directory,
which keeps what was generated, or with --dsn on a server of yours, on copies of its databases.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from server import filled, server
from workload import submits

from butido_store import Store, job
from butido_store.admin import retention

WRITERS = 4
_NAME = "butido_bench_prune"


def _write(dsn: str, seed: int, rate: float, line: Connection) -> None:
    """Record one job after another; tell how long each call of the last phase took, when asked."""
    taken: list[float] = []
    due = time.monotonic()
    with Store.connect(dsn) as store:
        for one in submits(seed):
            store.run(one.created())
            for ended in one.jobs:
                start = time.perf_counter()
                store.run(job.record(ended))
                taken.append(time.perf_counter() - start)
                if rate:
                    # What it is behind with is not made up for.
                    due = max(due + 1 / rate, time.monotonic())
                    time.sleep(max(0, due - time.monotonic()))
                if line.poll():
                    if line.recv() is None:
                        return
                    line.send(taken)
                    taken = []


@contextmanager
def _writers(dsn: str, rate: float) -> Iterator[list[Connection]]:
    """Have processes record jobs until the end of the block."""
    context = multiprocessing.get_context("spawn")
    lines, processes = [], []
    for seed in range(WRITERS):
        ours, theirs = context.Pipe()
        processes.append(context.Process(target=_write, args=(dsn, seed, rate, theirs)))
        processes[-1].start()
        lines.append(ours)
    try:
        yield lines
    finally:
        for line, process in zip(lines, processes, strict=True):
            line.send(None)
            process.join()


def _taken(lines: Sequence[Connection]) -> list[float]:
    """Return how long each call took since this was last asked."""
    for line in lines:
        line.send("tell")
    return [seconds for line in lines for seconds in line.recv()]


def _told(what: str, taken: Sequence[float], seconds: float) -> float:
    """Print the rate and the times of writers, and return their 99th percentile in seconds."""
    p99 = statistics.quantiles(taken, n=100)[98]
    median = statistics.median(taken)
    print(
        f"{what}: {len(taken) / seconds:.0f} jobs/s recorded, median {median * 1e3:.2f} ms,"
        f" p99 {p99 * 1e3:.2f} ms, longest {max(taken) * 1e3:.0f} ms",
        flush=True,
    )
    return p99


def _size(connection: psycopg.Connection[tuple[object, ...]]) -> int:
    row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    return int(str(row[0])) if row else 0


# How far each job is from what the rules take for old.
_YOUNGER = """
SELECT j.started_at - (now() - r.older_than)
FROM job AS j CROSS JOIN retention_rule AS r
WHERE r.what = 'record' AND j.started_at > now() - r.older_than
ORDER BY j.started_at LIMIT 1000
"""


def measure(
    dsn: str, *, share: float, seconds: float, pause: float, batch: int, rate: float
) -> None:
    """Print what is measured on a store, of which a part is removed.

    :param dsn: the store, which is changed
    :param share: the part of its jobs, the oldest, that a rule names
    :param seconds: for how long to record before and after
    :param pause: as for `prune`
    :param batch: as for `prune`
    :param rate: jobs a second that each writer records at most; 0 for as many as it can
    """
    with psycopg.connect(dsn, autocommit=True) as connection, Store.connect(dsn) as store:
        connection.execute("SET search_path = butido")
        connection.execute(
            "INSERT INTO retention_rule (position, what, package, older_than)"
            " SELECT place, what, '%%',"
            " now() - percentile_disc(%s) WITHIN GROUP (ORDER BY started_at)"
            " FROM job CROSS JOIN (VALUES (1, 'log'), (2, 'record')) AS t (place, what)"
            " GROUP BY place, what",
            [share],
        )
        connection.execute("CHECKPOINT")
        planned = time.monotonic()
        younger = connection.execute(_YOUNGER).fetchall()
        plan = retention.plan(store)
        print(f"dry run: {plan.removed}, in {time.monotonic() - planned:.0f} s", flush=True)
        with _writers(dsn, rate) as lines:
            time.sleep(5)
            _taken(lines)
            size, start = _size(connection), time.monotonic()
            time.sleep(seconds)
            alone = _taken(lines)
            p99 = _told("alone", alone, time.monotonic() - start)
            grown = (_size(connection) - size) / len(alone)
            times: list[tuple[float, str, int]] = []
            number = count()
            start = time.monotonic()
            removed = retention.prune(
                store,
                batch=batch,
                pause=pause,
                told=lambda what, done, took: times.append((took, f"{what} {done}", next(number))),
            )
            took = time.monotonic() - start
            beside = _told("beside prune", _taken(lines), took)
            ordered = sorted(one[0] for one in times)
            print(
                f"prune: {took:.0f} s, {len(times)} statements, median"
                f" {statistics.median(ordered) * 1e3:.1f} ms, p99"
                f" {ordered[int(len(ordered) * 0.99)] * 1e3:.1f} ms, longest"
                f" {ordered[-1] * 1e3:.1f} ms ({sum(one > 0.1 for one in ordered)} over 100 ms)"
            )
            for one in sorted(times, reverse=True)[:3]:
                print(f"  {one[0] * 1e3:.1f} ms: {one[1]} (number {one[2]})")
            print(f"writers' p99: {beside / p99:.2f} x that alone")
            since = timedelta(seconds=time.monotonic() - planned)
            aged = sum(one <= since for (one,) in younger)
            more = removed.jobs - plan.removed.jobs
            print(f"went: {removed}", flush=True)
            print(f"that is {more} jobs more than in the dry run; {aged} became old enough since")
            connection.execute("VACUUM")
            size, start = _size(connection), time.monotonic()
            time.sleep(seconds)
            after = _taken(lines)
            _told("after vacuum", after, time.monotonic() - start)
            now = (_size(connection) - size) / len(after)
            print(f"disk for a recorded job: {grown:.0f} bytes before, {now:.0f} after vacuum")


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dsn")
    parser.add_argument("--directory", type=Path, default=Path(".bench"))
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--share", type=float, default=0.12, help="of the jobs, the oldest")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--pause", type=float, default=0.05)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--rate", type=float, default=0, help="jobs a second of each writer")
    options = parser.parse_args()
    options.directory.mkdir(exist_ok=True)
    with server(options.directory.resolve(), options.dsn) as dsn:
        source = psycopg.conninfo.conninfo_to_dict(filled(dsn, options.jobs))["dbname"]
        with psycopg.connect(dsn, autocommit=True) as connection:
            drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
            copy = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
            connection.execute(drop.format(sql.Identifier(_NAME)))
            connection.execute(copy.format(sql.Identifier(_NAME), sql.Identifier(str(source))))
        measure(
            make_conninfo(dsn, dbname=_NAME),
            share=options.share,
            seconds=options.seconds,
            pause=options.pause,
            batch=options.batch,
            rate=options.rate,
        )


if __name__ == "__main__":
    main()
