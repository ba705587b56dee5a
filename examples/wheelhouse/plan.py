"""What a requirement comes to, by pip's own resolver, and the submit that asks for it."""

import hashlib
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from threading import Event
from uuid import UUID

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from butido_store import Statement, submit, uuid7
from wheelhouse.machine import IMAGE, WheelhouseError, run

# The environment of a job is its package's own and what the submit adds to all of its jobs.
SUBMIT_ENV = {"PYTHONHASHSEED": "0"}
PACKAGE_ENV = {
    "LC_ALL": "C.UTF-8",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
    "PIP_PROGRESS_BAR": "off",
    "PIP_ROOT_USER_ACTION": "ignore",
    "SOURCE_DATE_EPOCH": "315532800",  # 1980: a zip file, and so a wheel, knows no earlier time
}
JOB_ENV = PACKAGE_ENV | SUBMIT_ENV


@dataclass(frozen=True, slots=True)
class Package:
    """A package at the version that the resolver chose, and the job that is to build it."""

    name: str
    version: str
    needs: tuple[str, ...]
    job: UUID

    def __str__(self) -> str:
        """Return name and version."""
        return f"{self.name} {self.version}"


def resolve(requirement: str, place: Path, stop: Event) -> dict[str, Package]:
    """Ask pip which packages a requirement comes to, and how they depend on each other.

    :param requirement: as pip takes it, `flask` or `rich>=14`
    :param place: where pip may leave files
    :param stop: ends pip when it is set
    :returns: packages by name, the requested one first
    :raises WheelhouseError: there is no answer, or it cannot be built in any order
    """
    wanted = _parsed(requirement)
    said = bytearray()
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    command += ["--report", "report.json", "--", requirement]
    environment = {**os.environ, "TMPDIR": str(place / "tmp")}
    if run(command, place, environment, stop, said.extend).exit_code:
        lines = said.decode(errors="replace").splitlines() or ["it does not say why"]
        reasons = [line for line in lines if line.startswith("ERROR: ")] or lines
        raise WheelhouseError(f"pip cannot resolve {requirement}: {reasons[-1]}")
    report = json.loads((place / "report.json").read_bytes())
    versions: dict[str, str] = {}
    requires: dict[str, list[Requirement]] = {}
    for metadata in (found["metadata"] for found in report["install"]):
        name = canonicalize_name(metadata["name"])
        versions[name] = metadata["version"]
        requires[name] = [_parsed(text) for text in metadata.get("requires_dist", [])]
    needs = _needs(wanted, requires, report["environment"])
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        circle = ", ".join(error.args[1][1:])
        raise WheelhouseError(f"nothing to begin with, these need each other: {circle}") from None
    return {
        name: Package(name, versions[name], tuple(sorted(below)), uuid7())
        for name, below in needs.items()
    }


def _parsed(requirement: str) -> Requirement:
    try:
        return Requirement(requirement)
    except InvalidRequirement as error:
        reason = str(error).splitlines()[0]
        raise WheelhouseError(f"{requirement!r} is not a requirement: {reason}") from None


def _needs(
    wanted: Requirement,
    requires: Mapping[str, Sequence[Requirement]],
    environment: Mapping[str, str],
) -> dict[str, set[str]]:
    """Follow the requirements that hold here, with the extras that they ask for."""
    needs: dict[str, set[str]] = {}
    pending, followed = [wanted], set()
    while pending:
        wish = pending.pop(0)
        name, extras = canonicalize_name(wish.name), sorted(wish.extras)
        if (name, *extras) in followed:
            continue
        followed.add((name, *extras))
        holding = [
            need
            for need in requires[name]
            if canonicalize_name(need.name) in requires
            and (
                need.marker is None
                or any(need.marker.evaluate({**environment, "extra": e}) for e in ["", *extras])
            )
        ]
        pending += holding
        # What requires itself, as `package[all]` does, means more extras and no other package.
        needs.setdefault(name, set()).update(
            {canonicalize_name(need.name) for need in holding} - {name}
        )
    return needs


def submission(uuid: UUID, packages: Mapping[str, Package]) -> Statement[None]:
    """Return the statement that records what was asked for, what it comes to, what is planned.

    :param uuid: the submit's
    :param packages: by name, the requested one first
    """
    wanted, *_ = packages.values()
    place = {name: number for number, name in enumerate(packages)}
    nodes, jobs = [], []
    for each in packages.values():
        below = [place[need] for need in each.needs]
        nodes.append({"name": each.name, "version": each.version, "dependencies": below})
        needs = [str(packages[need].job) for need in each.needs]
        entry = {"uuid": str(each.job), "package": each.name, "version": each.version}
        jobs.append({**entry, "needs": needs})
    # A package repository's commit would say what exactly each package was. There is none: here
    # the pinned versions say so, and their hash, made as `git hash-object` does, stands for it.
    pins = "".join(sorted(f"{each.name}=={each.version}\n" for each in packages.values())).encode()
    return submit.create(
        uuid,
        timestamp=datetime.now(UTC),
        package=wanted.name,
        version=wanted.version,
        image=IMAGE,
        repo_hash=hashlib.sha1(b"blob %d\0%b" % (len(pins), pins)).hexdigest(),
        tree={"root": 0, "nodes": nodes},
        buildplan={"jobs": jobs},
        env=SUBMIT_ENV,
        actor=os.environ.get("USER") or f"uid {os.getuid()}",
        labels={"builder": "wheelhouse", "python": platform.python_version()},
    )
