"""Artifacts: files by path and content, from outside or made by a job, and their reuse."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Self
from uuid import UUID

from butido_store import _check
from butido_store._check import json_text, uuid7
from butido_store._secrets import Environment
from butido_store._statement import (
    CONFIRM,
    Rows,
    Statement,
    read,
    single,
    step,
    typed,
    write,
    written,
)
from butido_store.errors import Conflict


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file with its content's SHA-256, 32 bytes, and its size in bytes.

    Both are None where they are not known, in a record from a store that never had them. `job_uuid`
    is the job that made it; None for a file from outside.
    """

    uuid: UUID
    path: str
    sha256: bytes | None
    size: int | None
    job_uuid: UUID | None


@dataclass(frozen=True, slots=True)
class Output:
    """A file that a job made, as its builder reports it.

    `path` is relative to the root of the store that holds the file, `sha256` of its content and 32
    bytes, `size` in bytes.
    """

    path: str
    sha256: bytes
    size: int
    uuid: UUID = field(default_factory=uuid7)

    def __post_init__(self) -> None:
        """Refuse what cannot be stored, where it is said and not only where the job ends.

        :raises InvalidInput: it names the field
        """
        path = _check.path("path of an output", self.path)
        _check.sha256(f"sha256 of output {path!r}", self.sha256)
        _check.count(f"size of output {path!r}", self.size)
        _check.uuid(f"uuid of output {path!r}", self.uuid)

    @classmethod
    def from_file(cls, file: str | os.PathLike[str], path: str) -> Self:
        """Describe a file that was made, with the SHA-256 and size of what is read of it now.

        It reads all of the file, a piece at a time: in asyncio, call it by `asyncio.to_thread`.

        :param file: where it is
        :param path: its path relative to the root of the store that holds it
        :returns: the output, with a new uuid
        :raises InvalidInput: at once, when the path cannot be stored
        :raises OSError: the file cannot be read
        """
        checked = _check.path("path", path)
        with open(file, "rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").digest()
            # What was read, even of a file that grew meanwhile.
            return cls(checked, digest, opened.tell())


@dataclass(frozen=True, slots=True)
class Reuse:
    """A successful job that did exactly what was asked for, with all that it made."""

    job_uuid: UUID
    finished_at: datetime
    outputs: tuple[Artifact, ...]


def register(
    path: str, *, sha256: bytes, size: int, uuid: UUID | None = None
) -> Statement[Artifact]:
    """Record a file from outside, which no job made; the same path and content is one artifact.

    :param path: path relative to the root of the store that holds the file
    :param sha256: SHA-256 of the content, 32 bytes
    :param size: size in bytes
    :param uuid: the uuid that it gets when it is not there yet; by default a new one
    :returns: the artifact, which may be there already under another uuid
    :raises InvalidInput: at once, when a value cannot be stored
    :raises Conflict: when run, if it is there with another size, or the uuid is another artifact's
    """
    name = {"path": _check.path("path", path), "sha256": _check.sha256("sha256", sha256)}

    def registered(rows: Rows) -> Artifact:
        (stored,) = typed(Artifact, [written(rows)])
        if stored.size not in (None, size):
            raise Conflict(
                f"{path} with this SHA-256 is in the store with {stored.size} bytes, not {size}"
            )
        return stored

    own = uuid7() if uuid is None else _check.uuid("uuid", uuid)
    return write(
        step("artifact/register", {"artifact": own, **name, "size": _check.count("size", size)}),
        step("artifact/registered", name),
        CONFIRM,
        collect=lambda answers: registered(answers[1]),
        # Somebody who registers the same at once may have been first to take its uuid.
        why=lambda: read("artifact/registered", name, registered),
    )


def get(uuid: UUID) -> Statement[Artifact]:
    """What is this artifact?

    :param uuid: the artifact's uuid
    :returns: the artifact
    :raises InvalidInput: at once, when it is no UUID
    :raises NotFound: when run, if there is none
    """
    return read(
        "artifact/get",
        {"artifact": _check.uuid("uuid", uuid)},
        lambda rows: single(Artifact, rows, f"there is no artifact {uuid} in the store"),
    )


def reusable(
    *,
    package: str,
    version: str,
    image: str,
    image_sha256: bytes | None = None,
    script: str,
    env: Mapping[str, str],
    inputs: Iterable[Artifact | tuple[str, bytes]],
) -> Statement[Reuse | None]:
    """Has exactly this been built before, and what came out of it?

    :param package: name of the package
    :param version: its version
    :param image: name of the image
    :param image_sha256: the digest that the name means, 32 bytes; without it only a job of which
        that is not known is the same
    :param script: the script that would run
    :param env: the job's whole environment: the package's own and the submit's additional one
    :param inputs: each file that the job would read: an artifact, or its path and SHA-256, 32 bytes
    :returns: the newest successful job with the same fingerprint, or None, as where the content of
        an artifact is unknown
    :raises InvalidInput: at once, when a value could not be stored
    """
    given = list(_check.each("inputs", inputs))
    pairs = _check.pairs(
        "inputs",
        ((one.path, one.sha256) if isinstance(one, Artifact) else one for one in given),
        "an artifact, or a pair of its path and SHA-256",
    )
    files = [
        None
        if isinstance(one, Artifact) and sha256 is None
        else _check.sha256(f"inputs[{path!r}]", sha256).hex()
        + "  "
        + _check.path("a path in inputs", path)
        for one, (path, sha256) in zip(given, pairs, strict=True)
    ]

    return read(
        "artifact/reusable",
        {
            "package": _check.name("package", package),
            "version": _check.name("version", version),
            "image": _check.name("image", image, length=_check.IMAGE_LENGTH),
            "image_sha256": _check.given(_check.sha256, "image_sha256", image_sha256),
            "script": _check.text("script", script),
            "env": Environment.of(_check.env("env", env)),
            "inputs": json_text(files),
        },
        lambda rows: _as_reuse(rows) if rows else None,
        decides=True,
    )


def _as_reuse(rows: Rows) -> Reuse:
    """Return a job that has done what was asked for.

    :param rows: of its uuid, its end, and the columns of an output; NULL where it made none
    """
    job_uuid, finished_at, *_ = rows[0]
    made = [(*row[2:], job_uuid) for row in rows if row[2] is not None]
    (found,) = typed(Reuse, [(job_uuid, finished_at, tuple(typed(Artifact, made)))])
    return found
