"""Measure the store against its peers and the floor, and write the table: ./dev bench.

What has been measured is kept in the directory, so that an interrupted run goes on where it was;
`--again` forgets it. It writes quick.json and quick.md there, or full.json and full.md, and plots.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import logs
import memory
import overhead
import plots
import psycopg
import reads
import recording
from peers import PEERS
from server import MIGRATIONS, database, filled, server, unflushed
from workload import PACKAGES, submits

OURS = "butido_store"
Results = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    jobs: tuple[int, ...]
    listed: tuple[int, ...]
    delays: tuple[int, ...]
    writers: tuple[int, ...]
    rounds: int
    seconds: float
    bytes_jobs: int
    chunks: tuple[int, ...]
    concatenated: int
    runs: int


QUICK = Size((10_000,), (), (0, 1), (1,), 3, 0.4, 600, (1000, 10_000), 1000, 5)
FULL = Size(
    (10_000, 100_000, 1_000_000, 10_000_000), (1_000_000,), (0, 1, 20), (1, 4, 16), 3, 0.5, 2000,
    (1000, 10_000, 100_000), 10_000, 15,
)  # fmt: skip


def _recorded(dsn: str) -> dict[str, str]:
    """Make a database for each peer, with the shared values that all writers have."""
    found = {}
    for number, (name, peer) in enumerate(PEERS.items()):
        own = found[name] = database(dsn, f"butido_bench_peer_{number}")
        peer.prepare(own)
        with unflushed(own), peer(own) as writer:
            for one in islice(submits(0, jobs=PACKAGES), 10):
                writer.create(one)
                writer.record(writer.known(one.jobs))
    with psycopg.connect(found[OURS], autocommit=True) as connection:
        connection.execute("ANALYZE")
    return found


def sections(
    dsn: str, size: Size, directory: Path, *, own: bool
) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield each measurement with its name, in the order that they are made.

    :param dsn: of any database of the server
    :param size: how much
    :param directory: for what is to be kept
    :param own: the server is the benchmark's own, and may be configured
    """
    dsns: dict[str, str] = {}

    def rates(delay: int, writers: int, jobs: int) -> Any:
        if not dsns:
            dsns.update(_recorded(dsn))
        return recording.rates(
            dsns, delay=delay / 1000, writers=writers, jobs=jobs, rounds=size.rounds,
            seconds=size.seconds,
        )  # fmt: skip

    def appended(chunks: int) -> float:
        return logs.append(empty(), chunks)

    def followed(chunks: int) -> float:
        return logs.tail(empty(), chunks)

    def concatenated(chunks: int) -> float:
        return logs.concatenate(empty(), chunks)

    def asked(jobs: int) -> Any:
        kept = directory / f"cases-{jobs}-{MIGRATIONS}.json"
        return reads.measure(filled(dsn, jobs), runs=size.runs, kept=kept)

    def called() -> Any:
        return overhead.measure(empty(), rounds=size.rounds * 20)

    def empty() -> str:
        return database(dsn, "butido_bench_empty")

    def remembered(what: str, jobs: int = 0) -> int:
        return memory.measure(what, filled(dsn, jobs) if jobs else empty())

    for delay in size.delays:
        for writers in size.writers:
            for jobs in (1, 20):
                yield (
                    f"record {jobs} · {delay} ms · {writers}",
                    partial(rates, delay, writers, jobs),
                )
    for peer in (OURS, "get-or-create", "SQLAlchemy ORM") if own else ():
        for log in (True, False):
            measure = partial(recording.bytes_per_job, dsn, peer, jobs=size.bytes_jobs, log=log)
            yield f"bytes · {peer} · {'with' if log else 'without'} log", measure
    yield "overhead", called
    yield "start", partial(overhead.starts, rounds=size.rounds * 5)
    for chunks in size.chunks:
        yield f"log append · {chunks}", partial(appended, chunks)
        yield f"log tail · {chunks}", partial(followed, chunks)
    for jobs in size.jobs:
        yield f"reads · {jobs}", partial(asked, jobs)
    for what in ("log in one piece", "log in pieces"):
        yield f"memory · {what}", partial(remembered, what)
    for what in ("listing, streamed", "listing, as a list"):
        for jobs in size.listed:
            yield f"memory · {what} · {jobs}", partial(remembered, what, jobs)
    yield f"log || chunk · {size.concatenated}", partial(concatenated, size.concatenated)


