"""Jobs: one build run each, from the moment it starts until it ends as success, error or lost."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from hashlib import sha256
from itertools import count
from typing import Any, Literal, NamedTuple, TypeVar, cast, get_args
from uuid import UUID

from butido_store import _check
from butido_store._check import encode_log, json_text, rfc3339, uuid7
from butido_store._query import query
from butido_store._secrets import Document, Environment
from butido_store._statement import (
    CONFIRM,
    Key,
    Rows,
    Statement,
    Step,
    Unwritten,
    no_value,
    read,
    single,
    step,
    typed,
    variables,
    write,
    written,
)
from butido_store.artifact import Artifact, Output, Reuse, _as_reuse
from butido_store.errors import Conflict, InvalidInput, LogRemoved, NotFound, NotRunning, StoreError

R = TypeVar("R")

State = Literal["running", "success", "error", "lost"]
EndState = Literal["success", "error", "lost"]
_END_STATES = get_args(EndState)
# What a builder may measure, finite; a Decimal is kept as the nearest float.
Number = int | float | Decimal


@dataclass(frozen=True, slots=True)
class Job:
    """A job, without its script and log.

    `heartbeat_at` is the builder's last sign of life, `image_sha256` the digest that the image's
    name meant, where it is known, `fingerprint` the SHA-256 of all that decides what the job makes,
    None where the content of an input is unknown; both have 32 bytes. `reason`, `exit_code` and
    `measurements` are what `finish` was told; None where nobody said. `log_size` is that of the log
    in bytes, once the job has ended, also after the log was removed.
    """

    uuid: UUID
    submit_uuid: UUID
    package: str
    version: str
    image: str
    endpoint: str
    state: State
    started_at: datetime
    finished_at: datetime | None
    reason: str | None
    exit_code: int | None
    measurements: dict[str, float] | None
    heartbeat_at: datetime
    image_sha256: bytes | None
    container_hash: str | None
    fingerprint: bytes | None
    log_size: int | None
    log_removed: bool


@dataclass(frozen=True, slots=True)
class Started:
    """A job that `once` has started, with its fingerprint, 32 bytes."""

    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Underway:
    """A job that is doing just what `once` was asked to start, so that nothing was started.

    `heartbeat_at` is its builder's last sign of life.
    """

    job_uuid: UUID
    endpoint: str
    started_at: datetime
    heartbeat_at: datetime


@dataclass(frozen=True, slots=True)
class LogPiece:
    """A job's state, and what the job wrote to its log since the caller last asked.

    `text` is escaped as the log is; `seq` is the place of its last piece, None without one.
    More may follow at once unless it is None.
    """

    state: State
    text: str
    seq: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedJob:
    """A job that has ended and is recorded as a whole, as its builder reports it.

    Each field is what `start` and `finish` take, in their order; `log` is the output as it came.
    The job's `repr` leaves out script, log and environment, which may be long or hold secrets.
    """

    uuid: UUID
    submit: UUID
    package: str
    version: str
    image: str
    image_sha256: bytes | None = None
    endpoint: str
    started_at: datetime
    script: str = field(repr=False)
    env: Mapping[str, str] = field(repr=False)
    inputs: Sequence[UUID | Artifact] = ()
    container_hash: str | None = None
    log: bytes | str = field(default="", repr=False)
    state: EndState
    finished_at: datetime
    outputs: Sequence[Output] = ()
    reason: str | None = None
    exit_code: int | None = None
    measurements: Mapping[str, Number] | None = None


@dataclass(frozen=True, slots=True, repr=False)
class _Document:
    """What is recorded of a job, checked and copied, in the forms that its statements need.

    It has no `repr` of its own: script, log and environment may be long, or hold secrets.
    """

    # The columns of job, with names in place of ids, under the names of the statements' parameters.
    values: dict[str, Any]
    env: Environment
    inputs: list[dict[str, str]]
    outputs: list[dict[str, str | int]]
    log: str

    @property
    def uuid(self) -> str:
        return str(self.values["uuid"])

    def said(self, *, ended: bool) -> dict[str, object]:
        """Return what sql/job/compare.sql compares: how the job ends only if it has ended."""
        said: dict[str, object] = {
            **self.values,
            "script": _digest(self.values["script"]),
            "env": self.env,
            "image_sha256": self.values.get("image_sha256"),
            "inputs": sorted(one["artifact"] for one in self.inputs),
        }
        if ended:
            said["container_hash"] = self.values.get("container_hash")
            said["log"] = {"sha256": _digest(self.log), "size": len(self.log.encode())}
            said["outputs"] = _without_uuids(self.outputs)
        return said

    def shared(self) -> frozenset[Key]:
        """Return the shared values that the job refers to."""
        return frozenset(
            {
                ("package", self.values["package"], self.values["version"]),
                ("image", self.values["image"], ""),
                ("endpoint", self.values["endpoint"], ""),
                ("environment", self.env, ""),
            }
        )


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def _without_uuids(outputs: Iterable[Mapping[str, str | int]]) -> dict[str, object]:
    """Return outputs as they are compared: a repetition may have given them new uuids."""
    return {str(file["path"]): {"sha256": file["sha256"], "size": file["size"]} for file in outputs}


def _document(
    uuid: UUID,
    submit: UUID,
    names: tuple[str, str, str, str],
    *,
    started_at: datetime,
    script: str,
    env: Mapping[str, str],
    inputs: Iterable[UUID | Artifact],
    image_sha256: bytes | None,
    container_hash: str | None,
    end: Mapping[str, Any] | None = None,
    outputs: Iterable[Output] = (),
    log: bytes | str = "",
) -> _Document:
    """Check what is recorded of a job.

    :param names: of package, version, image and endpoint
    :param end: what `_end` gives, of a job that has ended
    """
    package, version, image, endpoint = names
    values = {
        "uuid": str(_check.uuid("uuid", uuid)),
        "submit": str(_check.uuid("submit", submit)),
        "package": _check.name("package", package),
        "version": _check.name("version", version),
        "image": _check.name("image", image, length=_check.IMAGE_LENGTH),
        "endpoint": _check.name("endpoint", endpoint),
        "started_at": _check.timestamp("started_at", started_at),
        "script": _check.text("script", script),
        **(end or {}),
    }
    if image_sha256 is not None:
        values["image_sha256"] = _check.sha256("image_sha256", image_sha256).hex()
    if container_hash is not None:
        values["container_hash"] = _check.name("container_hash", container_hash)
    return _Document(
        values,
        Environment.of(_check.env("env", env)),
        [
            {"job": values["uuid"], "artifact": str(one)}
            for one in _check.uuids("inputs", inputs, Artifact)
        ],
        _outputs(values["uuid"], outputs),
        encode_log(_check.output("log", log)),
    )


def _end(
    state: EndState,
    finished_at: datetime,
    reason: str | None,
    exit_code: int | None,
    measurements: Mapping[str, Number] | None,
) -> dict[str, Any]:
    """Check how a job ends, under the names of columns; what nobody said is None."""
    return {
        "state": _check.choice("state", state, _END_STATES),
        "finished_at": _check.timestamp("finished_at", finished_at),
        "reason": _check.given(_check.some_text, "reason", reason),
        "exit_code": _check.given(_check.integer, "exit_code", exit_code),
        "measurements": _check.given(_check.measurements, "measurements", measurements) or None,
    }


def _parameters(end: Mapping[str, Any]) -> dict[str, str]:
    """Return how a job ends as parameters, all of them always, so that one plan serves all."""
    exit_code = end["exit_code"]
    return {
        **end,
        "reason": end["reason"] or "",
        "exit_code": "" if exit_code is None else str(exit_code),
        "measurements": json_text(end["measurements"]) if end["measurements"] else "{}",
    }


def _outputs(job: str, outputs: Iterable[Output]) -> list[dict[str, str | int]]:
    """Return the outputs of a job, if no path comes twice."""
    checked: dict[str, dict[str, str | int]] = {}
    for output in _check.instances("outputs", outputs, Output):
        if output.path in checked:
            raise InvalidInput(f"outputs has the path {output.path!r} twice")
        checked[output.path] = {
            "job": job,
            "path": output.path,
            "uuid": str(output.uuid),
            "sha256": output.sha256.hex(),
            "size": output.size,
        }
    return list(checked.values())


_count = count()


def _now() -> str:
    """Return the moment of a write, by which its later steps know the job that the first one wrote.

    Else they would add outputs and inputs to a job that is there already under that uuid, where the
    first one wrote nothing.
    """
    # Each has one of its own, even by a clock that stands still; and none is a whole millisecond,
    # which the database's signs of life are.
    now = datetime.now(UTC)
    own = next(_count) % 999 + 1
    return rfc3339(now.replace(microsecond=now.microsecond // 1000 * 1000 + own))


def _insert(one: _Document) -> tuple[Step | None, ...]:
    """Return the steps that add one job, running or ended, with its outputs and inputs."""
    at, inputs = _now(), json_text(one.inputs)
    values = {"container_hash": "", **one.values}
    values |= {"job": values.pop("uuid"), "at": at, "inputs": inputs}
    # All that may be unknown is given always, so that one plan serves all.
    values["image_sha256"] = bytes.fromhex(values.get("image_sha256", ""))
    if "finished_at" in values:
        values = {**_parameters(values), "log": one.log}
    return (
        step("job/insert", {**values, "env": one.env}),
        *_belongings(at, json_text(one.outputs), inputs),
    )


def _belongings(at: str, outputs: str, inputs: str) -> tuple[Step | None, ...]:
    """Return the steps that add outputs and inputs of jobs, None where there are none."""
    return (
        step("job/insert_outputs", {"at": at, "outputs": outputs}) if outputs != "[]" else None,
        step("job/insert_inputs", {"at": at, "inputs": inputs}) if inputs != "[]" else None,
    )


class _Compared(NamedTuple):
    """How a job differs from what is in the store, a row of sql/job/compare.sql.

    `state` is None where the store has no such job.
    """

    uuid: UUID
    state: State | None
    fingerprint: bytes | None
    differing: Sequence[str]
    missing_submit: UUID | None
    missing_inputs: Sequence[UUID]


class _ComparedChunk(NamedTuple):
    """How a piece of a log differs from what is in its place, a row of sql/job/compare_chunk.sql.

    `same` is None where nothing is in its place, `next_seq` the place that the log goes on at.
    """

    state: State
    same: bool | None
    next_seq: int


def _compare(
    said: Sequence[Mapping[str, object]], then: Callable[[list[_Compared]], R]
) -> Statement[R]:
    """Make the statement that asks how jobs differ from what is in the store."""
    return read(
        "job/compare",
        {"jobs": Document(said)},
        lambda rows: then(typed(_Compared, rows)),
    )


def _missing_inputs(uuids: Iterable[UUID]) -> NotFound:
    names = ", ".join(str(uuid) for uuid in uuids)
    return NotFound(f"inputs: there is no artifact {names} in the store")


def _differs(found: _Compared) -> Conflict:
    return Conflict(
        f"job {found.uuid} is in the store already, with other content: "
        f"{', '.join(found.differing)}"
    )


def _not_running(found: _Compared) -> StoreError | Unwritten:
    """Return the error for what only a running job takes."""
    if found.state is None:
        return NotFound(f"there is no job {found.uuid} in the store")
    if found.state == "running":
        # It started only after the write had looked, so that another attempt finds it.
        return Unwritten()
    return NotRunning(f"job {found.uuid} has ended: its state is {found.state}")


def start(
    uuid: UUID,
    *,
    submit: UUID,
    package: str,
    version: str,
    image: str,
    image_sha256: bytes | None = None,
    endpoint: str,
    started_at: datetime,
    script: str,
    env: Mapping[str, str],
    inputs: Iterable[UUID | Artifact] = (),
    container_hash: str | None = None,
) -> Statement[bytes | None]:
    """Record that a job starts, before its container does.

    :param uuid: the job's uuid, `uuid7()` for instance
    :param submit: uuid of the submit that it is part of
    :param package: name of the package that it builds
    :param version: its version
    :param image: name of the image
    :param image_sha256: the digest that the name means, 32 bytes, where that is known; then the job
        is another build than one with another digest, or with none
    :param endpoint: name of the build host
    :param started_at: when it starts, an aware datetime
    :param script: the script that runs in the container
    :param env: its whole environment: the package's own and the submit's additional one
    :param inputs: the artifacts that are copied into the container, or their uuids
    :param container_hash: the container's id, where it is known already
    :returns: the fingerprint, 32 bytes; None if the content of an input is unknown
    :raises InvalidInput: at once, when a value cannot be stored
    :raises NotFound: when run, if the submit or an input is not in the store
    :raises Conflict: when run, if the uuid is there with other content
    """
    document = _document(
        uuid,
        submit,
        (package, version, image, endpoint),
        started_at=started_at,
        script=script,
        env=env,
        inputs=inputs,
        image_sha256=image_sha256,
        container_hash=container_hash,
    )
    return write(
        *_insert(document),
        collect=_fingerprint,
        why=lambda: _compare([document.said(ended=False)], lambda rows: _stored(rows)[0]),
        shared=document.shared,
    )


def _fingerprint(answers: Sequence[Rows]) -> bytes | None:
    return cast(bytes | None, written(answers[0])[0])


def once(
    start: Statement[bytes | None], *, silent_for: timedelta, besides: Iterable[UUID] = ()
) -> Statement[Started | Reuse | Underway]:
    """Start a job, unless just this build is done already, or somebody is about to do it.

    Of all jobs that are started so, one at a time has a fingerprint, until it ends; none that
    comes later, if it succeeds. It is the database that holds this, by a unique index::

        match store.run(job.once(job.start(uuid, …), silent_for=timedelta(minutes=1))):
            case job.Started():
                …  # build
            case Reuse(outputs=outputs):
                …  # take them
            case job.Underway(endpoint=endpoint):
                …  # ask again later

    A job that is started without, or recorded, keeps nobody from anything; its result is given.

    :param start: what `start` gives. In one `run` with more, others wait for its end
    :param silent_for: after how long without a sign of life a job that is under way counts as lost,
        as for `sweep`: it is marked so, and this one takes its place
    :param besides: successful jobs whose results are of no use, as their files are gone
    :returns: that the job was started; or the newest successful job with the same fingerprint; or
        the job that is doing it. Repeated after it has started the job, it gives that again
    :raises InvalidInput: at once, when a value cannot be one; when run, if the content of an input
        is unknown, so that nobody can tell what is the same build
    :raises NotFound: when run, as `start`
    :raises Conflict: when run, as `start`
    """
    steps = _check.instance("start", start, Statement).steps
    insert, belongings = steps[:1], steps[1:]
    given = insert[0].parameters if insert and insert[0].query.name == "job/insert" else {}
    if not given or "finished_at" in given:
        raise InvalidInput("start must be what job.start gives")
    useless = _check.uuids("besides", besides)
    silent_for = _check.span("silent_for", silent_for)
    same = step(
        "job/find_same",
        {
            **{name: given.get(name) for name in query("job/find_same").types},
            "besides": useless,
            "silent_for": silent_for,
        },
    )

    def attempt(*before: Step) -> Statement[Started | Reuse | Underway]:
        def started(answers: Sequence[Rows]) -> Started:
            return Started(cast(bytes, written(answers[len(before)])[0]))

        claim = step("job/insert", {**given, "besides": useless})
        return write(*before, claim, *belongings, collect=started, why=why, shared=start.shared)

    def why() -> Statement[Started | Reuse | Underway]:
        stored = cast(Callable[[], Statement[bytes | None]], start.why)()

        def found(answers: Sequence[Rows]) -> Started | Reuse | Underway:
            with suppress(Unwritten):
                # As in a repetition.
                return Started(cast(bytes, stored.collect(answers[:1])))
            rows = answers[1]
            fingerprint, state, uuid = rows[0][:3]
            if fingerprint is None:
                raise InvalidInput(
                    "inputs: the content of one is unknown, so that nothing is known to be the same"
                )
            if state == "success":
                return _as_reuse([row[2:8] for row in rows])
            # It has just ended, or a shared value is missing.
            if state is None:
                raise Unwritten
            endpoint, started_at, heartbeat_at, is_silent = rows[0][8:]
            if is_silent:
                act = {"sweep": uuid7()}
                sweep = {**act, "job": uuid, "silent_for": silent_for, "limit": 1}
                raise Unwritten(attempt(step("job/lock_sweep", act), step("job/sweep", sweep)))
            return cast(Callable[..., Underway], Underway)(uuid, endpoint, started_at, heartbeat_at)

        return Statement((*stored.steps, same), found)

    return attempt()


def _stored(rows: list[_Compared], made_by: Mapping[str, str] | None = None) -> list[bytes | None]:
    """Return the fingerprints of jobs, if all are in the store with the same content.

    :param rows: how they differ from what is in the store
    :param made_by: the job of each artifact that the same write would add; other jobs may read it
    :returns: the fingerprint of each
    :raises StoreError: one differs, or lacks its submit or an input
    :raises Unwritten: one is not there, though nothing speaks against it
    """
    for found in rows:
        if found.state and found.differing:
            raise _differs(found)
    for found in rows:
        if not found.state:
            if found.missing_submit:
                raise NotFound(f"there is no submit {found.missing_submit} in the store")
            makers = {uuid: (made_by or {}).get(str(uuid)) for uuid in found.missing_inputs}
            if missing := [uuid for uuid in makers if makers[uuid] in (None, str(found.uuid))]:
                raise _missing_inputs(missing)
    if not all(found.state for found in rows):
        raise Unwritten
    return [found.fingerprint for found in rows]


def append_log(uuid: UUID, *, seq: int, data: bytes | str) -> Statement[None]:
    """Append a piece to the log of a running job; also its sign of life.

    A `butido_store.log.LogBuffer` cuts output into pieces and counts them. A piece that is in its
    place already may be sent again, also once the job has ended, unless its log was removed.

    :param uuid: the job's uuid
    :param seq: place of the piece in the log: 0, or one above that of the piece before
    :param data: output as it came; what is no UTF-8 text is kept, escaped
    :raises InvalidInput: at once, when a value cannot be stored
    :raises NotFound: when run, if there is no such job
    :raises NotRunning: when run, if the job has ended without this piece in this place
    :raises Conflict: when run, if another piece has this place, or the place that comes next is a
        lower one, which it names
    """
    job, piece = {"job": _check.uuid("uuid", uuid)}, encode_log(_check.output("data", data))
    parameters = {**job, "seq": _check.count("seq", seq), "chunk": piece}

    def repeated(rows: Rows) -> None:
        found = single(_ComparedChunk, rows, f"there is no job {uuid} in the store")
        if found.same:
            return
        if found.state != "running":
            raise NotRunning(f"job {uuid} has ended: its state is {found.state}")
        if found.same is False:
            raise Conflict(f"the log of job {uuid} has another piece at place {seq}")
        if found.next_seq < seq:
            raise Conflict(
                f"the log of job {uuid} has no piece {found.next_seq} yet, which comes before {seq}"
            )
        raise Unwritten

    return write(
        step("job/heartbeat", job),
        step("job/insert_chunk", parameters),
        collect=no_value,
        why=lambda: read("job/compare_chunk", parameters, repeated),
    )


def heartbeat(uuid: UUID) -> Statement[None]:
    """Record that the builder of a running job is alive.

    Not in one `run` with the end of its job: repeated, it would be refused.

    :param uuid: the job's uuid
    :raises InvalidInput: at once, when it is no UUID
    :raises NotFound: when run, if there is no such job
    :raises NotRunning: when run, if the job has ended
    """

    def refused(rows: list[_Compared]) -> None:
        raise _not_running(rows[0])

    return write(
        step("job/heartbeat", {"job": _check.uuid("uuid", uuid)}),
        collect=no_value,
        why=lambda: _compare([{"uuid": str(uuid)}], refused),
    )


def set_container(uuid: UUID, container_hash: str) -> Statement[None]:
    """Record which container a running job got.

    :param uuid: the job's uuid
    :param container_hash: the container's id
    :raises InvalidInput: at once, when a value cannot be stored
    :raises NotFound: when run, if there is no such job
    :raises NotRunning: when run, if the job has ended, unless with this container
    :raises Conflict: when run, if it runs in another one
    """

    def repeated(rows: list[_Compared]) -> None:
        (found,) = rows
        if found.state and not found.differing:
            return
        raise _differs(found) if found.state == "running" else _not_running(found)

    said = {"container_hash": _check.name("container_hash", container_hash)}
    return write(
        step("job/set_container", {"job": _check.uuid("uuid", uuid), **said}),
        collect=no_value,
        why=lambda: _compare([{"uuid": str(uuid), **said}], repeated),
    )


def finish(
    uuid: UUID,
    *,
    state: EndState,
    finished_at: datetime,
    outputs: Iterable[Output] = (),
    reason: str | None = None,
    exit_code: int | None = None,
    measurements: Mapping[str, Number] | None = None,
) -> Statement[tuple[Artifact, ...]]:
    """End a running job: its state, its time, its outputs, and its log in one piece.

    :param uuid: the job's uuid
    :param state: `success`, `error` or `lost`
    :param finished_at: when it ended, an aware datetime
    :param outputs: the files that it made
    :param reason: why it ended so, in the builder's words: `timeout`, or what
        `butido_store.log.read_outcome` found
    :param exit_code: what the script's process ended with; negative for a signal, as in Python
    :param measurements: what was measured of it, by name and in the builder's units:
        `{"cpu_seconds": 1.5}`; an empty mapping is none
    :returns: the artifacts that its outputs have become, by path, as `artifact.reusable` gives them
    :raises InvalidInput: at once, when a value cannot be stored
    :raises NotFound: when run, if there is no such job
    :raises NotRunning: when run, if the job has ended in another state, or was swept as lost
    :raises Conflict: when run, if it has ended in this state, but otherwise than said here
    """
    job, at = {"job": _check.uuid("uuid", uuid)}, _now()
    outputs = _check.instances("outputs", outputs, Output)
    made = _outputs(str(uuid), outputs)
    end = _end(state, finished_at, reason, exit_code, measurements)

    def why() -> Statement[tuple[Artifact, ...]]:
        said = {"uuid": str(uuid), **end, "outputs": _without_uuids(made)}
        compare = _compare([said], _ended)

        def repeated(answers: Sequence[Rows]) -> tuple[Artifact, ...]:
            compare.collect(answers[:1])
            return tuple(typed(Artifact, answers[1]))

        return Statement((*compare.steps, step("job/outputs", job)), repeated)

    def finished(answers: Sequence[Rows]) -> tuple[Artifact, ...]:
        written(answers[1])
        # In the order that the database has them in, too: of UTF-8.
        return tuple(
            Artifact(each.uuid, each.path, each.sha256, each.size, uuid)
            for each in sorted(outputs, key=lambda each: each.path)
        )

    return write(
        step("job/lock", job),
        step("job/end", {**job, **_parameters(end), "at": at}),
        step("job/delete_chunks", job),
        *_belongings(at, json_text(made), "[]"),
        collect=finished,
        why=why,
    )


def _ended(rows: list[_Compared]) -> None:
    """Return nothing where a job has ended as was said.

    :raises StoreError: it has ended otherwise, it runs, or it is not there
    """
    (found,) = rows
    if found.state and not found.differing:
        return
    # A builder whose job was swept as lost learns that it has ended, not what differs.
    if found.state in (None, "running", "lost") or "state" in found.differing:
        raise _not_running(found)
    raise _differs(found)


def record(ended: EndedJob) -> Statement[bytes | None]:
    """Record a job that has ended, with its script, log, environment, inputs and outputs.

    :param ended: what to record
    :returns: the fingerprint, 32 bytes; None if the content of an input is unknown
    :raises InvalidInput: at once, when a value cannot be stored
    :raises NotFound: when run, if the submit or an input is not in the store
    :raises Conflict: when run, if the uuid is there with other content
    """
    document = _ended_document(_check.instance("ended", ended, EndedJob))
    _no_circle("ended", [document])
    return write(
        *_insert(document),
        collect=_fingerprint,
        why=lambda: _compare([document.said(ended=True)], lambda rows: _stored(rows)[0]),
        shared=document.shared,
    )


def _ended_document(ended: EndedJob) -> _Document:
    return _document(
        ended.uuid,
        ended.submit,
        (ended.package, ended.version, ended.image, ended.endpoint),
        started_at=ended.started_at,
        script=ended.script,
        env=ended.env,
        inputs=ended.inputs,
        image_sha256=ended.image_sha256,
        container_hash=ended.container_hash,
        end=_end(ended.state, ended.finished_at, ended.reason, ended.exit_code, ended.measurements),
        outputs=ended.outputs,
        log=ended.log,
    )


def record_all(jobs: Iterable[EndedJob]) -> Statement[list[bytes | None]]:
    """Record jobs that have ended, all of them or none.

    An input may be an output of another of these jobs.

    :param jobs: what to record, a whole submit's for instance
    :returns: the fingerprint of each, 32 bytes; None if the content of an input is unknown
    :raises InvalidInput: at once, when a value cannot be stored, or jobs read each other's outputs
        in a circle
    :raises NotFound: when run, if a submit or an input is not in the store
    :raises Conflict: when run, if a uuid is there with other content
    """
    jobs = _check.instances("jobs", jobs, EndedJob)
    _check.uuids("jobs", [job.uuid for job in jobs])
    documents = [_ended_document(job) for job in jobs]
    _no_circle("jobs", documents)
    return _record_all(documents, {})


def _no_circle(field: str, documents: Sequence[_Document]) -> None:
    """Refuse jobs that read what they make themselves, directly or by way of each other.

    What is in the store already cannot read what is made later, so that no other circle can come
    about: an input is there before the job that reads it, an output comes with the one that makes
    it.
    """
    made_by = {
        str(file["uuid"]): place for place, one in enumerate(documents) for file in one.outputs
    }

    def called(place: int) -> str:
        values = documents[place].values
        return f"{values['package']} {values['version']} (job {values['uuid']})"

    _check.no_circle(
        field,
        [
            [made_by[one["artifact"]] for one in document.inputs if one["artifact"] in made_by]
            for document in documents
        ],
        called,
        verb="reads from",
    )


def _record_all(
    documents: Sequence[_Document], stored: Mapping[str, bytes | None]
) -> Statement[list[bytes | None]]:
    """Make the statement that records jobs.

    :param documents: all jobs that are to be in the store
    :param stored: the fingerprints of those that are there already with the same content, by uuid
    """
    new, at = [one for one in documents if one.uuid not in stored], _now()
    outputs = json_text([file for one in new for file in one.outputs])
    inputs = json_text([file for one in new for file in one.inputs])
    made_by = {str(file["uuid"]): one.uuid for one in new for file in one.outputs}

    def fingerprints(answers: Sequence[Rows]) -> list[bytes | None]:
        if len(answers[0]) < len(new):
            raise Unwritten
        found = {**stored, **{str(row[0]): cast(bytes | None, row[1]) for row in answers[0]}}
        return [found[one.uuid] for one in documents]

    def repeated(rows: list[_Compared]) -> list[bytes | None]:
        try:
            return _stored(rows, made_by)
        except Unwritten:
            there = {str(found.uuid): found.fingerprint for found in rows if found.state}
            raise Unwritten(_record_all(documents, {**stored, **there})) from None

    return write(
        step(
            "job/insert_all",
            {
                "at": at,
                "jobs": Document([{**one.values, "env": one.env} for one in new]),
                "logs": [one.log for one in new],
                "inputs": inputs,
                "outputs": outputs,
            },
        ),
        *_belongings(at, outputs, inputs),
        collect=fingerprints,
        why=lambda: _compare([one.said(ended=True) for one in documents], repeated),
        shared=lambda: frozenset[Key]().union(*(one.shared() for one in documents)),
    )


def sweep(
    *,
    silent_for: timedelta,
    endpoint: str | None = None,
    limit: int = 1000,
    uuid: UUID | None = None,
) -> Statement[list[UUID]]:
    """Mark the running jobs whose builder went silent as lost, with the log as far as it came.

    :param silent_for: how long without a sign of life. The first one, the start, has its time from
        the builder's clock: allow for how far that may be off the database's
    :param endpoint: only jobs on this endpoint, whose builder knows how often it gives a sign
    :param limit: at most this many in one go
    :param uuid: uuid of this act of sweeping, by which it can be repeated; by default a new one
    :returns: the uuids of the jobs that this sweep marked; once it has, it marks no more, and gives
        them again
    :raises InvalidInput: at once, when `silent_for` is not above 0 or is above a thousand years, or
        another value cannot be one
    """
    act = {"sweep": uuid7() if uuid is None else _check.uuid("uuid", uuid)}
    parameters = {
        **act,
        "silent_for": _check.span("silent_for", silent_for),
        "endpoint": _check.given(_check.text, "endpoint", endpoint),
        "limit": _check.count("limit", limit),
    }
    return write(
        step("job/lock_sweep", act),
        step("job/sweep", parameters),
        # One before, whose answer was lost, may have left nothing to mark.
        CONFIRM,
        collect=lambda answers: [cast(UUID, row[0]) for row in answers[1]],
    )


def refresh_failures(*, before: UUID | None = None, limit: int = 1000) -> Statement[list[UUID]]:
    """Write the failures of jobs anew whose lines come of an older rule, newest first.

    For after an upgrade whose notes say that the rule is another one. Run it again, each time with
    the last uuid as `before`, until it gives none. What it has done, it does not do again; beside
    it, jobs may start and end.

    :param before: go on after this job, the last one of the run before
    :param limit: at most this many in one go
    :returns: the uuids of the jobs that were done; a job whose log was removed keeps its failure
    :raises InvalidInput: at once, when a value cannot be stored
    """
    parameters = {
        "before": _check.given(_check.uuid, "before", before),
        "limit": _check.count("limit", limit),
    }
    return write(
        step("job/refresh_failures", parameters),
        # One before, whose answer was lost, may have left nothing to do.
        CONFIRM,
        collect=lambda answers: [cast(UUID, row[0]) for row in answers[0]],
    )


def _of_one(
    name: str, uuid: UUID, row: Callable[..., R], parameters: Mapping[str, object] | None = None
) -> Statement[R]:
    """Make a statement that reads of one job a row of that type, or raises NotFound."""
    return read(
        name,
        {"job": _check.uuid("uuid", uuid), **(parameters or {})},
        lambda rows: single(row, rows, f"there is no job {uuid} in the store"),
    )


def get(uuid: UUID) -> Statement[Job]:
    """What is this job, and how did it end?

    :param uuid: the job's uuid
    :returns: the job
    :raises InvalidInput: at once, when it is no UUID
    :raises NotFound: when run, if there is none
    """
    return _of_one("job/get", uuid, Job)


def log(uuid: UUID) -> Statement[str]:
    r"""What has this job written to its log so far?

    :param uuid: the job's uuid
    :returns: the log, escaped; `butido_store.log.decode_log` gives its bytes.
        `butido_store.log.follow` gives a long one in pieces
    :raises InvalidInput: at once, when it is no UUID
    :raises NotFound: when run, if there is no such job
    :raises LogRemoved: when run, if it has ended and its log was removed; this is a `NotFound`, too
    """

    def joined(rows: Rows) -> str:
        single(_first, rows, f"there is no job {uuid} in the store")
        return "".join(_not_removed(uuid, row[0]) for row in rows)

    return read("job/log", {"job": _check.uuid("uuid", uuid)}, joined)


def _first(first: object, /, *_: object) -> object:
    return first


def _not_removed(uuid: UUID, text: object) -> str:
    if text is None:
        raise LogRemoved(f"the log of job {uuid} was removed")
    return cast(str, text)


def log_after(uuid: UUID, *, after: int | None = None, characters: int = 0) -> Statement[LogPiece]:
    """What has this job written to its log since it was last asked?

    `butido_store.log.follow` follows a log. It asks again with the `seq` of the last piece that had
    one, and the length of all texts so far, until the state is not running and the piece has none.

    :param uuid: the job's uuid
    :param after: place of the last piece that was read, while the job was running
    :param characters: how many characters were read
    :returns: the job's state and the text since then, of a long log a part of it
    :raises InvalidInput: at once, when a value cannot be one
    :raises NotFound: when run, if there is no such job
    :raises LogRemoved: when run, if it has ended and its log was removed
    """

    def piece(state: State, text: object, seq: int | None) -> LogPiece:
        return LogPiece(state, _not_removed(uuid, text), seq)

    parameters = {
        "after": _check.given(_check.count, "after", after),
        "characters": _check.count("characters", characters),
    }
    return _of_one("job/log_after", uuid, piece, parameters)


def script(uuid: UUID) -> Statement[str]:
    """Which script did this job run?

    :param uuid: the job's uuid
    :returns: the script as it was recorded
    :raises InvalidInput: at once, when it is no UUID
    :raises NotFound: when run, if there is no such job
    """
    return _of_one("job/script", uuid, str)


def env(uuid: UUID) -> Statement[dict[str, str]]:
    """Which environment did this job have?

    :param uuid: the job's uuid
    :returns: values by name; empty also where there is no such job
    :raises InvalidInput: at once, when it is no UUID
    """
    return read("job/env", {"job": _check.uuid("uuid", uuid)}, variables)


def inputs(uuid: UUID) -> Statement[list[Artifact]]:
    """Which files did this job read?

    :param uuid: the job's uuid
    :returns: artifacts by path; empty also where there is no such job
    :raises InvalidInput: at once, when it is no UUID
    """
    return read("job/inputs", {"job": _check.uuid("uuid", uuid)}, partial(typed, Artifact))


def outputs(uuid: UUID) -> Statement[list[Artifact]]:
    """Which files did this job make?

    :param uuid: the job's uuid
    :returns: artifacts by path; empty also where there is no such job
    :raises InvalidInput: at once, when it is no UUID
    """
    return read("job/outputs", {"job": _check.uuid("uuid", uuid)}, partial(typed, Artifact))
