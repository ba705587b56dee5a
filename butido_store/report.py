"""Reports: one query file each, asked here by its row type, and the same in psql and on the shell.

A report is `sql/report/<name>.sql` and the row type here that has its name. `butido-store` makes a
command of it, with the file's parameters as options.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import unified_diff
from typing import Any, TypeVar
from uuid import UUID

from butido_store import _check
from butido_store._query import query
from butido_store._statement import Statement, read
from butido_store.artifact import Artifact
from butido_store.errors import InvalidInput
from butido_store.job import Job, State
from butido_store.submit import Submit

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class EnvVar:
    """An environment variable."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Image:
    """A container image, and when a job last started in it."""

    name: str
    last_started_at: datetime | None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A build host, and when a job last started on it."""

    name: str
    last_started_at: datetime | None


@dataclass(frozen=True, slots=True)
class Package:
    """A package, and when a job last built it."""

    name: str
    version: str
    last_started_at: datetime | None


@dataclass(frozen=True, slots=True)
class SubmitReport:
    """A submit with the environment that it adds, its jobs, and how many are in each state."""

    uuid: UUID
    timestamp: datetime
    package: str
    version: str
    image: str
    repo_hash: str
    env: dict[str, str]
    running: int
    success: int
    error: int
    lost: int
    jobs: list[dict[str, object]]


@dataclass(frozen=True, slots=True)
class JobReport:
    """A job with its inputs and outputs; environment, script and log where they were asked for."""

    uuid: UUID
    submit_uuid: UUID
    package: str
    version: str
    image: str
    endpoint: str
    state: State
    started_at: datetime
    finished_at: datetime | None
    duration: timedelta | None
    heartbeat_at: datetime
    container_hash: str | None
    fingerprint: bytes
    failure_sha256: bytes | None
    inputs: list[dict[str, object]]
    outputs: list[dict[str, object]]
    env: dict[str, str] | None
    script: str | None
    log: str | None


@dataclass(frozen=True, slots=True)
class Release:
    """An artifact in a release store, and how it was taken back where it was."""

    uuid: UUID
    artifact_uuid: UUID
    store: str
    path: str
    sha256: bytes
    size: int
    job_uuid: UUID | None
    package: str | None
    version: str | None
    timestamp: datetime
    actor: str
    withdrawn_at: datetime | None
    withdrawn_by: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure about the store, in the terms of Prometheus."""

    metric: str
    labels: dict[str, str]
    value: float
    help: str


@dataclass(frozen=True, slots=True)
class Found:
    """A file that can stand for a build, with the release stores that have it."""

    uuid: UUID
    path: str
    sha256: bytes
    size: int
    job_uuid: UUID
    version: str
    image: str
    finished_at: datetime
    released: list[str]


@dataclass(frozen=True, slots=True)
class Miss:
    """An earlier job, and where it differs from what is about to be built; None where not."""

    job_uuid: UUID
    state: State
    finished_at: datetime
    version: str | None
    image: str | None
    env: list[dict[str, object]] | None
    inputs: list[dict[str, object]] | None
    script: str | None

    def script_diff(self, script: str) -> str | None:
        """Return how the script of what is about to be built differs, as a unified diff.

        :param script: that script
        :returns: the difference, or None where there is none
        """
        if self.script is None:
            return None
        lines = unified_diff(
            self.script.splitlines(), script.splitlines(), str(self.job_uuid), "now", lineterm=""
        )
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Ingredient:
    """A file that went into an artifact, with the job that made it and the files that that read."""

    uuid: UUID
    path: str
    sha256: bytes
    size: int
    job_uuid: UUID | None
    package: str | None
    version: str | None
    image: str | None
    endpoint: str | None
    repo_hash: str | None
    finished_at: datetime | None
    inputs: list[UUID]


@dataclass(frozen=True, slots=True)
class Product:
    """A file that was made from another one, with the release stores that have it."""

    uuid: UUID
    path: str
    sha256: bytes
    size: int
    job_uuid: UUID | None
    package: str | None
    version: str | None
    state: State | None
    finished_at: datetime | None
    released: list[str]
    inputs: list[UUID]


@dataclass(frozen=True, slots=True)
class Slsa:
    """An in-toto statement about an artifact: https://slsa.dev/spec/v1.0/provenance."""

    statement: dict[str, object]