def _rate(results: Results, name: str, peer: str) -> float:
    return float(statistics.median(results[name][peer]["per_second"]))


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    # A bar in a cell would end it.
    cells = [[cell.replace("||", r"\|\|") for cell in row] for row in lines]
    return ["| " + " | ".join(row) + " |" for row in cells] + [""]


def goals(results: Results, size: Size) -> list[list[str]]:
    """Return the rows of the table of goals: what, goal, reached."""
    rows: list[list[str]] = []

    def row(what: str, goal: str, reached: Callable[[], str]) -> None:
        try:
            rows.append([what, goal, reached()])
        except KeyError:
            rows.append([what, goal, "not measured"])

    def ratio(jobs: int, peer: str) -> Callable[[], str]:
        def one(delay: int) -> str:
            name = f"record {jobs} · {delay} ms · 1"
            pairs = zip(
                results[name][OURS]["per_second"], results[name][peer]["per_second"], strict=True
            )
            each = sorted(ours / theirs for ours, theirs in pairs)
            return f"{statistics.median(each):.3g} × ({each[0]:.3g} to {each[-1]:.3g})"

        return lambda: " / ".join(one(delay) for delay in (0, 1))

    row("one job, against get-or-create", "≥ 12 × / ≥ 55 ×", ratio(1, "get-or-create"))
    row("one job, against SQLAlchemy ORM", "≥ 12 × / ≥ 18 ×", ratio(1, "SQLAlchemy ORM"))
    row("20 jobs at once, against get-or-create", "≥ 28 × / ≥ 180 ×", ratio(20, "get-or-create"))
    row("one job, against prepared inserts", "≥ 0.9 ×", ratio(1, "prepared, ids known"))
    row("20 jobs at once, against prepared inserts", "> 1 ×", ratio(20, "prepared, ids known"))

    def beyond(peer: str) -> float:
        return float(
            results["overhead"][peer]["cpu_us"] - results["overhead"]["bare psycopg"]["cpu_us"]
        )

    row(
        "a call beside bare psycopg, CPU", "≤ 10 µs, less than aiosql's",
        lambda: f"{beyond(OURS):.0f} µs; aiosql {beyond('aiosql'):.0f} µs",
    )  # fmt: skip
    row(
        "start of the command line, against the imports of psycopg and click", "≤ 1.4 ×",
        lambda: " · ".join(
            f"{what} {results['start'][what] / results['start']['imports']:.2f} ×"
            for what in ("--version", "--help")
        ),
    )  # fmt: skip
    small, large = (results.get(f"reads · {n}", {}) for n in (size.jobs[0], size.jobs[-1]))
    row(
        f"reuse question, p99 at {size.jobs[-1]:,} jobs", "≤ 2 × that at 10,000; ≤ 5 × SELECT 1",
        lambda: f"{large['reuse']['p99'] / small['reuse']['p99']:.2f} ×; "
        f"{large['reuse']['p99'] / large['reuse']['select']:.1f} ×",
    )  # fmt: skip
    hundred = results.get("reads · 100000", {})
    slower = [
        f"{name} {large[name]['ms'] / hundred[name]['ms']:.1f} ×"
        for name in large
        if " " in name and name in hundred and large[name]["ms"] > 2 * hundred[name]["ms"]
    ]
    listed = [name for name in large if " " in name and name in hundred]
    row(
        f"listings at {size.jobs[-1]:,} jobs", "≤ 2 × their time at 100,000",
        lambda: f"{len(listed) - len(slower)} of {len(listed)}; not: {', '.join(slower) or 'none'}"
        if listed else "not measured",
    )  # fmt: skip
    chunks, naive = size.chunks[1], size.concatenated
    row(
        "log append of 1 kB chunks", "linear; ≥ 1,000 × log || chunk at 10,000",
        lambda: " · ".join(f"{n:,}: {results[f'log append · {n}']:.3f} s" for n in size.chunks)
        + f"; log || chunk {naive:,}: {results[f'log || chunk · {naive}']:.1f} s"
        + (
            f", {results[f'log || chunk · {naive}'] / results[f'log append · {chunks}']:.0f} ×"
            if naive == chunks else ""
        ),
    )  # fmt: skip

    def share(what: str, log: str) -> float:
        ours, theirs = (
            results[f"bytes · {peer} · {log} log"][what] for peer in (OURS, "get-or-create")
        )
        return float(ours / theirs)

    row("WAL per job, against get-or-create", "≤ 1.1 ×", lambda: f"{share('wal', 'with'):.2f} ×")
    row("disk per job without log", "≤ 1.3 ×", lambda: f"{share('disk', 'without'):.2f} ×")
    return rows


