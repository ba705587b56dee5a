"""What clients write: acts that a journal can hold, and a builder that thinks of them.

An act is a dictionary of plain values: what to do, with which uuids. Its `id` tells it from others;
an act that is done again, by the same client or by the one after it, has the same.
"""

import random
from collections.abc import Generator, Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from samples import TIME, create, ended, finish, sha256, start

from butido_store import Statement, artifact, job, release, submit, uuid7
from butido_store.artifact import Artifact, Output

Act = dict[str, Any]
# What an act gave, as JSON has it.
Told = Any


def at(act: Act) -> datetime:
    """Return when the builder's clock says that it is."""
    return TIME + timedelta(seconds=act["at"])


def files(act: Act) -> list[Output]:
    """Return the outputs of a job: of each path its content, and its uuid."""
    return [
        Output(path, sha256(content), len(content), UUID(uuid))
        for path, (content, uuid) in act.get("outputs", {}).items()
    ]


def _named(act: Act) -> dict[str, Any]:
    return {"package": act["name"], "image": act["name"], "endpoint": act["name"]}


def _ended(act: Act) -> job.EndedJob:
    return ended(
        UUID(act["job"]),
        UUID(act["submit"]),
        **_named(act),
        inputs=[UUID(uuid) for uuid in act["inputs"]],
        outputs=files(act),
        started_at=at(act),
        finished_at=at(act),
        state=act["state"],
        log=act["log"],
    )


def statements(act: Act) -> list[Statement[Any]]:
    """Return what is to be run for an act: all of it in one transaction."""
    match act["do"]:
        case "create":
            uuid = UUID(act["submit"])
            return [create(uuid, timestamp=at(act), package=act["name"], image=act["name"])]
        case "register":
            digest = sha256(act["content"])
            size, uuid = len(act["content"]), UUID(act["artifact"])
            return [artifact.register(act["path"], sha256=digest, size=size, uuid=uuid)]
        case "start":
            return [
                start(
                    UUID(act["job"]),
                    UUID(act["submit"]),
                    **_named(act),
                    inputs=[UUID(uuid) for uuid in act["inputs"]],
                    started_at=at(act),
                )
            ]
        case "append":
            return [job.append_log(UUID(act["job"]), seq=act["seq"], data=act["text"])]
        case "heartbeat":
            return [job.heartbeat(UUID(act["job"]))]
        case "container":
            return [job.set_container(UUID(act["job"]), act["container"])]
        case "finish":
            end = {"state": act["state"], "finished_at": at(act), "outputs": files(act)}
            return [finish(UUID(act["job"]), **end, reason=act["reason"])]
        case "record":
            return [job.record(_ended(act))]
        case "record_all":
            return [job.record_all([_ended(one) for one in act["jobs"]])]
        case "reuse":
            jobs = [UUID(uuid) for uuid in act["of"]]
            return [submit.reuse(UUID(act["submit"]), jobs, timestamp=at(act))]
        case "release":
            artifacts = [UUID(uuid) for uuid in act["artifacts"]]
            said = {"store": act["store"], "timestamp": at(act), "actor": "chaos"}
            return [release.create(UUID(act["release"]), artifacts=artifacts, **said)]
        case "withdraw":
            said = {"timestamp": at(act), "actor": "chaos", "reason": act["id"]}
            place = {"store": act["store"], "artifact": UUID(act["artifact"])}
            return [release.withdraw(**place, **said)]
        case "sweep":
            silent = timedelta(microseconds=1)
            on = {"endpoint": act["name"], "uuid": UUID(act["sweep"])}
            return [job.sweep(silent_for=silent, **on)]
        case "several":
            return [each for one in act["acts"] for each in statements(one)]
    raise AssertionError(act)


def told(value: Any) -> Told:
    """Return what an act gave, as JSON has it."""
    if isinstance(value, tuple | list):
        return [told(one) for one in value]
    if isinstance(value, Artifact):
        return str(value.uuid)
    return value.hex() if isinstance(value, bytes) else None if value is None else str(value)


