"""How many jobs are recorded in a second, at what cost for client, log and disk, peer by peer."""

import multiprocessing
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import islice
from multiprocessing.connection import Connection

import psycopg
from network import delayed
from peers import PEERS, Peer
from server import database, unflushed, without_full_pages
from workload import submits

from butido_store.job import EndedJob

_WARM_UP = 4.0
_SET = 20


def _write(peer: str, dsn: str, seed: int, jobs: int, line: Connection) -> None:
    """Warm up; then record for as long as is said, and tell the rate and the CPU of each job."""
    with PEERS[peer](dsn) as writer:
        given = _portions(writer, seed, jobs)
        until = time.monotonic() + _WARM_UP
        # A statement is prepared at the sixth call at the latest; after five more its plan is kept.
        for portion in islice(given, 12):
            writer.record(writer.known(portion))
            if time.monotonic() > until:
                break
        line.send(None)
        while (seconds := line.recv()) is not None:
            done, taken, used = 0, 0.0, 0.0
            while taken < seconds:
                portion = next(given)
                known = writer.known(portion)
                cpu, start = time.process_time(), time.perf_counter()
                writer.record(known)
                taken += time.perf_counter() - start
                used += time.process_time() - cpu
                done += len(portion)
            line.send((done / taken, used / done * 1e6))


def _portions(writer: Peer, seed: int, jobs: int) -> Iterator[Sequence[EndedJob]]:
    """Yield what each call records, of submits that are there."""
    for submit in submits(seed):
        writer.create(submit)
        for at in range(0, len(submit.jobs), jobs):
            yield submit.jobs[at : at + jobs]


@contextmanager
def _writers(peer: str, dsn: str, *, writers: int, jobs: int) -> Iterator[list[Connection]]:
    """Have processes, each with a connection of its own, that tell when they are ready."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["recording"])
    lines, processes = [], []
    for number in range(writers):
        ours, theirs = context.Pipe()
        processes.append(
            context.Process(
                target=_write, args=(peer, dsn, time.time_ns() + number, jobs, theirs), daemon=True
            )
        )
        processes[-1].start()
        theirs.close()
        lines.append(ours)
    yield lines
    for line, process in zip(lines, processes, strict=True):
        line.send(None)
        process.join()


def rates(
    dsns: dict[str, str], *, delay: float, writers: int, jobs: int, rounds: int, seconds: float
) -> dict[str, dict[str, list[float]]]:
    """Let the peers take turns, and return the rates and the CPU of each.

    :param dsns: the database of each peer
    :param delay: seconds that the network adds to a round trip
    :param writers: how many at once, each a process with a connection
    :param jobs: how many a call records
    :param rounds: how many turns each has
    :param seconds: how long each spends in calls in a turn
    """
    found: dict[str, dict[str, list[float]]] = {
        peer: {"per_second": [], "client_us": []} for peer in dsns
    }
    with ExitStack() as stack:
        ready = {}
        for peer, dsn in dsns.items():
            far = stack.enter_context(delayed(dsn, delay))
            ready[peer] = stack.enter_context(_writers(peer, far, writers=writers, jobs=jobs))
        for lines in ready.values():
            for line in lines:
                line.recv()
        for _ in range(rounds):
            for peer, lines in ready.items():
                for line in lines:
                    line.send(seconds)
                answers = [line.recv() for line in lines]
                found[peer]["per_second"].append(sum(rate for rate, _ in answers))
                found[peer]["client_us"].append(statistics.mean(cpu for _, cpu in answers))
    return found


def bytes_per_job(dsn: str, peer: str, *, jobs: int, log: bool) -> dict[str, float]:
    """Return the bytes of write-ahead log and on disk that a job takes, recorded one by one.

    The log is without images of full pages: how many there are, depends on when the last checkpoint
    was.

    :param dsn: of any database of the server
    :param peer: its name
    :param jobs: how many to record, a multiple of 20
    :param log: with their logs, or with empty ones
    """
    own = database(dsn, f"butido_bench_bytes_{peer}")
    PEERS[peer].prepare(own)
    with (
        unflushed(own),
        without_full_pages(own),
        PEERS[peer](own) as writer,
        psycopg.connect(own, autocommit=True) as connection,
    ):
        work = submits(1)

        def record(count: int) -> None:
            for _ in range(count // _SET):
                submit = next(work)
                writer.create(submit)
                for one in submit.jobs:
                    writer.record(writer.known([one if log else replace(one, log="")]))

        def measured() -> tuple[int, int]:
            # VACUUM, so that the index entries of the pending list and the free space are settled.
            connection.execute("VACUUM")
            row = connection.execute(
                "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint, "
                "(SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class AS c "
                "JOIN pg_namespace AS n ON n.oid = c.relnamespace "
                "WHERE c.relkind = 'r' AND n.nspname IN ('butido', 'peer'))::bigint"
            ).fetchone()
            assert row is not None
            return row[0], row[1]

        record(_SET * 10)  # the shared values, and plans that are kept
        wal, disk = measured()
        record(jobs)
        after = connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()
        assert after is not None
        return {"wal": (int(after[0]) - wal) / jobs, "disk": (measured()[1] - disk) / jobs}
