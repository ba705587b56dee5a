"""Jobs: one build run each, from the moment it starts until it ends as success, error or lost."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, cast
from uuid import UUID

from butido_store import _check
from butido_store._check import encode_log, json_text
from butido_store._statement import Rows, Shared, Statement, read, refuse, write
from butido_store.artifact import Artifact, Output, artifacts
from butido_store.errors import InvalidInput, NotFound

_list = list

State = Literal["running", "success", "error", "lost"]
EndState = Literal["success", "error", "lost"]
_END_STATES = ("success", "error", "lost")


@dataclass(frozen=True, slots=True)
class Job:
    """A job, without its script and log."""

    uuid: UUID
    submit_uuid: UUID
    package: str
    version: str
    image: str
    endpoint: str
    state: State
    started_at: datetime
    finished_at: datetime | None
    heartbeat_at: datetime
    container_hash: str | None
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class LogPiece:
    """What a job wrote since it was last asked: its state, the text, and the text's last place."""

    state: State
    text: str
    seq: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedJob:
    """A job that has ended and is recorded at once, as its builder reports it."""

    uuid: UUID
    submit: UUID
    package: str
    version: str
    image: str
    endpoint: str
    state: EndState
    started_at: datetime
    finished_at: datetime
    script: str
    log: bytes | str = ""
    container_hash: str | None = None
    env: Mapping[str, str]
    inputs: Sequence[UUID] = ()
    outputs: Sequence[Output] = ()


def _shared(package: str, version: str, image: str, endpoint: str, environment: str) -> Shared:
    return Shared(
        environment=frozenset({environment}),
        package=frozenset({(package, version)}),
        image=frozenset({image}),
        endpoint=frozenset({endpoint}),
    )


def _names(package: str, version: str, image: str, endpoint: str) -> dict[str, object]:
    """Return the names of what a job shares with others, if they can be stored."""
    return {
        "package": _check.name("package", package),
        "version": _check.name("version", version),
        "image": _check.name("image", image, length=_check.IMAGE_LENGTH),
        "endpoint": _check.name("endpoint", endpoint),
    }


def _container(value: str | None) -> str | None:
    return _check.given(_check.name, "container_hash", value)


def _uuids(inputs: Iterable[UUID]) -> str:
    return json_text([str(uuid) for uuid in _check.uuids("inputs", inputs)])


def _missing_inputs(uuids: object) -> NotFound:
    names = ", ".join(str(uuid) for uuid in cast(_list[UUID], uuids))
    return NotFound(f"inputs: there is no artifact {names} in the store")


def _outputs(outputs: Iterable[Output]) -> _list[dict[str, object]]:
    """Return the outputs sorted by path, if each can be stored and no path comes twice."""
    checked: _list[dict[str, object]] = []
    for output in sorted(outputs, key=lambda one: _check.path("path of an output", one.path)):
        if checked and output.path == checked[-1]["path"]:
            raise InvalidInput(f"outputs has the path {output.path!r} twice")
        checked.append(
            {
                "uuid": str(_check.uuid(f"uuid of output {output.path!r}", output.uuid)),
                "path": output.path,
                "sha256": _check.sha256(f"sha256 of output {output.path!r}", output.sha256).hex(),
                "size": _check.count(f"size of output {output.path!r}", output.size),
            }
        )
    return checked


