"""Random stores, as plain values and as rows: what a second implementation of a report reads.

Few names, times, digests and paths, so that most of them meet: jobs start together, a bound is the
very moment of a start, a package is built in several images.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from hypothesis import strategies as st
from samples import create, ended, fingerprint, later, sha256, start

from butido_store import Statement, Store, artifact, job, release, submit
from butido_store._query import query
from butido_store.artifact import Output
from butido_store.job import State
from mutate.texts import put

PACKAGES, VERSIONS = ("app", "lib", "app 1"), ("1", "2")
IMAGES, ENDPOINTS = ("debian", "fedora"), ("x", "y")
COMMITS = tuple(digit * 40 for digit in "abc")
SCRIPTS = ("make", "make -j")
PATHS, CONTENTS = ("P", "o", "p"), ("1", "2")
# What a failed job's log says, and so which failure it is.
ERRORS = ("", "error: a", "error: b")
STATES: tuple[State, ...] = ("success", "success", "error", "error", "lost", "running")
ENV: Mapping[str, str] = {"LANG": "C"}
ENVS: tuple[Mapping[str, str], ...] = (ENV, {"LANG": "D", "a": ""}, {"LANG": "C", "a": "x=1"}, {})
DIGESTS = (None, sha256("image"), sha256("other"))
# Those of the index differ behind what it holds.
REASONS = (None, "timeout", *(200 * "r" + end for end in "ab"))
ACTORS = (None, "jane", "joe")
LABELS: tuple[Mapping[str, str] | None, ...] = (
    None,
    {"ci": "n"},
    {"ci": "n", "k": "1=2"},
    {"k": ""},
)
# What a log begins with.
SAID = ("", "x", "x\n\nxy\nx y", "Y\n")
STORES = ("stable", "testing")
# Within which submits are made and jobs start, in seconds.
LAST = 4


@dataclass(frozen=True)
class File:
    """A file, and the job that made it."""

    uuid: UUID
    path: str
    sha256: bytes
    job: UUID | None = None


@dataclass(frozen=True)
class Submit:
    """A submit."""

    uuid: UUID
    timestamp: datetime
    commit: str
    package: str
    version: str
    image: str
    # Packages and versions.
    tree: tuple[tuple[str, str], ...]
    actor: str | None
    labels: Mapping[str, str] | None
    env: Mapping[str, str]


@dataclass(frozen=True)
class Job:
    """A job, with the files that it read and made."""

    uuid: UUID
    submit: Submit
    package: str
    version: str
    image: str
    endpoint: str
    script: str
    state: State
    started_at: datetime
    finished_at: datetime | None
    failure: str
    inputs: tuple[File, ...]
    outputs: tuple[File, ...]
    env: Mapping[str, str]
    image_sha256: bytes | None
    reason: str | None
    said: str

    @property
    def key(self) -> tuple[datetime, UUID]:
        """What listings sort by."""
        return self.started_at, self.uuid

    @property
    def seconds(self) -> float | None:
        """How long it took, if it has ended and its clock was not set back meanwhile."""
        if self.finished_at is None or self.finished_at < self.started_at:
            return None
        return (self.finished_at - self.started_at).total_seconds()

    @property
    def log(self) -> str:
        """All that it wrote."""
        return "\n".join(filter(None, (self.said, self.failure)))

    @property
    def fingerprint(self) -> bytes:
        """Its fingerprint."""
        files = {(file.path, file.sha256) for file in self.inputs}
        names = self.package, self.version, self.image
        return fingerprint(*names, self.script, self.env, files, self.image_sha256)


@dataclass(frozen=True)
class Reuse:
    """That a submit took what a job of another one had made."""

    submit: Submit
    job: Job
    timestamp: datetime


@dataclass(frozen=True)
class Release:
    """A file in a release store, and when it was taken back, if it was."""

    # Of the act, which may release more files.
    uuid: UUID
    store: str
    file: File
    timestamp: datetime
    withdrawn_at: datetime | None

    @property
    def key(self) -> tuple[datetime, UUID, UUID]:
        """What listings sort by."""
        return self.timestamp, self.uuid, self.file.uuid


@dataclass(frozen=True)
class World:
    """All that a store holds; jobs in an order in which each reads only what was made before."""

    submits: tuple[Submit, ...]
    sources: tuple[File, ...]
    jobs: tuple[Job, ...]
    reuses: tuple[Reuse, ...]
    # In the order in which they were made.
    releases: tuple[Release, ...]

    @property
    def files(self) -> tuple[File, ...]:
        """All files."""
        return *self.sources, *(file for job in self.jobs for file in job.outputs)

    def newest(self) -> list[Job]:
        """Return the jobs, newest first."""
        return sorted(self.jobs, key=lambda job: job.key, reverse=True)


@st.composite
def worlds(draw: st.DrawFn, *, most: int = 10, alike: bool = False) -> World:
    """Draw a store.

    :param most: jobs at most
    :param alike: most jobs build one package, from the same
    """
    count = draw(st.integers(1, most))
    # In any order: a uuid says nothing of when, and decides where times are equal.
    numbers = iter(draw(st.permutations(range(1, 5 + 3 + count * 4 + 7 + 1))))
    moments, made_at = st.integers(0, LAST).map(later), st.integers(0, 2).map(later)
    packages, versions = st.sampled_from(PACKAGES), st.sampled_from(VERSIONS)
    submits = tuple(
        Submit(
            UUID(int=next(numbers)),
            draw(made_at),
            draw(st.sampled_from(COMMITS)),
            *draw(st.tuples(packages, versions, st.sampled_from(IMAGES))),
            tuple(draw(st.lists(st.tuples(packages, versions), min_size=1, max_size=3))),
            draw(st.sampled_from(ACTORS)),
            draw(st.sampled_from(LABELS)),
            draw(st.sampled_from(ENVS)),
        )
        for _ in range(draw(st.integers(2, 5)))
    )

    def file(path: str, content: str, made_by: UUID | None = None) -> File:
        return File(UUID(int=next(numbers)), path, sha256(content), made_by)

    contents = st.sampled_from(CONTENTS)
    sources = tuple(file(path, draw(contents)) for path in ("s", "t", "p"))
    made, jobs = [*sources], []
    for _ in range(count):
        uuid, started_at = UUID(int=next(numbers)), draw(moments)
        state = draw(st.sampled_from(STATES))
        takes = draw(st.sampled_from([-1.5, 0, 0.25, 1, 2, 7]))
        paths = draw(st.lists(st.sampled_from(PATHS), unique=True)) if state == "success" else []
        known = sources if alike and draw(st.booleans()) else made[-6:]
        inputs = draw(st.lists(st.sampled_from(known), unique=True, max_size=1 if alike else 3))
        failure = draw(st.sampled_from(ERRORS)) if state == "error" else ""
        jobs.append(
            Job(
                uuid,
                draw(st.sampled_from(submits)),
                draw(st.sampled_from(PACKAGES[:1] * 4 + PACKAGES if alike else PACKAGES)),
                draw(st.sampled_from(VERSIONS[:1] * 3 + VERSIONS if alike else VERSIONS)),
                draw(st.sampled_from(IMAGES)),
                draw(st.sampled_from(ENDPOINTS)),
                draw(st.sampled_from(SCRIPTS)),
                state,
                started_at,
                None if state == "running" else started_at + timedelta(seconds=takes),
                failure,
                tuple(inputs),
                tuple(file(path, draw(contents), uuid) for path in paths),
                ENV if alike else draw(st.sampled_from(ENVS)),
                None if alike else draw(st.sampled_from(DIGESTS)),
                None if state == "running" else draw(st.sampled_from(REASONS)),
                draw(st.sampled_from(SAID)) if failure or state != "error" else "",
            )
        )
        made += jobs[-1].outputs
    reuses = [
        Reuse(by, one, draw(moments))
        for one in jobs
        if one.state == "success"
        for by in draw(st.lists(st.sampled_from(submits), unique_by=id, max_size=2))
        if by != one.submit
    ]
    # Few files, so that they replace each other.
    few = draw(st.lists(st.sampled_from([file for file in made if file.path == "p"]), max_size=3))
    released = st.sampled_from([*few, *few, *made])
    acts = []
    for _ in range(draw(st.integers(0, 7))):
        act = UUID(int=next(numbers)), draw(st.sampled_from((*STORES[:1], *STORES)))
        timestamp = draw(moments)
        acts += [
            Release(*act, one, timestamp, draw(st.none() | st.none() | moments))
            for one in draw(st.lists(released, min_size=1, max_size=2, unique_by=lambda f: f.path))
        ]
    return World(submits, sources, tuple(jobs), tuple(reuses), tuple(_in_turn(acts)))


def _in_turn(acts: list[Release]) -> Iterator[Release]:
    """Yield the releases in their order, but for those of what is there."""
    there: dict[tuple[str, str], File | None] = {}
    for act in sorted(acts, key=lambda act: act.key):
        place = act.store, act.file.path
        if there.get(place) != act.file:
            there[place] = None if act.withdrawn_at else act.file
            yield act


# What filters are given, beside that which no row has.
VALUES: Mapping[str, st.SearchStrategy[Any]] = {
    "package": st.sampled_from([*PACKAGES[:1] * 3, *PACKAGES, "no"]),
    "version": st.sampled_from([*VERSIONS, "no"]),
    "image": st.sampled_from([*IMAGES, "no"]),
    "endpoint": st.sampled_from([*ENDPOINTS, "no"]),
    "commit": st.sampled_from([*COMMITS, "f" * 40]),
    "newer_than": st.integers(0, LAST + 1).map(later),
    "older_than": st.integers(0, LAST + 1).map(later),
    "failure": st.sampled_from([*ERRORS[1:], "no"]).map(sha256),
    "state": st.sampled_from(["running", "success", "error", "lost"]),
    "reason": st.sampled_from([*REASONS[1:], "no"]),
    "env": st.sampled_from(["LANG=C", "LANG=D", "a=", "a=x=1", "a=x", "no="]),
    "actor": st.sampled_from([*ACTORS[1:], "no"]),
    "label": st.lists(st.sampled_from(["ci=n", "k=1=2", "k=", "ci=no"]), max_size=2),
    "sha256": st.sampled_from([*CONTENTS, "no"]).map(sha256),
    "path": st.sampled_from([*PATHS, "s", "no"]),
    "store": st.sampled_from([*STORES, "no"]),
    "history": st.booleans(),
    "text": st.sampled_from(["x", "xy", "r: a", "Y", "no"]),
    "regex": st.sampled_from(["^x$", "x.*y", "[aY]$", "no"]),
    "limit": st.integers(0, 6),
}


def questions(
    *needed: str,
    some_of: tuple[str, ...],
    values: Mapping[str, st.SearchStrategy[Any]] = VALUES,
) -> st.SearchStrategy[dict[str, Any]]:
    """Draw what is asked for.

    :param needed: parameters that are always given
    :param some_of: those of which some are given, or none
    :param values: what each parameter is given
    """
    return st.fixed_dictionaries(
        {name: values[name] for name in needed}, optional={name: values[name] for name in some_of}
    )


@st.composite
def every_question(
    draw: st.DrawFn,
    *needed: str,
    some_of: tuple[str, ...],
    values: Mapping[str, st.SearchStrategy[Any]] = VALUES,
) -> list[dict[str, Any]]:
    """Draw questions with each filter alone, with all of them, and with some."""
    paged = tuple({"limit"}.intersection(some_of))
    alone = [
        questions(*needed, name, some_of=() if name in paged else paged, values=values)
        for name in some_of
    ]
    together = questions(*needed, *some_of, some_of=(), values=values)
    some = questions(*needed, some_of=some_of, values=values)
    return [draw(one) for one in (*alone, together, some, some, some)]


def record(store: Store, world: World) -> None:
    """Write all that a store holds."""
    done: list[job.EndedJob] = []
    running: list[Statement[Any]] = []
    for one in world.jobs:
        values = {
            "package": one.package,
            "version": one.version,
            "image": one.image,
            "endpoint": one.endpoint,
            "script": one.script,
            "env": one.env,
            "image_sha256": one.image_sha256,
            "started_at": one.started_at,
            "inputs": [file.uuid for file in one.inputs],
        }
        if one.state == "running":
            running.append(start(one.uuid, one.submit.uuid, **values))
            # In pieces that end within a line.
            pieces = filter(None, (one.log[:2], one.log[2:]))
            running += [job.append_log(one.uuid, seq=n, data=p) for n, p in enumerate(pieces)]
        else:
            values |= {"state": one.state, "finished_at": one.finished_at, "log": one.log}
            values["reason"] = one.reason
            made = [Output(file.path, file.sha256, 1, file.uuid) for file in one.outputs]
            done.append(ended(one.uuid, one.submit.uuid, outputs=made, **values))
    store.run(
        *(_create(one) for one in world.submits),
        *(
            artifact.register(file.path, sha256=file.sha256, size=1, uuid=file.uuid)
            for file in world.sources
        ),
        *([job.record_all(done)] if done else []),
        *running,
        *(
            submit.reuse(one.submit.uuid, [one.job.uuid], timestamp=one.timestamp)
            for one in world.reuses
        ),
    )
    acts: dict[UUID, list[Release]] = {}
    for released in world.releases:
        acts.setdefault(released.uuid, []).append(released)
    for uuid, act in acts.items():
        where: dict[str, Any] = {"store": act[0].store, "actor": "jane"}
        files = [released.file.uuid for released in act]
        store.run(release.create(uuid, timestamp=act[0].timestamp, artifacts=files, **where))
        # The reason tells it from another withdrawal at that time.
        where["reason"] = str(uuid)
        for released in act:
            if released.withdrawn_at:
                where["timestamp"] = released.withdrawn_at
                store.run(release.withdraw(artifact=released.file.uuid, **where))


def _create(one: Submit) -> Statement[None]:
    nodes = [{"name": name, "version": version, "dependencies": []} for name, version in one.tree]
    return create(
        one.uuid,
        timestamp=one.timestamp,
        package=one.package,
        version=one.version,
        image=one.image,
        repo_hash=one.commit,
        tree={"root": 0, "nodes": nodes},
        actor=one.actor,
        labels=one.labels,
        env=one.env,
    )


@contextmanager
def windows(report: str, sizes: Mapping[int, int]) -> Iterator[None]:
    """Have other bounds in a report, such as how many jobs it looks at, until the end of the block.

    :param report: its name
    :param sizes: by the numbers that its file has, what stands in place of each
    """
    file = query(f"report/{report}")
    text = file.path.read_text()
    changed = text
    for old, new in sizes.items():
        # Not in comments.
        changed = re.sub(rf"(?m)^(?! *--)(.*)\b{old}\b", rf"\g<1>{new}", changed)
    put(file, changed)
    try:
        yield
    finally:
        put(file, text)


@contextmanager
def recorded(connection: psycopg.Connection[tuple[object, ...]], world: World) -> Iterator[Store]:
    """Lend a store that holds this, and nothing else, until the end of the block.

    :param connection: of the test's database, with its search path set
    """
    with connection.transaction(force_rollback=True):
        store = Store(connection)
        record(store, world)
        yield store
