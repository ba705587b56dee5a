"""Mixed load for long: a client's memory, what tables gain, and how long each act takes."""

import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
from psycopg import sql

from butido_store import Store, job, report
from butido_store.embedded import Server
from chaos import journal
from chaos.checking import check, find
from chaos.client import Doer, opened, work
from chaos.journal import Journal, Outcome
from chaos.scenes import SCHEMAS, Template
from chaos.writing import Thinker

_FACES = (("sync", 2), ("async", 2))
_SAMPLES = 12
_READS = 0.05


def _resident() -> float:
    """Return how much memory this process has, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("/proc/self/status says nothing of it")


def soak(place: Path, template: Template, *, minutes: float, seed: int) -> str:
    """Write and read for so long, and return what came out as text."""
    template.copy(place / "server")
    stop, memory = threading.Event(), list[float]()
    reads: list[float] = []
    schema, paths = SCHEMAS[0], [place / f"{face}.journal" for face, _ in _FACES]
    with Server(place / "server") as server, ThreadPoolExecutor(10) as threads:
        working = [
            threads.submit(_load, server.dsn, schema, face, many, path, f"{seed}-{face}", stop)
            for (face, many), path in zip(_FACES, paths, strict=True)
        ]
        working.append(threads.submit(_read, server.dsn, schema, reads, stop))
        for _ in range(_SAMPLES):
            stop.wait(60 * minutes / _SAMPLES)
            memory.append(_resident())
        stop.set()
        for each in working:
            each.result()
        outcomes = journal.read(paths)
        verdict = check(outcomes, find(server.dsn, schema))
        bloat = _bloat(server.dsn, schema)
    lines = [
        f"seed {seed}: {verdict.acknowledged} acknowledged in {minutes:g} minutes, "
        f"{verdict.kinds['missing']} missing, {len(verdict.wrong)} things wrong",
        f"memory of the client, MB: {', '.join(f'{one:.0f}' for one in memory)}",
        "",
        "| act | number | p50 | p99 | worst |",
        "| --- | ---: | ---: | ---: | ---: |",
        *_latencies(outcomes, reads),
        "",
        *bloat,
    ]
    lines += [f"{kind}: {what}" for kind, what in verdict.wrong[:20]]
    return "\n".join(lines)


def _load(
    dsn: str, schema: str, face: str, many: int, path: Path, seed: str, stop: threading.Event
) -> None:
    notes = Journal(path)
    with (
        opened(face, dsn, schema, many=True) as (store, loop),
        ThreadPoolExecutor(many) as threads,
    ):
        doer = Doer(store, loop, dsn, schema, notes)
        for each in [
            threads.submit(work, doer, Thinker(f"{seed}-{number}"), [], stop)
            for number in range(many)
        ]:
            each.result()


def _read(dsn: str, schema: str, reads: list[float], stop: threading.Event) -> None:
    """Look at what is there, as people and dashboards do."""
    with Store.connect(dsn, schema=schema) as store:
        while not stop.wait(_READS):
            began = time.monotonic()
            rows = store.run(report.jobs(limit=50))
            if rows:
                store.run(job.log(rows[0].uuid), report.failures(limit=20))
            reads.append(time.monotonic() - began)


def _latencies(outcomes: list[Outcome], reads: list[float]) -> list[str]:
    """Return a line for each kind of act."""
    taken: dict[str, list[float]] = {"reads of three reports": reads}
    for outcome in outcomes:
        taken.setdefault(outcome.act["do"], []).append(outcome.seconds)
    return [
        f"| {name} | {len(times)} | {1000 * statistics.median(times):.1f} ms "
        f"| {1000 * sorted(times)[int(len(times) * 0.99)]:.1f} ms | {1000 * max(times):.1f} ms |"
        for name, times in sorted(taken.items())
        if times
    ]


def _bloat(dsn: str, schema: str) -> list[str]:
    """Return a line for each larger table: its rows, dead ones, and what a rewrite would save."""
    lines = ["| table | rows | dead rows | size | after VACUUM FULL |", "| --- |" + " ---: |" * 4]
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("SET search_path = {}").format(sql.Identifier(schema)))
        rows = connection.execute(
            "SELECT relname, n_live_tup, n_dead_tup, pg_total_relation_size(relid)"
            " FROM pg_stat_user_tables WHERE schemaname = %s AND n_live_tup + n_dead_tup > 100"
            " ORDER BY 4 DESC, 1",
            [schema],
        ).fetchall()
        for name, live, dead, size in rows:
            connection.execute(sql.SQL("VACUUM FULL {}").format(sql.Identifier(name)))
            (after,) = connection.execute(
                "SELECT pg_total_relation_size(%s::regclass)", [name]
            ).fetchone() or (0,)
            lines.append(
                f"| {name} | {live} | {dead} | {size / 2**20:.1f} MB | {after / 2**20:.1f} MB |"
            )
    return lines
