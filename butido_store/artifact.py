"""Artifacts: files by path and content, from outside or made by a job, and their reuse."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from butido_store import _check
from butido_store._check import json_text, uuid7
from butido_store._statement import Rows, Statement, read, step, write, written
from butido_store.errors import Conflict, NotFound


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file with its content's SHA-256 and size in bytes; `job_uuid` is the job that made it."""

    uuid: UUID
    path: str
    sha256: bytes
    size: int
    job_uuid: UUID | None


@dataclass(frozen=True, slots=True)
class Output:
    """A file that a job made, as its builder reports it; `size` in bytes."""

    path: str
    sha256: bytes
    size: int
    uuid: UUID = field(default_factory=uuid7)


@dataclass(frozen=True, slots=True)
class Reuse:
    """A successful job that did exactly what was asked for, with all that it made."""

    job_uuid: UUID
    finished_at: datetime
    outputs: tuple[Artifact, ...]


def artifacts(rows: Rows) -> list[Artifact]:
    """Return the rows of a query on artifacts as such."""
    return [Artifact(*row) for row in rows]  # type: ignore[arg-type]


def register(
    path: str, *, sha256: bytes, size: int, uuid: UUID | None = None
) -> Statement[Artifact]:
    """Record a file from outside, which no job made; the same path and content is one artifact.

    :param path: path relative to the root of the store that holds the file
    :param sha256: SHA-256 of the content, 32 bytes
    :param size: size in bytes
    :param uuid: the uuid that it gets when it is not there yet
    :returns: the artifact, which may be there already under another uuid
    :raises InvalidInput: at once, when a value cannot be stored
    :raises Conflict: when run, if it is there with another size
    """

    name = {"path": _check.path("path", path), "sha256": _check.sha256("sha256", sha256)}

    def registered(answers: Sequence[Rows]) -> Artifact:
        (stored,) = artifacts([written(answers[-1])])
        if stored.size != size:
            raise Conflict(
                f"{path} with this SHA-256 is in the store with {stored.size} bytes, not {size}"
            )
        return stored

    own = uuid7() if uuid is None else _check.uuid("uuid", uuid)
    return write(
        step("artifact/register", {"artifact": own, **name, "size": _check.count("size", size)}),
        step("artifact/registered", name),
        collect=registered,
        # Somebody who registers the same at once may have been first to take its uuid.
        why=lambda: read("artifact/registered", name, lambda rows: registered([rows])),
    )


def get(uuid: UUID) -> Statement[Artifact]:
    """What is this artifact?

    :param uuid: the artifact's uuid
    :raises NotFound: when run, if there is none
    """

    def collect(rows: Rows) -> Artifact:
        if not rows:
            raise NotFound(f"there is no artifact {uuid} in the store")
        return artifacts(rows)[0]

    return read("artifact/get", {"artifact": _check.uuid("uuid", uuid)}, collect)


def reusable(
    *,
    package: str,
    version: str,
    image: str,
    script: str,
    env: Mapping[str, str],
    inputs: Iterable[tuple[str, bytes]],
) -> Statement[Reuse | None]:
    """Has exactly this been built before, and what came out of it?

    :param package: name of the package
    :param version: its version
    :param image: name of the image
    :param script: the script that would run
    :param env: the job's whole environment
    :param inputs: path and SHA-256 of each file that the job would read
    :returns: the newest successful job with the same fingerprint, or None
    """
    files = [
        _check.sha256(f"inputs[{path!r}]", sha256).hex()
        + "  "
        + _check.path("a path in inputs", path)
        for path, sha256 in inputs
    ]

    def collect(rows: Rows) -> Reuse | None:
        if not rows:
            return None
        job_uuid, finished_at = rows[0][:2]
        made = [(*row[2:], job_uuid) for row in rows if row[2] is not None]
        return Reuse(job_uuid, finished_at, tuple(artifacts(made)))  # type: ignore[arg-type]

    return read(
        "artifact/reusable",
        {
            "package": _check.name("package", package),
            "version": _check.name("version", version),
            "image": _check.name("image", image, length=_check.IMAGE_LENGTH),
            "script": _check.text("script", script),
            "env": json_text(_check.env("env", env)),
            "inputs": json_text(files),
        },
        collect,
    )
