"""Reports: a function each, named as its file in `sql/report/` and its command.

`report.jobs(package="zlib")` asks what `butido-store jobs --package zlib` asks, and psql with
`-v package=zlib -f sql/report/jobs.sql`: the parameters are the same, and so are the rows.

A `limit` is 50 unless it is given; None, on the command line 0, is for all rows. psql gives all
rows unless its variable is set. Every other parameter that is None counts as not given. A bad one
raises InvalidInput at once, which names it.

A file's `sha256` and `size` are None where its content is not known, in a record from a store that
never had them; so is the `fingerprint` of a job that read such a file.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import unified_diff
from functools import cache, partial
from inspect import signature
from typing import Annotated, Any, Literal, NotRequired, TypedDict, TypeVar, get_args
from uuid import UUID

from butido_store import _check, _secrets
from butido_store._statement import Statement, read, typed
from butido_store.artifact import Artifact
from butido_store.errors import InvalidInput
from butido_store.job import Job, State
from butido_store.submit import Submit

R = TypeVar("R")
# Several texts; not Sequence[str], which takes a single text for its characters.
Texts = list[str] | tuple[str, ...]
# What a row is for, where there is one for each.
Period = Literal["day", "week"]
# A variable of an environment with its value.
Variable = Annotated[str, "NAME=VALUE"]
# A uniform resource identifier (RFC 3986).
Uri = Annotated[str, "URI"]
# A whole environment.
Variables = Annotated[Texts, "NAME=VALUE"]
# Some of a submit's labels with their values.
Labels = Annotated[Texts, "KEY=VALUE"]
# Files by path and content.
Files = Annotated[Texts, "digest, two spaces, path"]
_Check = Callable[[str, Any], object]
_URI = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]*:(?:[\w.~!$&'()*+,;=:@/?\[\]-]|%[0-9A-Fa-f]{2})+"
    r"(?:#(?:[\w.~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?",
    re.ASCII,
)
_FILE = re.compile(r"[0-9a-f]{64}  .+", re.DOTALL)


# Rows; what is JSON in a row is a TypedDict, with uuids, digests and times as texts -----------


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
class ListedJob(Job):
    """A job in a listing; `reused` where the submit asked about did not run it, but reused it."""

    reused: bool


class JobOfSubmit(TypedDict):
    """A job in the report on the submit that ran it, or reused it."""

    uuid: str
    package: str
    version: str
    state: State
    reused: bool
    endpoint: str
    started_at: str
    finished_at: str | None


@dataclass(frozen=True, slots=True)
class SubmitReport(Submit):
    """A submit with the environment that it adds, the jobs that it ran and those that it reused.

    Those that it ran are counted by state; `seconds_saved` is what those that it reused had taken.
    """

    env: dict[str, str]
    running: int
    success: int
    error: int
    lost: int
    reused: int
    seconds_saved: float
    jobs: list[JobOfSubmit]


class OutputFile(TypedDict):
    """A file that a job made; of its content None is what is not known."""

    uuid: str
    path: str
    sha256: str | None
    size: int | None


class InputFile(OutputFile):
    """A file that a job read, and which job made it."""

    job_uuid: str | None


@dataclass(frozen=True, slots=True)
class JobReport(Job):
    """A job with its inputs and outputs; environment, script and log where they were asked for."""

    duration: timedelta | None
    failure_sha256: bytes | None
    inputs: list[InputFile]
    outputs: list[OutputFile]
    env: dict[str, str] | None
    script: str | None
    log: str | None


@dataclass(frozen=True, slots=True)
class Release:
    """An artifact in a release store; when another one took its place, or how it was taken back."""

    uuid: UUID
    artifact_uuid: UUID
    store: str
    path: str
    sha256: bytes | None
    size: int | None
    job_uuid: UUID | None
    package: str | None
    version: str | None
    timestamp: datetime
    actor: str
    replaced_at: datetime | None
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
    sha256: bytes | None
    size: int | None
    job_uuid: UUID
    version: str
    image: str
    image_sha256: bytes | None
    finished_at: datetime
    released: list[str]


class ChangedVariable(TypedDict):
    """A variable that differs; `old` is missing where it was added, `new` where it was removed."""

    name: str
    old: NotRequired[str]
    new: NotRequired[str]


class ChangedFile(TypedDict):
    """An input that differs, by digest, as a variable does; `job` made the new one.

    A digest that the store does not know is "unknown".
    """

    path: str
    old: NotRequired[str]
    new: NotRequired[str]
    job: NotRequired[str]


class ChangedDigest(TypedDict):
    """Two digests in hexadecimal that are not equal; None where one is not known."""

    old: str | None
    new: str | None


@dataclass(frozen=True, slots=True)
class Miss:
    """An earlier job, and how it differs from what is about to be built; None where it does not."""

    job_uuid: UUID
    state: State
    finished_at: datetime
    version: str | None
    image: str | None
    image_sha256: ChangedDigest | None
    env: list[ChangedVariable] | None
    inputs: list[ChangedFile] | None
    script: str | None

    def script_diff(self, script: str) -> str | None:
        """Return how the script of what is about to be built differs, as a unified diff.

        :param script: that script
        :returns: the difference, or None where there is none
        """
        if self.script is None:
            return None
        # Not by splitlines(), for which CR LF and LF are the same.
        old, new = (text.removesuffix("\n").split("\n") for text in (self.script, script))
        lines = unified_diff(old, new, str(self.job_uuid), "now", lineterm="")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Ingredient:
    """A file that went into an artifact, the job that made it, and the files that the job read."""

    uuid: UUID
    path: str
    sha256: bytes | None
    size: int | None
    job_uuid: UUID | None
    package: str | None
    version: str | None
    image: str | None
    image_sha256: bytes | None
    endpoint: str | None
    repo_hash: str | None
    finished_at: datetime | None
    inputs: list[UUID]


@dataclass(frozen=True, slots=True)
class Product:
    """A file that was made from another one, with the release stores that have it."""

    uuid: UUID
    path: str
    sha256: bytes | None
    size: int | None
    job_uuid: UUID | None
    package: str | None
    version: str | None
    state: State | None
    finished_at: datetime | None
    released: list[str]
    inputs: list[UUID]


class SlsaSubject(TypedDict):
    """A file that the job made, with its digests in hexadecimal, by algorithm."""

    name: str
    digest: dict[str, str]


class SlsaResource(TypedDict):
    """A file, image or commit that was read; a file of unknown content has a URI instead."""

    name: str
    digest: NotRequired[dict[str, str]]
    uri: NotRequired[str]


class SlsaExternalParameters(TypedDict):
    """What was asked to be built."""

    package: str
    version: str
    image: str
    script: str
    environment: dict[str, str]


class SlsaInternalParameters(TypedDict):
    """How the builder went about it."""

    submit: str
    endpoint: str
    container: NotRequired[str]
    fingerprint: NotRequired[str]


class SlsaBuildDefinition(TypedDict):
    """All that went into a build."""

    buildType: str
    externalParameters: SlsaExternalParameters
    internalParameters: SlsaInternalParameters
    resolvedDependencies: list[SlsaResource]


class SlsaBuilder(TypedDict):
    """Who built it, as a URI."""

    id: str


class SlsaMetadata(TypedDict):
    """The job and its times."""

    invocationId: str
    startedOn: str
    finishedOn: NotRequired[str]


class SlsaRunDetails(TypedDict):
    """This run of the build."""

    builder: SlsaBuilder
    metadata: SlsaMetadata


class SlsaPredicate(TypedDict):
    """How an artifact came to be."""

    buildDefinition: SlsaBuildDefinition
    runDetails: SlsaRunDetails


class SlsaStatement(TypedDict):
    """What is said of which artifacts."""

    _type: str
    subject: list[SlsaSubject]
    predicateType: str
    predicate: SlsaPredicate


@dataclass(frozen=True, slots=True)
class Slsa:
    """An in-toto statement about all that a job made: https://slsa.dev/spec/v1.0/provenance."""

    statement: SlsaStatement


