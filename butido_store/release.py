"""Releases: artifacts given to a release store, and taken back; both stay recorded."""

from collections.abc import Iterable
from datetime import datetime
from typing import cast
from uuid import UUID

from butido_store import _check
from butido_store._statement import Incomplete, Rows, Shared, Statement, write
from butido_store.errors import Conflict, InvalidInput, NotFound


def create(
    uuid: UUID,
    *,
    store: str,
    timestamp: datetime,
    actor: str,
    artifacts: Iterable[UUID] | None = None,
    submit: UUID | None = None,
) -> Statement[list[UUID]]:
    """Release artifacts, or all that the successful jobs of a submit made, to a release store.

    All or none. What is in the release store already stays as it is.

    :param uuid: uuid of this act of releasing, `uuid7()` for instance
    :param store: name of the release store
    :param timestamp: when it is released, an aware datetime
    :param actor: who releases it
    :param artifacts: uuids of artifacts: outputs of successful jobs, or files from outside
    :param submit: uuid of a submit, for all that its successful jobs made
    :returns: the artifacts that were not in that release store before
    :raises InvalidInput: at once, when a value cannot be stored
    :raises NotFound: when run, if an artifact is not in the store, or the submit has made none
    :raises Conflict: when run, if a job did not end well, or the uuid is there with other content
    """
    if (artifacts is None) == (submit is None):
        raise InvalidInput("either artifacts or submit says what is released")
    name = _check.name("store", store)

    def collect(rows: Rows) -> list[UUID]:
        outcome, found = rows[0][0], cast(list[UUID], rows[0][1])
        names = ", ".join(str(artifact) for artifact in found)
        match outcome:
            case "released":
                return found
            case "incomplete":
                raise Incomplete
            case "no artifact":
                raise NotFound(f"artifacts: there is no artifact {names} in the store")
            case "not successful":
                raise Conflict(f"artifacts: the job that made {names} did not end with success")
            case "nothing":
                raise NotFound("there is no artifact to release")
            case _:
                raise Conflict(f"release {uuid} is in the store already, with other content")

    return write(
        "release/create",
        {
            "release": _check.uuid("uuid", uuid),
            "store": name,
            "timestamp": _check.time("timestamp", timestamp),
            "actor": _check.name("actor", actor),
            "artifacts": None if artifacts is None else _check.uuids("artifacts", artifacts),
            "submit": _check.given(_check.uuid, "submit", submit),
        },
        collect,
        shared=lambda: Shared(release_store=frozenset({name})),
    )


def withdraw(
    *, store: str, artifact: UUID, timestamp: datetime, actor: str, reason: str
) -> Statement[None]:
    """Take an artifact back from a release store; that it was there stays recorded.

    :param store: name of the release store
    :param artifact: the artifact's uuid
    :param timestamp: when it is taken back, an aware datetime
    :param actor: who takes it back
    :param reason: why
    :raises InvalidInput: at once, when a value cannot be stored
    :raises NotFound: when run, if it is not in that release store
    """

    def collect(rows: Rows) -> None:
        if rows[0][0] not in ("withdrawn", "repeated"):
            raise NotFound(f"artifact {artifact} is not in the release store {store!r}")

    if not _check.text("reason", reason).strip():
        raise InvalidInput("reason is empty")
    return write(
        "release/withdraw",
        {
            "store": _check.name("store", store),
            "artifact": _check.uuid("artifact", artifact),
            "timestamp": _check.time("timestamp", timestamp),
            "actor": _check.name("actor", actor),
            "reason": reason,
        },
        collect,
    )