def markdown(results: Results, size: Size) -> str:
    """Return all results as a document."""
    lines = [
        "## Goals",
        "",
        "Loopback / 1 ms where there are two; medians of turns taken side by side.",
        "",
    ]
    lines += _table(["what", "goal", "reached"], goals(results, size))
    lines += ["## Jobs recorded per second (lowest to highest turn), and client CPU per job", ""]
    names = [name for name in results if name.startswith("record ")]
    lines += _table(
        ["jobs per call · network · writers", *PEERS],
        [
            [name.removeprefix("record ")]
            + [
                f"{_rate(results, name, peer):.0f} ({min(of['per_second']):.0f} to "
                f"{max(of['per_second']):.0f}), {statistics.median(of['client_us']):.0f} µs"
                for peer, of in results[name].items()
            ]
            for name in names
        ],
    )
    lines += ["## Bytes per job", ""]
    lines += _table(
        ["", "WAL", "disk"],
        [
            [name.removeprefix("bytes · "), f"{of['wal']:.0f}", f"{of['disk']:.0f}"]
            for name, of in results.items()
            if name.startswith("bytes")
        ],
    )
    lines += ["## Questions, in milliseconds (times SELECT 1 beside it)", ""]
    sizes = [n for n in size.jobs if f"reads · {n}" in results]
    asked = list(dict.fromkeys(name for n in sizes for name in results[f"reads · {n}"]))

    def cell(jobs: int, name: str) -> str:
        of = results[f"reads · {jobs}"].get(name)
        return f"{of['ms']:.2f} ({of['ms'] / of['select']:.1f})" if of else ""

    lines += _table(
        ["", *(f"{n:,} jobs" for n in sizes)],
        [[name, *(cell(n, name) for n in sizes)] for name in asked],
    )
    lines += ["## The rest", ""]
    rest = [
        [name, f"{of:.3f} {'ms' if 'tail' in name else 'MB' if 'memory' in name else 's'}"]
        for name, of in results.items()
        if isinstance(of, int | float)
    ]
    rest += [
        [f"a call: {name}", f"{of['us']:.0f} µs, CPU {of['cpu_us']:.0f} µs"]
        for name, of in results.get("overhead", {}).items()
    ]
    lines += _table(["", ""], rest)
    return "\n".join(lines)


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
    parser.add_argument("--full", action="store_true", help="up to 10 million jobs: hours, 40 GB")
    parser.add_argument("--dsn", help="a server whose databases butido_bench_… may be dropped")
    parser.add_argument("--directory", type=Path, default=Path(".bench"))
    parser.add_argument("--again", action="store_true", help="measure again what is there")
    parser.add_argument("--only", default="", help="only what has this in its name")
    options = parser.parse_args()
    size, directory = FULL if options.full else QUICK, options.directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o755)
    kept = directory / ("full.json" if options.full else "quick.json")
    results: Results = {}
    if kept.exists() and not (options.again and not options.only):
        before = json.loads(kept.read_text())
        if before.get("migrations") == MIGRATIONS:
            results = before["results"]
        else:
            print("what was measured before, was with another schema: it counts no more")
    began = time.monotonic()
    with server(directory, options.dsn) as dsn:
        with psycopg.connect(dsn) as connection:
            version = connection.info.server_version
        pending = list(sections(dsn, size, directory, own=options.dsn is None))
        for number, (name, measure) in enumerate(pending, 1):
            if options.only not in name or (name in results and not options.again):
                continue
            minutes = (time.monotonic() - began) / 60
            print(f"[{number}/{len(pending)}, {minutes:.0f} min] {name}", flush=True)
            results[name] = measure()
            partial = kept.with_suffix(".partial")
            document = {"migrations": MIGRATIONS, "results": results}
            partial.write_text(json.dumps(document, indent=1))
            partial.replace(kept)
        ordered = {name: results[name] for name, _ in pending if name in results}
    about = (
        f"PostgreSQL {version // 10000}.{version % 10000}, Python {platform.python_version()}, "
        f"psycopg {psycopg.__version__}, {os.cpu_count()} CPUs, "
        f"`./dev bench{' --full' if options.full else ''}`.\n\n"
    )
    report = about + markdown(ordered, size)
    kept.with_suffix(".md").write_text(report)
    for path in plots.draw(ordered, directory):
        print(f"wrote {path}")
    print(f"wrote {kept} and {kept.with_suffix('.md')}\n")
    print(report)


if __name__ == "__main__":
    main()
