"""Measurements: their report against the same written a second time, in plain Python."""

import math
from collections import defaultdict
from typing import Any
from uuid import UUID

import pytest
from conftest import AnyStore
from hypothesis import given
from hypothesis import strategies as st
from samples import create, ended, later
from stores import windows

from butido_store import job, report, uuid7

# How many of the newest jobs it looks at here, in place of the numbers in its file.
OF_ALL, OF_VERSION = 5, 3
# Edges of the bounds, and jobs that start at the same moment.
SECONDS = st.sampled_from([0, 1, 2])
NAMES = ["cpu_seconds", "Cpu", "ü"]
JOBS = st.fixed_dictionaries(
    {
        "package": st.sampled_from(["zlib", "gcc"]),
        "version": st.sampled_from(["1", "2"]),
        "image": st.sampled_from(["debian:12", "debian:13"]),
        "state": st.sampled_from(["success", "error", "lost"]),
        "started_at": SECONDS,
        "measurements": st.dictionaries(
            st.sampled_from(NAMES), st.integers(-5, 5) | st.sampled_from([0.5, 1e300]), max_size=3
        ),
    }
)
QUESTIONS = st.fixed_dictionaries(
    {},
    optional={
        "package": st.sampled_from(["zlib", "none"]),
        "name": st.sampled_from([*NAMES, "none"]),
        "image": st.sampled_from(["debian:12", "none"]),
        "state": st.sampled_from(["success", "error", "lost", "running"]),
        "newer_than": SECONDS,
        "older_than": SECONDS,
        "limit": st.integers(1, 3),
    },
)


def percentile(values: list[float], part: float) -> float:
    """Return what lies at that part of sorted values, between two of them if it has to."""
    at = part * (len(values) - 1)
    low, high = values[math.floor(at)], values[math.ceil(at)]
    return low + (at - math.floor(at)) * (high - low)


def answer(jobs: dict[UUID, dict[str, Any]], asked: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return the rows of the report on these jobs."""
    found: dict[tuple[str, str], list[tuple[int, UUID, float]]] = defaultdict(list)
    newest = sorted(jobs.items(), key=lambda item: (item[1]["started_at"], item[0]), reverse=True)
    of_package = [
        (uuid, one)
        for uuid, one in newest
        if asked.get("package") in (None, one["package"])
        and asked.get("newer_than", 0) <= one["started_at"] < asked.get("older_than", 9)
    ]
    matching = [
        (uuid, one)
        for uuid, one in of_package
        if one["state"] == asked.get("state", "success")
        and asked.get("image") in (None, one["image"])
    ]
    if "newer_than" not in asked:
        if "package" in asked:
            since: dict[str, int] = {}
            for version in ("1", "2"):
                of_version = [one for _, one in of_package if one["version"] == version]
                if of_version:
                    since[version] = of_version[:OF_VERSION][-1]["started_at"]
            matching = [
                (uuid, one) for uuid, one in matching if one["started_at"] >= since[one["version"]]
            ]
        matching = matching[:OF_ALL]
    for uuid, one in matching:
        for name, value in one["measurements"].items():
            if asked.get("name") in (None, name):
                found[one["package"], name].append((one["started_at"], uuid, float(value)))
    rows: list[tuple[Any, ...]] = []
    for (package, name), values in found.items():
        numbers = sorted(value for *_, value in values)
        percentiles = percentile(numbers, 0.5), percentile(numbers, 0.95)
        rows.append((package, name, len(values), *percentiles, max(values)[2]))
    return sorted(rows, key=lambda row: (-row[2], row[0], row[1].encode()))[: asked.get("limit")]


@given(drawn=st.lists(JOBS, max_size=8), questions=st.lists(QUESTIONS, min_size=1, max_size=5))
def test_it_is_what_python_makes_of_it(
    store: AnyStore,
    connection: Any,
    drawn: list[dict[str, Any]],
    questions: list[dict[str, Any]],
) -> None:
    connection.execute("TRUNCATE submit CASCADE")
    connection.commit()
    of_submit, jobs = uuid7(), {uuid7(): one for one in drawn}
    records = [
        ended(uuid, of_submit, **{**one, "started_at": later(one["started_at"])})
        for uuid, one in jobs.items()
    ]
    store.run(create(of_submit), job.record_all(records))
    for asked in questions:
        times = {k: later(v) for k, v in asked.items() if k.endswith("_than")}
        with windows("measurements", {10_000: OF_ALL, 1_000: OF_VERSION}):
            rows = store.run(report.measurements(**{"limit": None, **asked, **times}))
        got = [(row.package, row.name, row.jobs, row.p50, row.p95, row.last) for row in rows]
        expected = answer(jobs, asked)
        assert [row[:3] for row in got] == [row[:3] for row in expected]
        for one, other in zip(got, expected, strict=True):
            assert one[3:] == pytest.approx(other[3:])


def test_what_is_not_measured_is_not_there(store: AnyStore) -> None:
    of_submit = uuid7()
    store.run(create(of_submit), job.record(ended(uuid7(), of_submit)))
    assert store.run(report.measurements()) == []
