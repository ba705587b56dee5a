"""How long the questions take on a filled store, against SELECT 1 on the same connection."""

import json
import statistics
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path

import listings
import psycopg
from generate import statements

from butido_store._query import query

_SAMPLES, _SECONDS = 100, 15


def _median_and_p99(seconds: list[float]) -> tuple[float, float]:
    return statistics.median(seconds) * 1000, sorted(seconds)[int(len(seconds) * 0.99)] * 1000


def _questions(
    cursor: psycopg.RawCursor[tuple[object, ...]],
) -> dict[str, list[tuple[bytes, list[object]]]]:
    """Return each question, several times with values from all over the store."""

    def asked(name: str, given: list[Mapping[str, object]]) -> list[tuple[bytes, list[object]]]:
        return [query(name).render(frozenset(values)).bind(values) for values in given]

    file = Path(__file__).with_suffix(".sql")
    # Generated fingerprints only look like some: those of the sample become real, to be found.
    for text, _ in statements(file):
        cursor.execute(text.encode())
    jobs = cursor.fetchall()
    names = ("job", "submit", "package", "version", "image", "script", "env", "inputs", "artifact")
    given = [dict(zip(names, row, strict=True)) for row in jobs]

    def chosen(*keys: str, **more: object) -> list[Mapping[str, object]]:
        return [{**{key: row[key] for key in keys}, **more} for row in given if row["artifact"]]

    often = Counter(str(row["package"]) for row in given).most_common()
    packages = {"common": often[0][0], "rare": often[-1][0]}
    of_package = (
        *("durations", "failures", "irreproducible", "measurements", "regressions", "reused"),
        "savings",
    )
    page = {"limit": 50}
    reports = {
        f"{name} all": asked(f"report/{name}", [{} if name == "metrics" else page])
        for name in (*of_package, "metrics")
    }
    for kind, package in packages.items():
        for name in (*of_package, "impact"):
            reports[f"{name} package {kind}"] = asked(
                f"report/{name}", [{"package": package, **page}]
            )
        for name in ("expected_duration", "history"):
            reports[f"{name} package {kind}"] = asked(f"report/{name}", [{"package": package}])

    return reports | {
        "reuse": asked(
            "artifact/reusable", chosen("package", "version", "image", "script", "env", "inputs")
        ),
        "find-artifact": asked("report/find_artifact", chosen("package", "version", limit=20)),
        "submit": asked("report/submit", chosen("submit")),
        "job": asked("report/job", chosen("job")),
        "provenance": asked("report/provenance", chosen("artifact"))[:10],
        "impact": asked("report/impact", chosen("artifact", limit=50))[:10],
    }


def _cases(cursor: psycopg.RawCursor[tuple[object, ...]], kept: Path) -> list[listings.Case]:
    """Return the listings to measure; to choose them takes minutes, so they are kept."""
    if not kept.exists():
        found = listings.cases(cursor)
        kept.write_text(json.dumps([astuple(case) for case in found], default=int))
    return [listings.Case(*case) for case in json.loads(kept.read_text())]


def measure(dsn: str, *, runs: int, kept: Path) -> dict[str, dict[str, float]]:
    """Return milliseconds by question: median, 99th percentile, and the median of SELECT 1.

    :param dsn: of a filled store
    :param runs: how often each listing is asked
    :param kept: the file for what was chosen to be asked of this store
    """
    found: dict[str, dict[str, float]] = {}
    with (
        psycopg.connect(dsn, autocommit=True, options="-c search_path=butido") as connection,
        psycopg.RawCursor(connection) as cursor,
    ):
        for name, asked in _questions(cursor).items():
            taken: dict[str, list[float]] = {"question": [], "select": []}
            began, place = time.perf_counter(), -len(asked)
            # The first round warms up: plans, and what is read from disk.
            while place < _SAMPLES * 5 and time.perf_counter() - began < _SECONDS:
                text, values = asked[place % len(asked)]
                for what, sql, given in (
                    ("question", text, values),
                    ("select", b"SELECT 1", []),
                ):
                    start = time.perf_counter()
                    cursor.execute(sql, given)
                    cursor.fetchall()
                    if place >= 0 or time.perf_counter() - began > _SECONDS / 2:
                        taken[what].append(time.perf_counter() - start)
                place += 1
            p50, p99 = _median_and_p99(taken["question"])
            found[name] = {
                "ms": p50,
                "p99": p99,
                "select": statistics.median(taken["select"]) * 1000,
            }
        for case in _cases(cursor, kept):
            seconds, select = listings.measure(cursor, case, runs)
            name = f"{case.report} {case.filter or 'all'} {case.kind}".strip()
            found[name] = {"ms": seconds * 1000, "select": select * 1000}
            print(f"  {name}: {seconds * 1000:.2f} ms", flush=True)
    return found