@dataclass(frozen=True, slots=True)
class History:
    """The last good job of a package in an image, the first bad after it, and what lies between."""

    image: str
    failed: int
    good_job: UUID | None
    good_version: str | None
    good_at: datetime | None
    good_commit: str | None
    good_image_sha256: bytes | None
    bad_job: UUID | None
    bad_version: str | None
    bad_at: datetime | None
    bad_commit: str | None
    bad_image_sha256: bytes | None
    commits: list[str]
    inputs: list[ChangedFile]


@dataclass(frozen=True, slots=True)
class Regression:
    """A package whose newest two jobs in an image say that it fails, began to, or was fixed."""

    package: str
    version: str
    image: str
    status: Literal["new failure", "still failing", "fixed"]
    job_uuid: UUID
    started_at: datetime
    previous_job: UUID | None


@dataclass(frozen=True, slots=True)
class Durations:
    """How many seconds jobs of a package take, by image and endpoint, and how often they fail."""

    package: str
    image: str
    endpoint: str
    jobs: int
    failed: int
    failure_rate: float
    p50: float | None
    p95: float | None


@dataclass(frozen=True, slots=True)
class Measurements:
    """What a measurement usually is for a package, and what it was last."""

    package: str
    name: str
    jobs: int
    p50: float
    p95: float
    last: float


