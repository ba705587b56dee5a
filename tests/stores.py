"""Random stores, as plain values and as rows: what a second implementation of a report reads.

Few names, times, digests and paths, so that most of them meet: jobs start together, a bound is the
very moment of a start, a package is built in several images.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from hypothesis import strategies as st
from samples import create, ended, fingerprint, later, sha256, start

from butido_store import Store, artifact, job
from butido_store.artifact import Output
from butido_store.job import State

PACKAGES, VERSIONS = ("app", "lib", "app 1"), ("1", "2")
IMAGES, ENDPOINTS = ("debian", "fedora"), ("x", "y")
COMMITS = tuple(digit * 40 for digit in "abc")
SCRIPTS = ("make", "make -j")
PATHS, CONTENTS = ("P", "o", "p"), ("1", "2")
# What a failed job's log says, and so which failure it is.
ERRORS = ("", "error: a", "error: b")
STATES: tuple[State, ...] = ("success", "success", "error", "error", "lost", "running")
ENV: Mapping[str, str] = {"LANG": "C"}
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
    def fingerprint(self) -> bytes:
        """Its fingerprint."""
        files = {(file.path, file.sha256) for file in self.inputs}
        return fingerprint(self.package, self.version, self.image, self.script, ENV, files)


@dataclass(frozen=True)
class World:
    """All that a store holds; jobs in an order in which each reads only what was made before."""

    submits: tuple[Submit, ...]
    sources: tuple[File, ...]
    jobs: tuple[Job, ...]

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
    numbers = iter(draw(st.permutations(range(1, 5 + 2 + count * 4 + 1))))
    moments, made_at = st.integers(0, LAST).map(later), st.integers(0, 2).map(later)
    submits = tuple(
        Submit(UUID(int=next(numbers)), draw(made_at), draw(st.sampled_from(COMMITS)))
        for _ in range(draw(st.integers(2, 5)))
    )

    def file(path: str, content: str, made_by: UUID | None = None) -> File:
        return File(UUID(int=next(numbers)), path, sha256(content), made_by)

    contents = st.sampled_from(CONTENTS)
    sources = tuple(file(path, draw(contents)) for path in ("s", "t"))
    made, jobs = [*sources], []
    for _ in range(count):
        uuid, started_at = UUID(int=next(numbers)), draw(moments)
        state = draw(st.sampled_from(STATES))
        takes = draw(st.sampled_from([-1.5, 0, 0.25, 1, 2, 7]))
        paths = draw(st.lists(st.sampled_from(PATHS), unique=True)) if state == "success" else []
        known = sources if alike and draw(st.booleans()) else made[-6:]
        inputs = draw(st.lists(st.sampled_from(known), unique=True, max_size=1 if alike else 3))
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
                draw(st.sampled_from(ERRORS)) if state == "error" else "",
                tuple(inputs),
                tuple(file(path, draw(contents), uuid) for path in paths),
            )
        )
        made += jobs[-1].outputs
    return World(submits, sources, tuple(jobs))


# What filters are given, beside that which no row has.
VALUES: Mapping[str, st.SearchStrategy[Any]] = {
    "package": st.sampled_from([*PACKAGES, "no"]),
    "version": st.sampled_from([*VERSIONS, "no"]),
    "image": st.sampled_from([*IMAGES, "no"]),
    "endpoint": st.sampled_from([*ENDPOINTS, "no"]),
    "commit": st.sampled_from([*COMMITS, "f" * 40]),
    "newer_than": st.integers(0, LAST + 1).map(later),
    "older_than": st.integers(0, LAST + 1).map(later),
    "failure": st.sampled_from([*ERRORS[1:], "no"]).map(sha256),
    "limit": st.integers(0, 6),
}


def questions(*needed: str, some_of: tuple[str, ...]) -> st.SearchStrategy[dict[str, Any]]:
    """Draw what is asked for.

    :param needed: parameters that are always given
    :param some_of: those of which some are given, or none
    """
    return st.fixed_dictionaries(
        {name: VALUES[name] for name in needed}, optional={name: VALUES[name] for name in some_of}
    )


def record(store: Store, world: World) -> None:
    """Write all that a store holds."""
    done, running = [], []
    for one in world.jobs:
        values = {
            "package": one.package,
            "version": one.version,
            "image": one.image,
            "endpoint": one.endpoint,
            "script": one.script,
            "env": ENV,
            "started_at": one.started_at,
            "inputs": [file.uuid for file in one.inputs],
        }
        if one.state == "running":
            running.append(start(one.uuid, one.submit.uuid, **values))
        else:
            values |= {"state": one.state, "finished_at": one.finished_at, "log": one.failure}
            made = [Output(file.path, file.sha256, 1, file.uuid) for file in one.outputs]
            done.append(ended(one.uuid, one.submit.uuid, outputs=made, **values))
    store.run(
        *(create(s.uuid, timestamp=s.timestamp, repo_hash=s.commit) for s in world.submits),
        *(
            artifact.register(file.path, sha256=file.sha256, size=1, uuid=file.uuid)
            for file in world.sources
        ),
        *([job.record_all(done)] if done else []),
        *running,
    )


@contextmanager
def recorded(connection: psycopg.Connection[tuple[object, ...]], world: World) -> Iterator[Store]:
    """Lend a store that holds this, and nothing else, until the end of the block.

    :param connection: of the test's database, with its search path set
    """
    with connection.transaction(force_rollback=True):
        store = Store(connection)
        record(store, world)
        yield store
