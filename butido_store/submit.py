"""Submits: what was asked for, at which commit, with the tree and the plan that came of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict, cast
from uuid import UUID

from butido_store import _check
from butido_store._check import json_text
from butido_store._statement import (
    Key,
    Rows,
    Statement,
    Unwritten,
    read,
    single,
    step,
    variables,
    write,
    written,
)
from butido_store.errors import Conflict


@dataclass(frozen=True, slots=True)
class Submit:
    """A submit, without its package tree and build plan."""

    uuid: UUID
    timestamp: datetime
    package: str
    version: str
    image: str
    repo_hash: str


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
) -> Statement[None]:
    """Record a submit, with the environment that it adds to its jobs.

    :param uuid: the submit's uuid, `uuid7()` for instance
    :param timestamp: when the request was made, an aware datetime
    :param package: name of the requested package
    :param version: its version
    :param image: name of the requested image
    :param repo_hash: HEAD of the package repository, 40 or 64 hexadecimal digits
    :param tree: a `Tree`: `{"root": 0, "nodes": [{"name", "version", "dependencies": [1, 2]}]}`
    :param buildplan: a `BuildPlan`: `{"jobs": [{"uuid", "package", "version", "needs": [uuid]}]}`
    :param env: the environment that it adds to its jobs, values by name
    :raises InvalidInput: at once, when a value cannot be stored
    :raises Conflict: when run, if the uuid is there with other content
    """
    environment = json_text(_check.env("env", {} if env is None else env))
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

    def created(answers: Sequence[Rows]) -> None:
        written(answers[0])

    def repeated(rows: Rows) -> None:
        if not rows:
            raise Unwritten
        if differing := cast(list[str], rows[0][0]):
            raise Conflict(
                f"submit {uuid} is in the store already, with other content: {', '.join(differing)}"
            )

    return write(
        step("submit/create", parameters),
        collect=created,
        why=lambda: read("submit/compare", parameters, repeated),
        shared=shared,
    )


def get(uuid: UUID) -> Statement[SubmitDetail]:
    """What did this submit request?

    :param uuid: the submit's uuid
    :returns: the submit with its tree and plan
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
    """
    return read("submit/env", {"submit": _check.uuid("uuid", uuid)}, variables)