@dataclass(frozen=True, slots=True)
class ExpectedDuration:
    """How many seconds the newest jobs of a package took in an image."""

    image: str
    jobs: int
    p50: float
    p95: float


class JobContent(TypedDict):
    """What a job made of a path."""

    job: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Irreproducible:
    """A path whose content differs between jobs that did exactly the same."""

    fingerprint: bytes
    package: str
    version: str
    path: str
    contents: int
    jobs: list[JobContent]


@dataclass(frozen=True, slots=True)
class Failure:
    """Jobs that failed with the same last error lines; `reason` is that of the newest of them."""

    failure_sha256: bytes
    jobs: int
    packages: list[str]
    first_at: datetime
    first_commit: str
    first_job: UUID
    last_at: datetime
    last_job: UUID
    reason: str | None
    lines: str


@dataclass(frozen=True, slots=True)
class ReusedJob:
    """A job, how many submits reused it, and how many seconds that saved."""

    job_uuid: UUID
    package: str
    version: str
    image: str
    reuses: int
    seconds_saved: float
    last_reused_at: datetime


@dataclass(frozen=True, slots=True)
class Savings:
    """How often a package was reused and how often it was built, all told or in a period.

    `period` is the beginning of the day or week, None for all told.
    """

    package: str
    period: datetime | None
    hits: int
    misses: int
    hit_rate: float
    seconds_saved: float


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


# How they are asked ---------------------------------------------------------------------------


def _texts(field: str, value: object) -> list[str]:
    if not isinstance(value, list | tuple):
        raise InvalidInput(f"{field} must be a list of str, not {type(value).__name__}")
    return [_check.text(f"{field}[{place}]", text) for place, text in enumerate(value)]


def _pair(form: str, field: str, value: object) -> str:
    text = _check.text(field, value)
    if "=" not in text[1:]:
        # Not what it is, which may be the value of a secret.
        raise InvalidInput(f"{field} must be {form}; it has no '=' after a name")
    return text


_variable = partial(_pair, "NAME=VALUE")
_label = partial(_pair, "KEY=VALUE")


def _each(check: Callable[[str, str], R], field: str, value: object) -> list[R]:
    """Return the texts, each checked; a single empty one stands for none."""
    texts = _texts(field, value)
    return [check(f"{field}[{place}]", text) for place, text in enumerate(texts) if texts != [""]]


