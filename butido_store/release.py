"""Releases: artifacts given to a release store, and taken back; both stay recorded."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple, cast
from uuid import UUID

from butido_store import _check
from butido_store._statement import (
    Rows,
    Statement,
    Unwritten,
    no_value,
    read,
    step,
    typed,
    write,
    written,
)
from butido_store.artifact import Artifact
from butido_store.errors import Conflict, InvalidInput, NotFound


class _Compared(NamedTuple):
    """What speaks against a release, a row of sql/release/compare.sql.

    `same` is None where the store has no release of this uuid.
    """

    missing: Sequence[UUID]
    not_successful: Sequence[UUID]
    released: list[UUID]
    same: bool | None
    wanted: int
    has_new: bool


def create(
    uuid: UUID,
    *,
    store: str,
    timestamp: datetime,
    actor: str,
    artifacts: Iterable[UUID | Artifact] | None = None,
    submit: UUID | None = None,
) -> Statement[list[UUID]]:
    """Release artifacts, or all that a submit delivered, to a release store.

    All of them are released, or none. What is in the release store already stays as it is; what was
    there at the same path is replaced. Of several with one path the one with the highest uuid is
    released: the newest, where uuids are of version 7.

    :param uuid: uuid of this act of releasing, `uuid7()` for instance
    :param store: name of the release store
    :param timestamp: when it is released, an aware datetime
    :param actor: who releases it
    :param artifacts: artifacts, or their uuids: outputs of successful jobs, or files from outside
    :param submit: uuid of a submit, for all that its successful jobs made, or jobs that it reused
    :returns: the artifacts that this act released: those that were not in that release store before
    :raises InvalidInput: at once, when a value cannot be stored
    :raises NotFound: when run, if an artifact is not in the store, or the submit delivered none
    :raises Conflict: when run, if a job did not end well, or the uuid is there with other content
    """
    if (artifacts is None) == (submit is None):
        raise InvalidInput("either artifacts or submit says what is released")
    name = _check.name("store", store)
    parameters: dict[str, object] = {
        "release": _check.uuid("uuid", uuid),
        "store": name,
        "timestamp": _check.timestamp("timestamp", timestamp),
        "actor": _check.name("actor", actor),
        "artifacts": None if artifacts is None else _check.uuids("artifacts", artifacts, Artifact),
        "submit": _check.given(_check.uuid, "submit", submit),
    }

    if parameters["artifacts"] == []:
        raise InvalidInput("artifacts is empty")

    def released(answers: Sequence[Rows]) -> list[UUID]:
        written(answers[0])
        return sorted(cast(UUID, row[0]) for row in answers[0])

    def nothing(rows: Rows) -> list[UUID]:
        (found,) = typed(_Compared, rows)
        if found.missing:
            names = _names(found.missing)
            raise NotFound(f"artifacts: there is no artifact {names} in the store")
        if found.not_successful:
            names = _names(found.not_successful)
            raise Conflict(f"artifacts: the job that made {names} did not end with success")
        # What else a submit's jobs have made by now is not part of what was released then.
        if found.same is False or (found.released and found.has_new and submit is None):
            raise Conflict(f"release {uuid} is in the store already, with other content")
        if not found.wanted:
            raise NotFound(f"submit {submit}: there is no artifact to release")
        if found.has_new and not found.released:
            raise Unwritten
        return found.released

    return write(
        step("release/create", parameters),
        collect=released,
        why=lambda: read("release/compare", parameters, nothing),
        shared=lambda: frozenset({("release_store", name, "")}),
    )


def _names(artifacts: Iterable[UUID]) -> str:
    return ", ".join(str(artifact) for artifact in artifacts)


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
    parameters = {
        "store": _check.name("store", store),
        "artifact": _check.uuid("artifact", artifact),
        "timestamp": _check.timestamp("timestamp", timestamp),
        "actor": _check.name("actor", actor),
        "reason": _check.some_text("reason", reason),
    }

    def repeated(rows: Rows) -> None:
        if not rows:
            raise NotFound(f"artifact {artifact} is not in the release store {store!r}")

    return write(
        step("release/withdraw", parameters),
        collect=no_value,
        why=lambda: read("release/withdrawn", parameters, repeated),
    )