def start(
    uuid: UUID,
    *,
    submit: UUID,
    package: str,
    version: str,
    image: str,
    endpoint: str,
    started_at: datetime,
    script: str,
    env: Mapping[str, str],
    inputs: Iterable[UUID] = (),
    container_hash: str | None = None,
) -> Statement[bytes]:
    """Record that a job starts, before its container does.

    :param uuid: the job's uuid, `uuid7()` for instance
    :param submit: uuid of the submit that it is part of
    :param package: name of the package that it builds
    :param version: its version
    :param image: name of the image
    :param endpoint: name of the build host
    :param started_at: an aware datetime
    :param script: the script that runs in the container
    :param env: its whole environment: the package's own and the submit's additional one
    :param inputs: uuids of the artifacts that are copied into the container
    :param container_hash: the container's id, where it is known already
    :returns: the fingerprint, 32 bytes
    :raises InvalidInput: at once, when a value cannot be stored
    :raises NotFound: when run, if the submit or an input is not in the store
    :raises Conflict: when run, if the uuid is there with other content
    """
    environment = json_text(_check.env("env", env))

    def collect(rows: Rows) -> bytes:
        outcome, fingerprint, missing = rows[0]
        if outcome == "no submit":
            raise refuse(outcome, "submit", submit)
        if outcome == "no input":
            raise _missing_inputs(missing)
        if outcome not in ("started", "repeated"):
            raise refuse(outcome, "job", uuid)
        return cast(bytes, fingerprint)

    return write(
        "job/start",
        {
            "job": _check.uuid("uuid", uuid),
            "submit": _check.uuid("submit", submit),
            **_names(package, version, image, endpoint),
            "started_at": _check.time("started_at", started_at),
            "script": _check.text("script", script),
            "env": environment,
            "inputs": _uuids(inputs),
            "container_hash": _container(container_hash),
        },
        collect,
        shared=lambda: _shared(package, version, image, endpoint, environment),
    )


def append_log(uuid: UUID, *, seq: int, data: bytes | str) -> Statement[None]:
    """Append a piece to the log of a running job; also its sign of life.

    A `butido_store.log.LogBuffer` cuts output into pieces and counts them.

    :param uuid: the job's uuid
    :param seq: place of the piece in the log, counted from 0
    :param data: output as it came; what is no UTF-8 text is kept, escaped
    :raises NotRunning: when run, if the job has ended
    :raises Conflict: when run, if another piece has this place
    """
    return _change(
        "job/append_log",
        uuid,
        ("appended", "repeated"),
        {"seq": _check.count("seq", seq), "chunk": encode_log(_check.output("data", data))},
    )


def heartbeat(uuid: UUID) -> Statement[None]:
    """Tell that the builder of a running job is alive.

    :param uuid: the job's uuid
    :raises NotRunning: when run, if the job has ended
    """
    return _change("job/heartbeat", uuid, ("running",), {})


def set_container(uuid: UUID, container_hash: str) -> Statement[None]:
    """Record which container a running job got.

    :param uuid: the job's uuid
    :param container_hash: the container's id
    :raises NotRunning: when run, if the job has ended without one
    :raises Conflict: when run, if it has another one
    """
    return _change(
        "job/set_container",
        uuid,
        ("set", "repeated"),
        {"container_hash": _container(container_hash)},
    )


def _change(
    name: str, uuid: UUID, done: tuple[str, ...], parameters: Mapping[str, object]
) -> Statement[None]:
    """Make the statement of a small change to a running job."""

    def collect(rows: Rows) -> None:
        if rows[0][0] not in done:
            raise refuse(rows[0][0], "job", uuid)

    return write(name, {"job": _check.uuid("uuid", uuid), **parameters}, collect)


def finish(
    uuid: UUID,
    *,
    state: EndState,
    finished_at: datetime,
    outputs: Iterable[Output] = (),
) -> Statement[dict[str, UUID]]:
    """End a running job: its state, its time, its outputs, and its log in one piece.

    :param uuid: the job's uuid
    :param state: success, error or lost
    :param finished_at: an aware datetime
    :param outputs: the files that it made
    :returns: the artifact of each output by its path
    :raises InvalidInput: at once, when a value cannot be stored
    :raises NotRunning: when run, if the job has ended in another state
    :raises Conflict: when run, if it has ended in this state, but otherwise than said here
    """
    files = _outputs(outputs)

    def collect(rows: Rows) -> dict[str, UUID]:
        outcome, stored = rows[0]
        if outcome not in ("finished", "repeated"):
            raise refuse(outcome, "job", uuid)
        made = cast(_list[UUID], stored)
        return {str(file["path"]): uuid for file, uuid in zip(files, made, strict=True)}

    return write(
        "job/finish",
        {
            "job": _check.uuid("uuid", uuid),
            "state": _check.choice("state", state, _END_STATES),
            "finished_at": _check.time("finished_at", finished_at),
            "outputs": json_text(files),
        },
        collect,
    )


