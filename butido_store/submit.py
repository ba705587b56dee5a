"""Submits: what was asked for, at which commit, with the tree and the plan that came of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, TypedDict, cast
from uuid import UUID

from butido_store import _check
from butido_store._check import json_text
from butido_store._secrets import Environment
from butido_store._statement import (
    Key,
    Rows,
    Statement,
    Unwritten,
    no_value,
    read,
    single,
    step,
    typed,
    variables,
    write,
)
from butido_store.artifact import Reuse
from butido_store.errors import Conflict, NotFound


@dataclass(frozen=True, slots=True)
class Submit:
    """A submit, without its package tree and build plan.

    `actor` and `labels` are None where nothing was said.
    """

    uuid: UUID
    timestamp: datetime
    package: str
    version: str
    image: str
    repo_hash: str
    actor: str | None
    labels: dict[str, str] | None


class TreeNode(TypedDict):
    """A package in a tree, with the places in `nodes` of those that it needs.

    A builder may add more keys.
    """

    name: str
    version: str
    dependencies: list[int]


class Tree(TypedDict):
    """Packages, each once, and the place in `nodes` of the requested one.

    A builder may add more keys.
    """

    root: int
    nodes: list[TreeNode]


class PlannedJob(TypedDict):
    """A job that is to run after those that it needs, by uuid; a builder may add more keys."""

    uuid: str
    package: str
    version: str
    needs: list[str]


class BuildPlan(TypedDict):
    """The jobs that are to run; a builder may add more keys."""

    jobs: list[PlannedJob]


@dataclass(frozen=True, slots=True)
class SubmitDetail(Submit):
    """A submit with its package tree and build plan."""

    tree: Tree
    buildplan: BuildPlan


class _ComparedReuse(NamedTuple):
    """What speaks against a reuse, a row of sql/submit/compare_reuse.sql.

    `job_uuid` is None where no job was named, `state` where the store has no such job.
    """

    job_uuid: UUID | None
    state: str | None
    is_own: bool | None
    is_recorded: bool


def create(
    uuid: UUID,
    *,
    timestamp: datetime,
    package: str,
    version: str,
    image: str,
    repo_hash: str,
    tree: Mapping[str, object],
    buildplan: Mapping[str, object],
    env: Mapping[str, str] | None = None,
    actor: str | None = None,
    labels: Mapping[str, str] | None = None,
) -> Statement[None]:
    """Record a submit, with the environment that it adds to its jobs.

    Tree and plan are checked and written as JSON here, in about 25 µs for a package with 5
    dependencies: for 60,000 of them, keep that off an event loop by
    `await asyncio.to_thread(submit.create, uuid, …)`. To run the statement only sends the text.

    :param uuid: the submit's uuid, `uuid7()` for instance
    :param timestamp: when the request was made, an aware datetime
    :param package: name of the requested package
    :param version: its version
    :param image: name of the requested image
    :param repo_hash: HEAD of the package repository, 40 or 64 hexadecimal digits
    :param tree: a `Tree`: `{"root": 0, "nodes": [{"name", "version", "dependencies": [1, 2]}]}`
    :param buildplan: a `BuildPlan`: `{"jobs": [{"uuid", "package", "version", "needs": [uuid]}]}`
    :param env: the environment that it adds to its jobs, values by name
    :param actor: who or what made the request
    :param labels: what else is to be said of it, texts by key: a key has no "="; none is None
    :raises InvalidInput: at once, when a value cannot be stored; also when tree or plan goes round
        in a circle, or the plan has a uuid twice or needs a job that it has not
    :raises Conflict: when run, if the uuid is there with other content
    """
    environment = Environment.of(_check.env("env", {} if env is None else env))
    labelled = _check.given(_check.env, "labels", labels)
    parameters: dict[str, object] = {
        "submit": _check.uuid("uuid", uuid),
        "timestamp": _check.timestamp("timestamp", timestamp),
        "package": _check.name("package", package),
        "version": _check.name("version", version),
        "image": _check.name("image", image, length=_check.IMAGE_LENGTH),
        "repo_hash": _check.git_hash("repo_hash", repo_hash),
        "tree": _check.tree("tree", tree),
        "buildplan": _check.buildplan("buildplan", buildplan),
        "env": environment,
        "actor": _check.given(_check.name, "actor", actor),
        "labels": json_text(labelled) if labelled else None,
    }

    def shared() -> frozenset[Key]:
        return frozenset(
            {
                ("environment", environment, ""),
                ("package", package, version),
                ("image", image, ""),
                ("git_hash", repo_hash, ""),
            }
        )

    def repeated(rows: Rows) -> None:
        if not rows:
            raise Unwritten
        if differing := cast(list[str], rows[0][0]):
            raise Conflict(
                f"submit {uuid} is in the store already, with other content: {', '.join(differing)}"
            )

    return write(
        step("submit/create", parameters),
        collect=no_value,
        why=lambda: read("submit/compare", parameters, repeated),
        shared=shared,
    )


def reuse(uuid: UUID, jobs: Iterable[UUID | Reuse], *, timestamp: datetime) -> Statement[None]:
    """Record that a submit takes the outputs of earlier jobs, rather than run them again.

    All of them are recorded, or none. What is recorded already keeps its time.

    :param uuid: the submit's uuid
    :param jobs: successful jobs of other submits: their uuids, or what `artifact.reusable` gives
    :param timestamp: when the builder chose them, an aware datetime
    :raises InvalidInput: at once, when a value cannot be stored
    :raises NotFound: when run, if the submit or a job is not in the store
    :raises Conflict: when run, if a job did not end with success, or is the submit's own
    """
    earlier = [one.job_uuid if isinstance(one, Reuse) else one for one in _check.each("jobs", jobs)]
    named = {"submit": _check.uuid("uuid", uuid), "jobs": _check.uuids("jobs", earlier)}

    def repeated(rows: Rows) -> None:
        if not rows:
            raise NotFound(f"there is no submit {uuid} in the store")
        found = [one for one in typed(_ComparedReuse, rows) if one.job_uuid]
        if missing := [str(one.job_uuid) for one in found if one.state is None]:
            raise NotFound(f"jobs: there is no job {', '.join(missing)} in the store")
        for one in found:
            if one.state != "success":
                raise Conflict(
                    f"jobs: job {one.job_uuid} did not end with success: its state is {one.state}"
                )
            if one.is_own:
                raise Conflict(f"jobs: submit {uuid} ran job {one.job_uuid} itself")
        if not all(one.is_recorded for one in found):
            raise Unwritten

    return write(
        step("submit/reuse", {**named, "timestamp": _check.timestamp("timestamp", timestamp)}),
        collect=no_value,
        why=lambda: read("submit/compare_reuse", named, repeated),
    )


def get(uuid: UUID) -> Statement[SubmitDetail]:
    """What did this submit request?

    :param uuid: the submit's uuid
    :returns: the submit with its tree and plan
    :raises InvalidInput: at once, when it is no UUID
    :raises NotFound: when run, if there is none
    """
    return read(
        "submit/get",
        {"submit": _check.uuid("uuid", uuid)},
        lambda rows: single(SubmitDetail, rows, f"there is no submit {uuid} in the store"),
    )


def env(uuid: UUID) -> Statement[dict[str, str]]:
    """Which environment does this submit add to its jobs?

    :param uuid: the submit's uuid
    :returns: values by name; empty also where there is no such submit
    :raises InvalidInput: at once, when it is no UUID
    """
    return read("submit/env", {"submit": _check.uuid("uuid", uuid)}, variables)