class Thinker:
    """Thinks of acts, each with uuids of its own; what it thinks of comes of a seed."""

    def __init__(self, seed: str, *, skewed: bool = False) -> None:
        """Begin.

        :param seed: what names, choices and texts come of
        :param skewed: its clock jumps, by up to years
        """
        self.random = random.Random(seed)
        self.name = f"builder-{seed}"
        self._skewed = skewed
        self._clock = 0.0

    def act(self, do: str, **values: Any) -> Act:
        """Return an act of this moment."""
        self._clock += 1
        if self._skewed and self.random.random() < 0.1:
            self._clock = self.random.uniform(-1e9, 1e9)
        return {"id": str(uuid7()), "do": do, "at": round(self._clock, 3), **values}

    def create(self, **values: Any) -> Act:
        """Return the begin of a submit."""
        return self.act("create", submit=str(uuid7()), **{"name": self.name, **values})

    def register(self) -> Act:
        """Return a file from outside."""
        uuid = str(uuid7())
        return self.act("register", artifact=uuid, path=f"src/{uuid}", content=uuid)

    def start(self, of_submit: Act, *inputs: str, **values: Any) -> Act:
        """Return the start of a job."""
        job = {"job": str(uuid7()), "submit": of_submit["submit"], "inputs": [*inputs]}
        return self.act("start", **job, **{"name": self.name, **values})

    def append(self, of_job: Act, seq: int) -> Act:
        """Return a piece of a log."""
        text = f"{seq} of {of_job['job']}\n" * self.random.choice((1, 1, 1, 100))
        return self.act("append", job=of_job["job"], seq=seq, text=text)

    def outputs(self) -> dict[str, tuple[str, str]]:
        """Return what a job made."""
        uuids = [str(uuid7()) for _ in range(self.random.randrange(1, 4))]
        # No path twice: of what is released, the latest of a path replaces the others.
        return {f"out/{uuid}": (str(self.random.random()), uuid) for uuid in uuids}

    def finish(self, of_job: Act, **values: Any) -> Act:
        """Return the end of a job."""
        said = {"state": "success", "reason": None, "outputs": self.outputs(), **values}
        return self.act("finish", job=of_job["job"], **said)

    def record(self, of_submit: Act, *inputs: str, **values: Any) -> Act:
        """Return a job that is recorded as a whole."""
        whole = {"job": str(uuid7()), "submit": of_submit["submit"], "inputs": [*inputs]}
        said = {"state": "success", "log": f"{whole['job']}\n", "outputs": self.outputs()}
        return self.act("record", **whole, **said, **{"name": self.name, **values})

    def record_all(self, of_submit: Act, *inputs: str, **values: Any) -> Act:
        """Return jobs that are recorded together, one of which reads what the other made."""
        first = self.record(of_submit, *inputs, **values)
        made = next(uuid for _, uuid in first["outputs"].values())
        return self.act("record_all", jobs=[first, self.record(of_submit, made, **values)])

    def several(self, *acts: Act, **values: Any) -> Act:
        """Return acts that share a transaction."""
        return self.act("several", acts=[*acts], **values)

    def unknown(self) -> Act:
        """Return the start of a job of a submit that nobody has created."""
        return self.start({"submit": str(uuid7())})

    def release(self, *artifacts: str) -> Act:
        """Return a release of artifacts."""
        said = {"release": str(uuid7()), "store": f"of-{self.name}"}
        return self.act("release", artifacts=[*artifacts], **said)

    def withdraw(self, of_release: Act) -> Act:
        """Return that a released artifact is taken back."""
        said = {"store": of_release["store"], "artifact": of_release["artifacts"][0]}
        return self.act("withdraw", **said)

    def sweep(self, name: str) -> Act:
        """Return a sweep of an endpoint."""
        return self.act("sweep", sweep=str(uuid7()), name=name)

    def builds(self) -> Generator[Act, Told, None]:
        """Yield what a builder does, without an end; it is sent what it is told."""
        while True:
            submit_, source = self.create(), self.register()
            yield submit_
            (read,) = [(yield source)]
            reads = [read] if read else []
            yield from self._build(submit_, reads)
            whole = self.record(submit_, *reads)
            yield whole
            # The same job, as another tells it: what it says is added to nothing.
            other = {"outputs": self.outputs(), "may": ["Conflict"]}
            yield {**whole, **other, "id": str(uuid7()), "contradicts": True}
            yield self.record_all(submit_, *reads)
            next_ = self.create(name=f"{self.name}-{self.random.randrange(20)}")
            yield self.several(next_, self.record(next_), self.start(next_))
            yield self.act("reuse", submit=next_["submit"], of=[whole["job"]])
            first, *_ = [uuid for _, uuid in whole["outputs"].values()]
            given = self.release(first)
            yield given
            yield self.withdraw(given)
            refused = self.several(self.create(), self.unknown(), may=["NotFound"])
            yield refused
            alike = self.several(self.create(), self.unknown(), may=["NotFound"])
            yield {**alike, "in": "callers"}
            yield {**self.record(submit_), "in": "stream"}

    def _build(self, of_submit: Act, reads: list[str]) -> Iterator[Act]:
        lost = f"{self.name}-lost-{uuid7()}"
        for name in (self.name, lost):
            begun = self.start(of_submit, *reads, name=name)
            yield begun
            pieces = self.random.randrange(4)
            for seq in range(pieces):
                yield self.append(begun, seq)
            if self.random.random() < 0.3:
                yield self.act("container", job=begun["job"], container="c0ffee")
                yield self.act("heartbeat", job=begun["job"])
            failed = {"state": "error", "reason": "chaos", "outputs": {}}
            end = self.finish(begun, **(failed if self.random.random() < 0.2 else {}))
            if name == lost:
                # One of them comes first.
                choice, may = self.random.random(), {"may": ["NotRunning"]}
                if choice < 0.4:
                    yield self.sweep(lost)
                    yield {**end, **may}
                elif choice < 0.8:
                    yield self.act("both", acts=[{**end, **may}, self.sweep(lost)])
                continue
            yield end