@dataclass(frozen=True, slots=True)
class _Document:
    """What is recorded of a job, checked and copied, as JSON has it."""

    values: dict[str, object]
    env: dict[str, str]
    inputs: _list[str]
    outputs: _list[dict[str, object]]
    log: str
    shared: Callable[[], Shared]


def _document(ended: EndedJob) -> _Document:
    env = _check.env("env", ended.env)
    names = ended.package, ended.version, ended.image, ended.endpoint
    return _Document(
        {
            "uuid": str(_check.uuid("uuid", ended.uuid)),
            "submit": str(_check.uuid("submit", ended.submit)),
            **_names(*names),
            "state": _check.choice("state", ended.state, _END_STATES),
            "started_at": _check.time("started_at", ended.started_at).isoformat(),
            "finished_at": _check.time("finished_at", ended.finished_at).isoformat(),
            "container_hash": _container(ended.container_hash),
            "script": _check.text("script", ended.script),
        },
        env,
        [str(uuid) for uuid in _check.uuids("inputs", ended.inputs)],
        _outputs(ended.outputs),
        encode_log(_check.output("log", ended.log)),
        lambda: _shared(*names, json_text(env)),
    )


def record(ended: EndedJob) -> Statement[bytes]:
    """Record a job that has ended, with its script, log, environment, inputs and outputs.

    :param ended: what to record
    :returns: the fingerprint, 32 bytes
    :raises InvalidInput: at once, when a value cannot be stored
    :raises NotFound: when run, if the submit or an input is not in the store
    :raises Conflict: when run, if the uuid is there with other content
    """
    document = _document(ended)

    def otherwise() -> Statement[bytes]:
        every = _record_all([document])
        return write(
            "job/record_all",
            every.parameters,
            lambda rows: every.collect(rows)[0],
            shared=every.shared,
        )

    return write(
        "job/record",
        {
            **document.values,
            "env": json_text(document.env),
            "inputs": json_text(document.inputs),
            "outputs": json_text(document.outputs),
            "log": document.log,
        },
        lambda rows: cast(bytes, rows[0][0]),
        shared=document.shared,
        otherwise=otherwise,
    )


def record_all(jobs: Iterable[EndedJob]) -> Statement[_list[bytes]]:
    """Record jobs that have ended, all of them or none.

    An input may be an output of another of these jobs.

    :param jobs: what to record, a whole submit's for instance
    :returns: the fingerprint of each, 32 bytes
    :raises InvalidInput: at once, when a value cannot be stored
    :raises NotFound: when run, if a submit or an input is not in the store
    :raises Conflict: when run, if a uuid is there with other content
    """
    jobs = _list(jobs)
    _check.uuids("uuid", [job.uuid for job in jobs])
    return _record_all([_document(job) for job in jobs])


def _record_all(documents: Sequence[_Document]) -> Statement[_list[bytes]]:
    def shared() -> Shared:
        needed = Shared()
        for document in documents:
            needed |= document.shared()
        return needed

    def collect(rows: Rows) -> _list[bytes]:
        outcome, fingerprints, differing, missing = rows[0]
        if outcome == "no submit":
            raise NotFound("the submit of a job is not in the store")
        if outcome == "no input":
            raise _missing_inputs(missing)
        if outcome == "differs":
            raise refuse(outcome, "job", cast(_list[UUID], differing)[0])
        if outcome not in ("recorded", "repeated"):
            raise refuse(outcome, "job", UUID(str(documents[0].values["uuid"])))
        return cast(_list[bytes], fingerprints)

    return write(
        "job/record_all",
        {
            "jobs": json_text([{**one.values, "env": one.env} for one in documents]),
            "logs": [one.log for one in documents],
            "inputs": json_text(
                [
                    {"job": one.values["uuid"], "artifact": artifact}
                    for one in documents
                    for artifact in one.inputs
                ]
            ),
            "outputs": json_text(
                [{"job": one.values["uuid"], **made} for one in documents for made in one.outputs]
            ),
        },
        collect,
        shared=shared,
    )