def _variables(field: str, value: object) -> list[str]:
    """Return an environment as it is asked for, the empty one too."""
    checked = _each(_variable, field, value)
    names = [text.partition("=")[0] for text in checked]
    for place, name in enumerate(names):
        if name in names[:place]:
            # Not its value, which may be a secret.
            raise InvalidInput(f"{field}[{place}] has {name!r}, which was given before")
    return checked or [""]


def _labels(field: str, value: object) -> list[str] | None:
    """Return labels that a submit must have, None for none: every submit has all of those."""
    texts = _texts(field, value)
    return [_label(f"{field}[{place}]", text) for place, text in enumerate(texts)] or None


def _file(field: str, text: str) -> str:
    if not _FILE.fullmatch(text):
        raise InvalidInput(
            f"{field} is {text!r}; it must be 64 lower-case hexadecimal digits, two spaces, a path"
        )
    return text


def _uri(field: str, value: object) -> str:
    text = _check.text(field, value)
    if not _URI.fullmatch(text):
        raise InvalidInput(f"{field} is {text!r}; it must be a URI, such as https://example.org/x")
    return text


def _flag(field: str, value: object) -> bool | None:
    """Return True, or None for False: a flag that is not set is not given."""
    return _check.instance(field, value, bool) or None


# How a parameter is checked, by its annotation.
_NEEDED: Mapping[Any, _Check] = {
    UUID: _check.uuid,
    Period: lambda field, value: _check.choice(field, value, get_args(Period)),
    State: lambda field, value: _check.choice(field, value, get_args(State)),
    Texts: _texts,
    Variable: lambda field, value: _secrets.Variable(_variable(field, value)),
    Variables: lambda field, value: _secrets.Each(
        tuple(map(_secrets.Variable, _variables(field, value)))
    ),
    Labels: _labels,
    Files: partial(_each, _file),
    Uri: _uri,
    bool: _flag,
    bytes: _check.sha256,
    datetime: _check.time,
    int: _check.count,
    str: _check.text,
}
_OPTIONAL: Mapping[Any, _Check] = {
    kind | None: partial(_check.given, check) for kind, check in _NEEDED.items()
}
_CHECKS = {**_NEEDED, **_OPTIONAL}


@cache
def _checks(name: str) -> Mapping[str, _Check]:
    """Return how each parameter of a report is checked."""
    parameters = signature(globals()[name]).parameters.values()
    return {parameter.name: _CHECKS[parameter.annotation] for parameter in parameters}


def _ask(row: Callable[..., R], name: str, /, **parameters: object) -> Statement[list[R]]:
    """Make the statement of a report, once its parameters are what its function takes."""
    checks = _checks(name)
    checked = {field: checks[field](field, value) for field, value in parameters.items()}
    return read(f"report/{name}", checked, partial(typed, row))


def _beside(field: str, value: object, **other: object) -> None:
    """Refuse a parameter that is given without the other one, of which it says more."""
    ((needed, beside),) = other.items()
    if value is not None and beside is None:
        raise InvalidInput(f"{field} says more of {needed}, and no {needed} is given")


def _one_of(**parameters: object) -> None:
    """Refuse a question that is none without one of these."""
    if all(value is None for value in parameters.values()):
        raise InvalidInput(f"one of {', '.join(parameters)} must be given")


# The reports ----------------------------------------------------------------------------------


def artifacts(
    *,
    job: UUID | None = None,
    path: str | None = None,
    sha256: bytes | None = None,
    before: UUID | None = None,
    limit: int | None = 50,
) -> Statement[list[Artifact]]:
    """Which artifacts are there, newest first?

    :param job: only those that this job made
    :param path: only those with this path
    :param sha256: only those with this SHA-256 of their content
    :param before: go on after this artifact, the last row of the page before
    :param limit: at most this many; None for all
    """
    return _ask(
        Artifact, "artifacts", job=job, path=path, sha256=sha256, before=before, limit=limit
    )


