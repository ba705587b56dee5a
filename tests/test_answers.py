"""Each report equals a second implementation, in plain Python, on random stores."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import TIME, create, ended, sha256, start
from shell import looking_at
from stores import (
    IMAGES,
    VERSIONS,
    File,
    Job,
    World,
    every_question,
    questions,
    recorded,
    windows,
    worlds,
)

from butido_store import Store, report, uuid7
from butido_store.job import EndState, record_all, sweep

Connection = psycopg.Connection[tuple[object, ...]]
Asked = dict[str, Any]


def bounded(jobs: Iterable[Job], asked: Asked) -> list[Job]:
    """Return the jobs that all filters on their own columns leave."""
    return [
        job
        for job in jobs
        if all(
            asked.get(name, getattr(job, name)) == getattr(job, name)
            for name in ("package", "version", "image", "endpoint")
        )
        and ("newer_than" not in asked or job.started_at >= asked["newer_than"])
        and ("older_than" not in asked or job.started_at < asked["older_than"])
    ]


def looked_at(world: World, jobs: Sequence[Job], asked: Asked) -> Sequence[Job]:
    """Return those of the jobs, newest first, that a report without newer_than is about.

    `windows` says how many of all it looks at, and how many of each version of a package.
    """
    if "newer_than" in asked or "windows" not in asked:
        return jobs
    of_all, *of_version = asked["windows"]
    if "package" in asked and of_version:
        bounds = {key: asked[key] for key in ("package", "older_than") if key in asked}
        since: dict[str, Any] = {}
        for version in VERSIONS:
            newest = bounded(world.newest(), bounds | {"version": version})[: of_version[0]]
            since[version] = newest[-1].started_at if newest else None
        jobs = [job for job in jobs if job.started_at >= since[job.version]]
    return jobs[:of_all]


# Impact ---------------------------------------------------------------------------------------


def impact(world: World, asked: Asked) -> list[UUID]:
    """Answer by a walk in breadth: one artifact, or a job with all that it made, is a step."""
    newest = world.newest()
    start: list[Job | File] = [file for file in world.files if file.uuid == asked.get("artifact")]
    if "package" in asked:
        start += bounded(newest, {k: asked[k] for k in ("package", "version") if k in asked})
    if "commit" in asked:
        at_commit = [job for job in newest if job.submit.commit == asked["commit"]]
        at_commit.sort(key=lambda job: (job.submit.timestamp, job.submit.uuid), reverse=True)
        start += at_commit
    for name in ("image", "endpoint"):
        if name in asked:
            start += bounded(newest, {name: asked[name]})
    readers = sorted(world.jobs, key=lambda job: job.uuid, reverse=True)
    queue, seen, found = deque(start), {step.uuid for step in start}, dict[UUID, None]()
    while queue:
        step = queue.popleft()
        made = [step] if isinstance(step, File) else step.outputs
        for file in sorted(made, key=lambda file: file.path.encode()):
            found.setdefault(file.uuid)
            for job in readers:
                if file in job.inputs and job.uuid not in seen:
                    seen.add(job.uuid)
                    queue.append(job)
    return [*found][: asked.get("limit")]


ORIGINS = ("package", "commit", "image", "endpoint")


@st.composite
def origins(draw: st.DrawFn, world: World) -> Asked:
    """Draw what `impact` starts from: one thing at least."""
    asked = draw(questions(some_of=(*ORIGINS, "limit")))
    if not asked.keys() & set(ORIGINS) or draw(st.booleans()):
        asked["artifact"] = draw(st.sampled_from([file.uuid for file in world.files]))
    if "package" in asked and draw(st.booleans()):
        asked |= draw(questions("version", some_of=()))
    return asked


@given(world=worlds(), data=st.data())
def test_impact(connection: Connection, world: World, data: st.DataObject) -> None:
    with recorded(connection, world) as store:
        for _ in range(3):
            asked = data.draw(origins(world))
            rows = store.run(report.impact(**{"limit": None} | asked))
            assert [row.uuid for row in rows] == impact(world, asked)


# How a package fares --------------------------------------------------------------------------


def percentile(seconds: Iterable[float], part: float) -> float | None:
    """Return the value below which this part lies, between two where it lies between."""
    values = sorted(seconds)
    if not values:
        return None
    place = part * (len(values) - 1)
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (place - low)


def took(jobs: Iterable[Job]) -> list[float]:
    """Return how long each successful job took, but for those whose clock was set back."""
    return [job.seconds for job in jobs if job.state == "success" and job.seconds is not None]


def durations(world: World, asked: Asked) -> Sequence[object]:
    """Answer by a group for each package, image and endpoint."""
    groups: dict[tuple[str, str, str], list[Job]] = {}
    done = [job for job in bounded(world.newest(), asked) if job.state != "running"]
    for job in looked_at(world, done, asked):
        groups.setdefault((job.package, job.image, job.endpoint), []).append(job)
    rows = []
    for key, jobs in sorted(groups.items(), key=lambda group: (-len(group[1]), group[0])):
        failed = sum(job.state != "success" for job in jobs)
        seconds = took(jobs)
        statistics = percentile(seconds, 0.5), percentile(seconds, 0.95)
        rows.append(
            report.Durations(*key, len(jobs), failed, failed / len(jobs), *map(about, statistics))
        )
    return rows[: asked.get("limit")]


def about(value: float | None) -> Any:
    """Return what compares equal to a figure that was reckoned in another order."""
    return None if value is None else pytest.approx(value)


def expected_duration(world: World, asked: Asked) -> Sequence[object]:
    """Answer from the newest twenty in each image."""
    rows = []
    for image in sorted(IMAGES):
        jobs = [job for job in bounded(world.newest(), asked) if job.image == image]
        if seconds := took(jobs)[: asked.get("windows", (20,))[0]]:
            p50, p95 = about(percentile(seconds, 0.5)), about(percentile(seconds, 0.95))
            rows.append(report.ExpectedDuration(image, len(seconds), p50, p95))
    return rows


def regressions(world: World, asked: Asked) -> Sequence[object]:
    """Answer by the newest two of each package and image, newest first."""
    told = [job for job in world.newest() if job.state in ("success", "error")]
    of_all_time = bounded(told, {key: asked[key] for key in asked if key != "newer_than"})
    newest: dict[tuple[str, str], Job] = {}
    for job in looked_at(world, bounded(told, asked), asked):
        newest.setdefault((job.package, job.image), job)
    rows = []
    for (package, image), new in newest.items():
        before = (job for job in of_all_time if (job.package, job.image) == (package, image))
        old = next((job for job in before if job.key < new.key), None)
        if "error" not in (new.state, old and old.state):
            continue
        status: Any = "still failing" if old and old.state == "error" else "new failure"
        rows.append(
            report.Regression(
                new.package,
                new.version,
                new.image,
                "fixed" if new.state == "success" else status,
                new.uuid,
                new.started_at,
                old.uuid if old else None,
            )
        )
    rows.sort(key=lambda row: (row.package, row.image))
    rows.sort(key=lambda row: row.started_at, reverse=True)
    return rows[: asked.get("limit")]


def history(world: World, asked: Asked) -> Sequence[object]:
    """Answer for each image: its last success, and what failed since."""
    rows = []
    for image in sorted(IMAGES):
        jobs = [job for job in bounded(world.newest(), asked) if job.image == image]
        good = next((job for job in jobs if job.state == "success"), None)
        bad = [job for job in jobs if job.state == "error" and (not good or job.key > good.key)]
        first = bad[-1] if bad else None
        if good or first:
            rows.append(
                (
                    image,
                    len(bad),
                    good and (good.uuid, good.version, good.finished_at, good.submit.commit),
                    first and (first.uuid, first.version, first.finished_at, first.submit.commit),
                    commits(world, good, first) if good and first else [],
                    differences(good, first) if first else set(),
                )
            )
    return rows


def commits(world: World, good: Job, bad: Job) -> list[str]:
    """Return the commits of submits after the one of the good job, up to that of the bad one."""
    since: dict[str, Any] = {}
    for submit in sorted(world.submits, key=lambda submit: submit.timestamp):
        if good.submit.timestamp < submit.timestamp <= bad.submit.timestamp:
            since.setdefault(submit.commit, submit.timestamp)
    since.pop(good.submit.commit, None)
    return sorted(since, key=lambda commit: (since[commit], commit))


def differences(good: Job | None, bad: Job) -> set[tuple[str, str, str]]:
    """Return what only one of two jobs read: path, digest, and of which it is."""
    old = {(file.path, file.sha256.hex()) for file in (good.inputs if good else ())}
    new = {(file.path, file.sha256.hex()) for file in bad.inputs}
    return {(*file, "old") for file in old - new} | {(*file, "new") for file in new - old}


def shown(row: report.History) -> object:
    """Return a row as the answer above has it."""
    good = (row.good_job, row.good_version, row.good_at, row.good_commit)
    bad = (row.bad_job, row.bad_version, row.bad_at, row.bad_commit)
    return (
        row.image,
        row.failed,
        good if row.good_job else None,
        bad if row.bad_job else None,
        row.commits,
        {
            (change["path"], change[which], which)
            for change in row.inputs
            for which in ("old", "new")
            if which in change
        },
    )


# What fails, and what differs -----------------------------------------------------------------


def failures(world: World, asked: Asked) -> Sequence[object]:
    """Answer by a group for each last line of a log."""
    every: dict[str, list[Job]] = {}
    groups: dict[str, list[Job]] = {}
    failed = [job for job in bounded(world.newest(), asked) if job.state == "error"]
    if "failure" in asked:
        failed = [job for job in failed if sha256(job.failure) == asked["failure"]]
    counted = looked_at(world, failed, asked)
    for jobs, found in ((counted if "package" in asked else failed, every), (counted, groups)):
        for job in jobs:
            if job.failure:
                found.setdefault(job.failure, []).append(job)
    rows = [
        report.Failure(
            sha256(lines),
            len(jobs),
            sorted({job.package for job in jobs}),
            every[lines][-1].started_at,
            every[lines][-1].submit.commit,
            every[lines][-1].uuid,
            jobs[0].started_at,
            jobs[0].uuid,
            jobs[0].reason,
            lines,
        )
        for lines, jobs in groups.items()
    ]
    rows.sort(key=lambda row: (row.jobs, row.last_at, row.lines), reverse=True)
    return rows[: asked.get("limit")]


def irreproducible(world: World, asked: Asked) -> Sequence[object]:
    """Answer by a group for each path of each fingerprint."""
    groups: dict[tuple[bytes, str], list[tuple[Job, File]]] = {}
    done = [job for job in bounded(world.newest(), asked) if job.state == "success"]
    recent = looked_at(world, done, asked)
    for job in done:
        for file in job.outputs:
            groups.setdefault((job.fingerprint, file.path), []).append((job, file))
    rows = []
    for (made_by, path), made in groups.items():
        contents = {file.sha256 for _, file in made}
        if len(contents) > 1 and made[0][0] in recent:
            jobs: Any = [
                {"job": str(job.uuid), "sha256": file.sha256.hex()} for job, file in made[::-1]
            ]
            newest = made[0][0]
            rows.append(
                (
                    newest.started_at,
                    report.Irreproducible(
                        made_by, newest.package, newest.version, path, len(contents), jobs
                    ),
                )
            )
    rows.sort(key=lambda row: (row[1].fingerprint, row[1].path.encode()))
    rows.sort(key=lambda row: row[0], reverse=True)
    return [row for _, row in rows][: asked.get("limit")]


Answer = Callable[[World, Asked], Sequence[object]]
TIMES = ("newer_than", "older_than")
PLACES = ("image", "endpoint")
ANSWERS: dict[str, tuple[Answer, tuple[str, ...], tuple[str, ...]]] = {
    "durations": (durations, (), ("package", *PLACES, *TIMES, "limit")),
    "expected_duration": (expected_duration, ("package",), ("version", *PLACES)),
    "failures": (failures, (), ("package", "failure", *TIMES, "limit")),
    "history": (history, ("package",), PLACES),
    "irreproducible": (irreproducible, (), ("package", *TIMES, "limit")),
    "regressions": (regressions, (), ("package", *PLACES, "newer_than", "limit")),
}
# How many of the newest jobs a report looks at, and how many of each version of a package.
WINDOWS: dict[str, dict[int, int]] = {
    "durations": {10_000: 5, 1_000: 2},
    "expected_duration": {20: 2},
    "failures": {10_000: 2},
    "irreproducible": {10_000: 4, 1_000: 3},
    "regressions": {10_000: 4, 1_000: 2},
}


@pytest.mark.parametrize(
    ("name", "bound"),
    [*((name, False) for name in ANSWERS), *((name, True) for name in WINDOWS)],
)
@given(data=st.data())
def test_an_answer(connection: Connection, name: str, bound: bool, data: st.DataObject) -> None:
    """Bound, on the smallest number of the newest jobs, in place of the one in the file."""
    answer, needed, some_of = ANSWERS[name]
    # Of few packages, images and inputs, so that a package has a history.
    world = data.draw(worlds(most=14, alike=name != "durations"))
    sizes = WINDOWS[name] if bound else {}
    windowed = {"windows": (*sizes.values(),)} if bound else {}
    with recorded(connection, world) as store, windows(name, sizes):
        for asked in data.draw(every_question(*needed, some_of=some_of)):
            question = getattr(report, name)
            everything = {"limit": None} if "limit" in some_of else {}
            rows: list[Any] = store.run(question(**everything | asked))
            if name == "history":
                rows = [shown(row) for row in rows]
            assert rows == [*answer(world, asked | windowed)]


# Metrics --------------------------------------------------------------------------------------


# How many jobs of a state are counted, in place of 20,000.
COUNTED = 3
# What is said to be in the table of jobs, and in the indexes of those that succeeded and were lost.
ESTIMATED = "UPDATE pg_class SET reltuples = %s WHERE oid = to_regclass(%s)"
SUCCEEDED, SWEPT = "job_fingerprint_started_at_idx", "job_swept_by_idx"
SILENT = "UPDATE job SET heartbeat_at = now() - interval '1 hour' WHERE state = 'running'"
# The hour ends, or begins, amid the starts.
STARTED_LATER = "UPDATE job SET started_at = now() + %s + (started_at - %s)"


def metrics(store: Store) -> dict[tuple[str, ...], float]:
    """Return each figure by its name and labels."""
    return {(row.metric, *row.labels.values()): row.value for row in store.run(report.metrics())}


@given(
    world=worlds(most=14),
    estimates=st.tuples(st.integers(0, 40), *[st.integers(0, 9)] * 2),
    moved=st.sampled_from([timedelta(seconds=-2), timedelta(hours=-1, seconds=-2)]),
)
def test_metrics(
    connection: Connection, world: World, estimates: tuple[int, ...], moved: timedelta
) -> None:
    counts = Counter(job.state for job in world.jobs)
    every, succeeded, swept = estimates
    lost = counts["lost"] if counts["lost"] < COUNTED else max(COUNTED, swept)
    estimated = {
        "success": succeeded,
        "lost": swept,
        "error": every - succeeded - counts["running"] - lost,
    }
    with recorded(connection, world) as store, windows("metrics", {20_000: COUNTED}):
        connection.execute("UPDATE job SET heartbeat_at = started_at WHERE state = 'running'")
        for name, rows in zip(("job", SUCCEEDED, SWEPT), estimates, strict=True):
            connection.execute(ESTIMATED, [rows, name])
        connection.execute(STARTED_LATER, [moved, TIME])
        found = metrics(store)
    assert [*found] == sorted(found)
    for state in ("error", "lost", "running", "success"):
        jobs, bound = counts[state], COUNTED if state != "running" else 99
        expected = jobs if jobs < bound else max(bound, estimated[state])
        assert found["butido_jobs", state] == expected
        assert found["butido_jobs_started_last_hour", state] == sum(
            timedelta(hours=-1) < moved + (job.started_at - TIME) <= timedelta()
            for job in world.jobs
            if job.state == state
        )
    current = {(act.store, act.file.path): act for act in world.releases}
    there = Counter(act.store for act in current.values() if not act.withdrawn_at)
    stores = {act.store for act in world.releases}
    assert {name: found[name] for name in found if name[0] == "butido_releases"} == {
        ("butido_releases", store): there[store] for store in stores
    }
    running = [job.started_at.timestamp() for job in world.jobs if job.state == "running"]
    oldest = found["butido_oldest_heartbeat_timestamp_seconds",]
    assert oldest == min(running, default=0)


def test_metrics_estimate_what_the_last_analyze_found(clone_dsn: str, schema: str) -> None:
    of = uuid7()
    done: tuple[EndState, ...] = ("success",) * 6 + ("error",) * 5
    options = looking_at(schema)
    with (
        psycopg.connect(clone_dsn, options=options, autocommit=True) as connection,
        windows("metrics", {20_000: COUNTED}),
    ):
        store = Store(connection)
        store.run(create(of), record_all([ended(uuid7(), of, state=state) for state in done]))
        store.run(*(start(uuid7(), of) for _ in range(4)))
        connection.execute(SILENT)
        store.run(sweep(silent_for=timedelta(minutes=1)))
        store.run(*(start(uuid7(), of) for _ in range(7)))
        connection.execute("ANALYZE job")
        found = metrics(store)
        # Later ones are not in the estimate.
        store.run(record_all([ended(uuid7(), of)]), start(uuid7(), of))
        later = metrics(store)
        tables = connection.execute(
            """
            SELECT relname, pg_total_relation_size(oid), greatest(reltuples, 0)
            FROM pg_class
            WHERE relkind = 'r' AND relnamespace = quote_ident(current_schema())::regnamespace
            """
        ).fetchall()
    states = ("success", "error", "lost", "running")
    assert [found["butido_jobs", state] for state in states] == [6, 5, 4, 7]
    # The one that runs is no more of those that there were.
    assert [later["butido_jobs", state] for state in states] == [6, 5 - 1, 4, 8]
    assert found["butido_table_rows", "job"] == 6 + 5 + 4 + 7
    for figure, place in (("butido_table_bytes", 1), ("butido_table_rows", 2)):
        expected = {(figure, row[0]): row[place] for row in tables}
        assert {name: later[name] for name in later if name[0] == figure} == expected