def sweep(
    *, silent_for: timedelta, endpoint: str | None = None, limit: int = 1000
) -> Statement[_list[UUID]]:
    """Mark the running jobs whose builder went silent as lost, with the log as far as it came.

    :param silent_for: how long without a sign of life
    :param endpoint: only those on this endpoint, whose builder knows how often it gives one
    :param limit: at most this many in one go
    :returns: the uuids of the jobs that are lost with this
    """
    if _check.instance("silent_for", silent_for, timedelta) <= timedelta(0):
        raise InvalidInput(f"silent_for is {silent_for}; it must be above 0")
    return write(
        "job/sweep",
        {
            "silent_for": silent_for,
            "endpoint": _check.given(_check.text, "endpoint", endpoint),
            "limit": _check.count("limit", limit),
        },
        lambda rows: [row[0] for row in rows],  # type: ignore[misc]
    )


def _one(uuid: UUID, rows: Rows) -> Sequence[object]:
    if not rows:
        raise NotFound(f"there is no job {uuid} in the store")
    return rows[0]


def get(uuid: UUID) -> Statement[Job]:
    """What is this job, and how did it end?

    :param uuid: the job's uuid
    :raises NotFound: when run, if there is none
    """
    return read(
        "job/get",
        {"job": _check.uuid("uuid", uuid)},
        lambda rows: Job(*_one(uuid, rows)),  # type: ignore[arg-type]
    )


def log(uuid: UUID) -> Statement[str]:
    r"""What has this job written to its log so far?

    :param uuid: the job's uuid
    :returns: the log, escaped; `butido_store.log.decode_log` gives its bytes
    :raises NotFound: when run, if there is no such job
    """
    return read(
        "job/log", {"job": _check.uuid("uuid", uuid)}, lambda rows: str(_one(uuid, rows)[0])
    )


def log_after(uuid: UUID, *, after: int | None = None, characters: int = 0) -> Statement[LogPiece]:
    """What has this job written to its log since it was last asked?

    To follow a log, ask again with the `seq` of the last piece that had one, and the length of all
    texts so far, until the state is not running.

    :param uuid: the job's uuid
    :param after: place of the last piece that was read, while the job was running
    :param characters: how many characters were read
    :raises NotFound: when run, if there is no such job
    """
    return read(
        "job/log_after",
        {
            "job": _check.uuid("uuid", uuid),
            "after": _check.given(_check.count, "after", after),
            "characters": _check.count("characters", characters),
        },
        lambda rows: LogPiece(*_one(uuid, rows)),  # type: ignore[arg-type]
    )


def script(uuid: UUID) -> Statement[str]:
    """Which script did this job run?

    :param uuid: the job's uuid
    :raises NotFound: when run, if there is no such job
    """
    return read(
        "job/script", {"job": _check.uuid("uuid", uuid)}, lambda rows: str(_one(uuid, rows)[0])
    )


def env(uuid: UUID) -> Statement[dict[str, str]]:
    """Which environment did this job have?

    :param uuid: the job's uuid
    :returns: values by name; empty also where there is no such job
    """
    return read(
        "job/env",
        {"job": _check.uuid("uuid", uuid)},
        lambda rows: {str(name): str(value) for name, value in rows},
    )


def inputs(uuid: UUID) -> Statement[_list[Artifact]]:
    """Which files did this job read?

    :param uuid: the job's uuid
    """
    return read("job/inputs", {"job": _check.uuid("uuid", uuid)}, artifacts)


def outputs(uuid: UUID) -> Statement[_list[Artifact]]:
    """Which files did this job make?

    :param uuid: the job's uuid
    """
    return read("job/outputs", {"job": _check.uuid("uuid", uuid)}, artifacts)