def durations(
    *,
    package: str | None = None,
    image: str | None = None,
    endpoint: str | None = None,
    newer_than: datetime | None = None,
    older_than: datetime | None = None,
    limit: int | None = 50,
) -> Statement[list[Durations]]:
    """How long do the jobs of each package take in each image and on each endpoint, and how often
    do they fail?

    :param package: only the package of this name
    :param image: only jobs in this image
    :param endpoint: only jobs on this endpoint
    :param newer_than: only jobs started at or after this time
    :param older_than: only jobs started before this time
    :param limit: at most this many; None for all
    """
    return _ask(
        Durations,
        "durations",
        package=package,
        image=image,
        endpoint=endpoint,
        newer_than=newer_than,
        older_than=older_than,
        limit=limit,
    )


def endpoints(*, limit: int | None = 50) -> Statement[list[Endpoint]]:
    """Which endpoints are there, and when did a job last start on each?

    :param limit: at most this many; None for all
    """
    return _ask(Endpoint, "endpoints", limit=limit)


def envvars(*, name: str | None = None, limit: int | None = 50) -> Statement[list[EnvVar]]:
    """Which environment variables were ever set?

    :param name: only those of this name
    :param limit: at most this many; None for all
    """
    return _ask(EnvVar, "envvars", name=name, limit=limit)


def expected_duration(
    package: str,
    *,
    version: str | None = None,
    image: str | None = None,
    endpoint: str | None = None,
) -> Statement[list[ExpectedDuration]]:
    """How many seconds will the next job of this package take in each image?

    :param package: name of the package
    :param version: only jobs of this version
    :param image: only jobs in this image
    :param endpoint: only jobs on this endpoint
    """
    return _ask(
        ExpectedDuration,
        "expected_duration",
        package=package,
        version=version,
        image=image,
        endpoint=endpoint,
    )


def explain_miss(
    package: str,
    *,
    version: str,
    image: str,
    image_sha256: bytes | None = None,
    script: str,
    env: Variables,
    inputs: Files,
    limit: int | None = 50,
) -> Statement[list[Miss]]:
    """Which earlier jobs of this package come nearest to what is about to be built, and what
    differs?

    :param package: name of the package
    :param version: its version
    :param image: the image
    :param image_sha256: the digest that the image's name means, if it is known
    :param script: the script that would run
    :param env: the whole environment, each as NAME=VALUE
    :param inputs: the files that it would read, each as sha256sum prints it: digest, two
        spaces, path
    :param limit: at most this many; None for all
    """
    return _ask(
        Miss,
        "explain_miss",
        package=package,
        version=version,
        image=image,
        image_sha256=image_sha256,
        script=script,
        env=env,
        inputs=inputs,
        limit=limit,
    )


def failures(
    *,
    package: str | None = None,
    failure: bytes | None = None,
    newer_than: datetime | None = None,
    older_than: datetime | None = None,
    limit: int | None = 50,
) -> Statement[list[Failure]]:
    """Which failures are there, each in how many jobs, and since which commit?

    :param package: only jobs of the package of this name
    :param failure: only this failure, by its SHA-256
    :param newer_than: only jobs started at or after this time
    :param older_than: only jobs started before this time
    :param limit: at most this many; None for all
    """
    return _ask(
        Failure,
        "failures",
        package=package,
        failure=failure,
        newer_than=newer_than,
        older_than=older_than,
        limit=limit,
    )


def find_artifact(
    package: str,
    *,
    version: str | None = None,
    image: str | None = None,
    image_sha256: bytes | None = None,
    allow_image: Texts | None = None,
    deny_image: Texts | None = None,
    script: str | None = None,
    env: Variables | None = None,
    limit: int | None = 50,
) -> Statement[list[Found]]:
    """Which files can stand for this package's build, released ones first, then newest first?

    :param package: name of the package
    :param version: only this version
    :param image: only from jobs in this image
    :param image_sha256: only from jobs whose image's name meant this digest
    :param allow_image: only from jobs in one of these images
    :param deny_image: not from jobs in one of these images
    :param script: only from jobs that ran exactly this script
    :param env: only from jobs whose whole environment is exactly these NAME=VALUE; a single empty
        one for the empty environment
    :param limit: at most this many; None for all
    """
    return _ask(
        Found,
        "find_artifact",
        package=package,
        version=version,
        image=image,
        image_sha256=image_sha256,
        allow_image=allow_image,
        deny_image=deny_image,
        script=script,
        env=env,
        limit=limit,
    )


