"""Statements with realistic values, for tests that care about one of them."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from butido_store import Statement, job, submit
from butido_store.artifact import Artifact, Output

HASH = "c0ffee" + "0" * 34
TIME = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def later(seconds: float) -> datetime:
    """Return a time after `TIME`."""
    return TIME + timedelta(seconds=seconds)


def sha256(content: str) -> bytes:
    """Return the SHA-256 of a text."""
    return hashlib.sha256(content.encode()).digest()


def tree(*packages: str) -> submit.Tree:
    """Return a tree in which the first package needs all others."""
    nodes: list[submit.TreeNode] = [
        {"name": name, "version": "1.0", "dependencies": []} for name in packages
    ]
    nodes[0]["dependencies"] = [*range(1, len(packages))]
    return {"root": 0, "nodes": nodes}


def buildplan(*jobs: UUID) -> submit.BuildPlan:
    """Return a plan of these jobs."""
    return {
        "jobs": [
            {"uuid": str(uuid), "package": "zlib", "version": "1.3", "needs": []} for uuid in jobs
        ]
    }


def create(uuid: UUID, **changes: Any) -> Statement[None]:
    """Return a submit of zlib, with some values changed."""
    values: dict[str, Any] = {
        "timestamp": TIME,
        "package": "zlib",
        "version": "1.3",
        "image": "debian:12",
        "repo_hash": HASH,
        "tree": tree("zlib", "gcc"),
        "buildplan": buildplan(),
        "env": {"LANG": "C.UTF-8"},
    }
    return submit.create(uuid, **(values | changes))


def start(uuid: UUID, submit_uuid: UUID, **changes: Any) -> Statement[bytes | None]:
    """Return the start of a job of that submit, with some values changed."""
    values: dict[str, Any] = {
        "package": "zlib",
        "version": "1.3",
        "image": "debian:12",
        "endpoint": "builder-1",
        "started_at": later(1),
        "script": "#!/bin/sh\nmake\n",
        "env": {"LANG": "C.UTF-8", "CC": "gcc"},
    }
    return job.start(uuid, submit=submit_uuid, **(values | changes))


def finish(uuid: UUID, *outputs: str, **changes: Any) -> Statement[tuple[Artifact, ...]]:
    """Return the successful end of a job with outputs of these paths."""
    values: dict[str, Any] = {
        "state": "success",
        "finished_at": later(60),
        "outputs": [Output(path, sha256(path), len(path)) for path in outputs],
    }
    return job.finish(uuid, **(values | changes))


def ended(uuid: UUID, submit_uuid: UUID, **changes: Any) -> job.EndedJob:
    """Return a job that has ended, with some values changed."""
    values: dict[str, Any] = {
        "package": "zlib",
        "version": "1.3",
        "image": "debian:12",
        "endpoint": "builder-1",
        "state": "success",
        "started_at": later(1),
        "finished_at": later(60),
        "script": "#!/bin/sh\nmake\n",
        "log": "done\n",
        "env": {"LANG": "C.UTF-8", "CC": "gcc"},
    }
    return job.EndedJob(uuid=uuid, submit=submit_uuid, **(values | changes))


def is_path(text: str) -> bool:
    """Tell whether an artifact may have this path."""
    return not text.startswith("/") and ".." not in text.split("/")


def netstring(data: bytes) -> bytes:
    """Return the bytes with their length before them."""
    return b"%d:%s," % (len(data), data)


def as_jsonb(value: Mapping[str, str]) -> bytes:
    """Return an object as jsonb writes it: sorted, shorter names first."""
    pairs = sorted(value.items(), key=lambda pair: (len(pair[0].encode()), pair[0].encode()))
    return json.dumps(dict(pairs), ensure_ascii=False).encode()


def environment_sha256(env: Mapping[str, str]) -> bytes:
    """Return what the function of this name has to give, written a second time."""
    return hashlib.sha256(as_jsonb(env)).digest()


def fingerprint(
    package: str,
    version: str,
    image: str,
    script: str,
    env: Mapping[str, str],
    inputs: Iterable[tuple[str, bytes]],
    image_sha256: bytes | None = None,
) -> bytes:
    """Return what `job_fingerprint` has to give, written a second time."""
    files = [f"{digest.hex()}  {path}" for path, digest in inputs]
    return hashlib.sha256(
        b"".join(
            netstring(text.encode())
            for text in (package, version, image, (image_sha256 or b"").hex(), script)
        )
        + netstring(environment_sha256(env).hex().encode())
        + netstring(as_jsonb(dict(zip(files, files, strict=True))))
    ).digest()