@dataclass(frozen=True, slots=True)
class History:
    """The last good job of a package, the first bad one after it, and what lies between."""

    jobs: int
    good_job: UUID | None
    good_version: str | None
    good_at: datetime | None
    good_commit: str | None
    bad_job: UUID | None
    bad_version: str | None
    bad_at: datetime | None
    bad_commit: str | None
    commits: list[str]
    inputs: list[dict[str, object]]


@dataclass(frozen=True, slots=True)
class Regression:
    """A package whose newest two jobs say that it began to fail, still fails, or was fixed."""

    package: str
    version: str
    status: str
    job_uuid: UUID
    started_at: datetime
    previous_job: UUID | None


@dataclass(frozen=True, slots=True)
class Durations:
    """How long the jobs of a package take on an endpoint, in seconds, and how often they fail."""

    package: str
    endpoint: str
    jobs: int
    failed: int
    failure_rate: float
    p50: float | None
    p95: float | None


@dataclass(frozen=True, slots=True)
class ExpectedDuration:
    """How many seconds the newest jobs of a package took."""

    jobs: int
    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class Irreproducible:
    """A path whose content differs between jobs that did exactly the same."""

    fingerprint: bytes
    package: str
    version: str
    path: str
    contents: int
    jobs: list[dict[str, object]]


@dataclass(frozen=True, slots=True)
class Failure:
    """Jobs that failed with the same last error lines."""

    failure_sha256: bytes
    jobs: int
    packages: list[str]
    first_at: datetime
    first_commit: str
    first_job: UUID
    last_at: datetime
    last_job: UUID
    lines: str


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of a job's log, counted from 1."""

    job_uuid: UUID
    package: str
    version: str
    state: State
    started_at: datetime
    line_number: int
    line: str


ROWS: Mapping[str, type[Any]] = {
    "artifacts": Artifact,
    "durations": Durations,
    "endpoints": Endpoint,
    "envvars": EnvVar,
    "expected_duration": ExpectedDuration,
    "explain_miss": Miss,
    "failures": Failure,
    "find_artifact": Found,
    "history": History,
    "images": Image,
    "impact": Product,
    "irreproducible": Irreproducible,
    "job": JobReport,
    "jobs": Job,
    "metrics": Metric,
    "packages": Package,
    "provenance": Ingredient,
    "regressions": Regression,
    "releases": Release,
    "search_log": LogLine,
    "slsa": Slsa,
    "submit": SubmitReport,
    "submits": Submit,
}
_NAMES = {row: name for name, row in ROWS.items()}


def _texts(field: str, value: object) -> list[str]:
    if isinstance(value, str) or not isinstance(value, list | tuple):
        raise InvalidInput(f"{field} must be a list of str, not {type(value).__name__}")
    return [_check.text(f"{field}[{place}]", text) for place, text in enumerate(value)]


_CHECKS: Mapping[str, Callable[[str, Any], object]] = {
    "bigint": _check.count,
    "boolean": lambda field, value: _check.instance(field, value, bool),
    "bytea": _check.sha256,
    "text": _check.text,
    "text[]": _texts,
    "timestamptz": _check.time,
    "uuid": _check.uuid,
}


def ask(row: type[R], /, **parameters: object) -> Statement[list[R]]:
    """Ask the report that has rows of this type.

    :param row: the row type, one of `ROWS`
    :param parameters: the parameters of the report's file, by name; None is as good as not given
    :returns: the rows, in the order of the file
    :raises InvalidInput: at once, when a parameter is unknown, missing or cannot be sent
    """
    name = _NAMES.get(row)
    if name is None:
        raise InvalidInput(f"row is {row!r}; it must be one of the types in report.ROWS")
    file = query(f"report/{name}")
    given = {field: value for field, value in parameters.items() if value is not None}
    for field, value in given.items():
        if field not in file.types:
            raise InvalidInput(f"{field}: the report {name} has no such parameter")
        note = file.notes.get(field)
        if note and note.choices:
            _check.choice(field, str(value), note.choices)
    if missing := file.required - given.keys():
        raise InvalidInput(f"{', '.join(sorted(missing))}: the report {name} needs it")
    return read(
        file.name,
        {field: _CHECKS[file.types[field]](field, value) for field, value in given.items()},
        lambda rows: [row(*values) for values in rows],
    )