def history(
    package: str, *, image: str | None = None, endpoint: str | None = None
) -> Statement[list[History]]:
    """When did this package last build in each image, which job broke it, and what changed in
    between?

    :param package: name of the package
    :param image: only jobs in this image
    :param endpoint: only jobs on this endpoint
    """
    return _ask(History, "history", package=package, image=image, endpoint=endpoint)


def images(*, limit: int | None = 50) -> Statement[list[Image]]:
    """Which images are there, and when did a job last start in each?

    :param limit: at most this many; None for all
    """
    return _ask(Image, "images", limit=limit)


def impact(
    *,
    artifact: UUID | None = None,
    package: str | None = None,
    version: str | None = None,
    commit: str | None = None,
    image: str | None = None,
    endpoint: str | None = None,
    limit: int | None = 50,
) -> Statement[list[Product]]:
    """What was made from this, directly or by further jobs, and where is it released?

    :param artifact: from this artifact
    :param package: from what jobs made for the package of this name
    :param version: of this package, only from what jobs made for this version
    :param commit: from what jobs made for submits at this commit of the package repository
    :param image: from what jobs made in this image
    :param endpoint: from what jobs made on this endpoint
    :param limit: at most this many; None for all
    """
    _one_of(artifact=artifact, package=package, commit=commit, image=image, endpoint=endpoint)
    _beside("version", version, package=package)
    return _ask(
        Product,
        "impact",
        artifact=artifact,
        package=package,
        version=version,
        commit=commit,
        image=image,
        endpoint=endpoint,
        limit=limit,
    )


def irreproducible(
    *,
    package: str | None = None,
    newer_than: datetime | None = None,
    older_than: datetime | None = None,
    limit: int | None = 50,
) -> Statement[list[Irreproducible]]:
    """Which files differ between jobs that did exactly the same?

    :param package: only the package of this name
    :param newer_than: only jobs started at or after this time
    :param older_than: only jobs started before this time
    :param limit: at most this many; None for all
    """
    return _ask(
        Irreproducible,
        "irreproducible",
        package=package,
        newer_than=newer_than,
        older_than=older_than,
        limit=limit,
    )


def job(
    job: UUID, *, log: bool = False, script: bool = False, env: bool = False
) -> Statement[list[JobReport]]:
    """What is this job, how did it end, and what did it read and make?

    :param job: the job's uuid
    :param log: also its log, unless it was removed; one over 512 MiB is for log-of
    :param script: also its script
    :param env: also its environment
    """
    return _ask(JobReport, "job", job=job, log=log, script=script, env=env)


def jobs(
    *,
    of_submit: UUID | None = None,
    package: str | None = None,
    version: str | None = None,
    image: str | None = None,
    endpoint: str | None = None,
    state: State | None = None,
    reason: str | None = None,
    env: Variable | None = None,
    newer_than: datetime | None = None,
    older_than: datetime | None = None,
    before: UUID | None = None,
    before_at: datetime | None = None,
    limit: int | None = 50,
) -> Statement[list[ListedJob]]:
    """Which jobs were run, newest first?

    :param of_submit: only those of this submit, and those that it reused, which `reused` marks
    :param package: only those that build the package of this name
    :param version: only those that build this version
    :param image: only those in this image
    :param endpoint: only those on this endpoint
    :param state: only those in this state
    :param reason: only those that ended for exactly this reason
    :param env: only those with this variable, NAME=VALUE, in their environment
    :param newer_than: only those started at or after this time
    :param older_than: only those started before this time
    :param before: go on after this job, the last row of the page before
    :param before_at: started_at of that row, with which it goes on also if the job was removed
        since
    :param limit: at most this many; None for all
    """
    _beside("before_at", before_at, before=before)
    return _ask(
        ListedJob,
        "jobs",
        of_submit=of_submit,
        package=package,
        version=version,
        image=image,
        endpoint=endpoint,
        state=state,
        reason=reason,
        env=env,
        newer_than=newer_than,
        older_than=older_than,
        before=before,
        before_at=before_at,
        limit=limit,
    )


def measurements(
    *,
    package: str | None = None,
    name: str | None = None,
    image: str | None = None,
    state: State | None = None,
    newer_than: datetime | None = None,
    older_than: datetime | None = None,
    limit: int | None = 50,
) -> Statement[list[Measurements]]:
    """What was measured of the jobs of each package, and what is usual?

    :param package: only the package of this name
    :param name: only the measurement of this name
    :param image: only jobs in this image
    :param state: only jobs in this state; those that succeeded, if not given
    :param newer_than: only jobs started at or after this time
    :param older_than: only jobs started before this time
    :param limit: at most this many; None for all
    """
    return _ask(
        Measurements,
        "measurements",
        package=package,
        name=name,
        image=image,
        state=state,
        newer_than=newer_than,
        older_than=older_than,
        limit=limit,
    )


def metrics() -> Statement[list[Metric]]:
    """How much is in the store?"""
    return _ask(Metric, "metrics")


def packages(*, name: str | None = None, limit: int | None = 50) -> Statement[list[Package]]:
    """Which packages are there, and when did a job last build each?

    :param name: only those of this name
    :param limit: at most this many; None for all
    """
    return _ask(Package, "packages", name=name, limit=limit)


def provenance(artifact: UUID) -> Statement[list[Ingredient]]:
    """What went into this artifact, down to the source files, and which job made each?

    :param artifact: the artifact's uuid
    """
    return _ask(Ingredient, "provenance", artifact=artifact)


def regressions(
    *,
    package: str | None = None,
    image: str | None = None,
    endpoint: str | None = None,
    newer_than: datetime | None = None,
    limit: int | None = 50,
) -> Statement[list[Regression]]:
    """Which packages began to fail, still fail, or were fixed with their newest job in an image?

    :param package: only the package of this name
    :param image: only jobs in this image
    :param endpoint: only jobs on this endpoint
    :param newer_than: only if the newest job started at or after this time
    :param limit: at most this many; None for all
    """
    return _ask(
        Regression,
        "regressions",
        package=package,
        image=image,
        endpoint=endpoint,
        newer_than=newer_than,
        limit=limit,
    )


def releases(
    *,
    store: str | None = None,
    package: str | None = None,
    artifact: UUID | None = None,
    history: bool = False,
    newer_than: datetime | None = None,
    older_than: datetime | None = None,
    limit: int | None = 50,
) -> Statement[list[Release]]:
    """What is released, newest first?

    :param store: only what went to this release store
    :param package: only what jobs made for the package of this name
    :param artifact: only this artifact
    :param history: also what was withdrawn or replaced
    :param newer_than: only what was released at or after this time
    :param older_than: only what was released before this time
    :param limit: at most this many; None for all
    """
    return _ask(
        Release,
        "releases",
        store=store,
        package=package,
        artifact=artifact,
        history=history,
        newer_than=newer_than,
        older_than=older_than,
        limit=limit,
    )


def reused(
    *,
    package: str | None = None,
    newer_than: datetime | None = None,
    older_than: datetime | None = None,
    limit: int | None = 50,
) -> Statement[list[ReusedJob]]:
    """Which jobs were reused, those whose reuse saved most first?

    :param package: only jobs that built the package of this name
    :param newer_than: only what submits chose at or after this time
    :param older_than: only what submits chose before this time
    :param limit: at most this many; None for all
    """
    return _ask(
        ReusedJob,
        "reused",
        package=package,
        newer_than=newer_than,
        older_than=older_than,
        limit=limit,
    )


def savings(
    *,
    package: str | None = None,
    per: Period | None = None,
    newer_than: datetime | None = None,
    older_than: datetime | None = None,
    limit: int | None = 50,
) -> Statement[list[Savings]]:
    """How often was a job reused instead of run, and how many seconds did that save?

    :param package: only the package of this name
    :param per: a row for each day, or week from Monday, in UTC, newest first; else one for all time
    :param newer_than: only hits and misses at or after this time
    :param older_than: only hits and misses before this time
    :param limit: at most this many; None for all
    """
    return _ask(
        Savings,
        "savings",
        package=package,
        per=per,
        newer_than=newer_than,
        older_than=older_than,
        limit=limit,
    )


def search_log(
    *,
    text: str | None = None,
    regex: str | None = None,
    of_submit: UUID | None = None,
    package: str | None = None,
    state: State | None = None,
    newer_than: datetime | None = None,
    older_than: datetime | None = None,
    limit: int | None = 50,
) -> Statement[list[LogLine]]:
    """Which lines of which logs have this text, newest jobs first?

    :param text: only lines that contain this
    :param regex: only lines that match this regular expression of PostgreSQL
    :param of_submit: only jobs of this submit
    :param package: only jobs of the package of this name
    :param state: only jobs in this state
    :param newer_than: only jobs started at or after this time
    :param older_than: only jobs started before this time
    :param limit: at most this many lines; None for all
    """
    _one_of(text=text, regex=regex)
    for name, pattern in (("text", text), ("regex", regex)):
        _check.given(_check.some_text, name, pattern)
    return _ask(
        LogLine,
        "search_log",
        text=text,
        regex=regex,
        of_submit=of_submit,
        package=package,
        state=state,
        newer_than=newer_than,
        older_than=older_than,
        limit=limit,
    )


def slsa(artifact: UUID, *, builder: Uri | None = None) -> Statement[list[Slsa]]:
    """How was this artifact built, as an in-toto statement with a SLSA provenance predicate?

    :param artifact: the artifact's uuid
    :param builder: URI of the builder; by default one made of the endpoint's name
    """
    return _ask(Slsa, "slsa", artifact=artifact, builder=builder)


def submit(submit: UUID) -> Statement[list[SubmitReport]]:
    """What did this submit request, and what became of its jobs?

    :param submit: the submit's uuid
    """
    return _ask(SubmitReport, "submit", submit=submit)


def submits(
    *,
    for_pkg: str | None = None,
    for_version: str | None = None,
    with_pkg: str | None = None,
    with_version: str | None = None,
    image: str | None = None,
    commit: str | None = None,
    actor: str | None = None,
    label: Labels | None = None,
    newer_than: datetime | None = None,
    older_than: datetime | None = None,
    before: UUID | None = None,
    before_at: datetime | None = None,
    limit: int | None = 50,
) -> Statement[list[Submit]]:
    """Which submits were made, newest first?

    :param for_pkg: only those that asked for the package of this name
    :param for_version: only those that asked for this version
    :param with_pkg: only those whose tree has the package of this name
    :param with_version: of this package, only those with this version
    :param image: only those that asked for this image
    :param commit: only those at this commit of the package repository
    :param actor: only those that this actor made
    :param label: only those with each of these KEY=VALUE
    :param newer_than: only those made at or after this time
    :param older_than: only those made before this time
    :param before: go on after this submit, the last row of the page before
    :param before_at: timestamp of that row, with which it goes on also if the submit was removed
        since
    :param limit: at most this many; None for all
    """
    _beside("with_version", with_version, with_pkg=with_pkg)
    _beside("before_at", before_at, before=before)
    return _ask(
        Submit,
        "submits",
        for_pkg=for_pkg,
        for_version=for_version,
        with_pkg=with_pkg,
        with_version=with_version,
        image=image,
        commit=commit,
        actor=actor,
        label=label,
        newer_than=newer_than,
        older_than=older_than,
        before=before,
        before_at=before_at,
        limit=limit,
    )
