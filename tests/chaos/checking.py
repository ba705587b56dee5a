"""Holds what clients were told against what is in the store."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql
from samples import sha256

from chaos.journal import Outcome
from chaos.writing import Act, at

# For how long an act may wait for its answer, in seconds: twice as long as a store tries again.
LONGEST = 60.0


@dataclass
class Job:
    """A job as the store has it; its log as far as it came."""

    submit: str
    state: str
    started_at: datetime
    finished_at: datetime | None
    endpoint: str
    reason: str | None
    container: str | None
    fingerprint: str
    swept_by: str | None
    log: str | None
    chunks: dict[int, str] = field(default_factory=dict)
    inputs: set[str] = field(default_factory=set)
    # By path.
    outputs: dict[str, tuple[bytes, str]] = field(default_factory=dict)


@dataclass
class Found:
    """All that a schema has."""

    submits: dict[str, datetime]
    jobs: dict[str, Job]
    # Of files from outside: path and digest.
    outside: dict[str, tuple[str, bytes]]
    reuse: dict[tuple[str, str], datetime]
    releases: dict[str, set[str]]
    # Of withdrawals the artifact, and why.
    withdrawals: set[tuple[str, str]]


def find(dsn: str, schema: str) -> Found:
    """Read all that a schema has, in one snapshot."""
    with psycopg.connect(dsn) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute(sql.SQL("SET LOCAL search_path = {}").format(sql.Identifier(schema)))

        def rows(query: str) -> list[tuple[Any, ...]]:
            return connection.execute(query.encode()).fetchall()

        jobs = {
            one: Job(*rest)
            for one, *rest in rows(
                "SELECT j.uuid::text, submit_uuid::text, state, started_at, finished_at, e.name,"
                " reason, container_hash, encode(fingerprint, 'hex'), swept_by::text, log"
                " FROM job j JOIN endpoint e ON e.id = endpoint_id"
            )
        }
        for one, seq, chunk in rows("SELECT job_uuid::text, seq, chunk FROM job_log_chunk"):
            jobs[one].chunks[seq] = chunk
        for one, artifact in rows(
            "SELECT job_uuid::text, artifact_uuid::text FROM job_input_artifacts"
        ):
            jobs[one].inputs.add(artifact)
        outside = {}
        for uuid, one, path, digest in rows(
            "SELECT uuid::text, job_uuid::text, path, sha256 FROM artifact"
        ):
            if one:
                jobs[one].outputs[path] = digest, uuid
            else:
                outside[uuid] = path, digest
        releases = defaultdict(set)
        for release, artifact in rows("SELECT uuid::text, artifact_uuid::text FROM release"):
            releases[release].add(artifact)
        return Found(
            dict(rows("SELECT uuid::text, timestamp FROM submit")),
            jobs,
            outside,
            {
                (submit, one): timestamp
                for submit, one, timestamp in rows(
                    "SELECT submit_uuid::text, job_uuid::text, timestamp FROM reuse"
                )
            },
            releases,
            set(rows("SELECT artifact_uuid::text, reason FROM release_withdrawal")),
        )


@dataclass
class Verdict:
    """What came out: how many acts were acknowledged, and what is wrong, by kind."""

    acknowledged: int
    # Of those that the server was asked for, without an answer until the end.
    longest: float
    wrong: list[tuple[str, str]]

    @property
    def kinds(self) -> Counter[str]:
        """How often each kind of fault was found."""
        return Counter(kind for kind, _ in self.wrong)


def check(outcomes: list[Outcome], found: Found, *, patience: float = LONGEST) -> Verdict:
    """Hold what all clients of a schema were told against what it has."""
    return Verdict(
        sum(len(list(_single(one.act))) for one in outcomes if one.acknowledged),
        max((one.seconds for one in outcomes if one.acknowledged), default=0.0),
        list(_Checker(outcomes, found, patience).wrong()),
    )


def _single(act: Act) -> Iterator[Act]:
    """Yield the acts that an act consists of."""
    for one in act.get("acts") or act.get("jobs") or ():
        yield {**one, "do": "record"} if act["do"] == "record_all" else one
    if act["do"] not in ("several", "record_all"):
        yield act


def _files(act: Act) -> dict[str, tuple[bytes, str]]:
    return {
        path: (sha256(content), uuid) for path, (content, uuid) in act.get("outputs", {}).items()
    }


class _Checker:
    def __init__(self, outcomes: list[Outcome], found: Found, patience: float) -> None:
        self._outcomes = outcomes
        self._found = found
        self._patience = patience
        # Of each job what was said of it, and by which act.
        self._of_job: dict[str, list[tuple[Act, Outcome]]] = defaultdict(list)
        self._acts: list[tuple[Act, Outcome]] = []
        # What sweeps marked, as it is there, and as clients were told.
        self._swept: dict[str | None, set[str]] = defaultdict(set)
        for uuid, job in found.jobs.items():
            self._swept[job.swept_by].add(uuid)
        self._told_swept: set[str] = set()
        for outcome in outcomes:
            for act in _single(outcome.act):
                # Whoever contradicts what is recorded is refused, and leaves nothing.
                if not act.get("contradicts"):
                    self._acts.append((act, outcome))
                    if act["do"] == "sweep" and outcome.told:
                        self._told_swept.update(outcome.told[0])
                    if "job" in act:
                        self._of_job[act["job"]].append((act, outcome))

    def wrong(self) -> Iterator[tuple[str, str]]:
        """Yield the kind of each thing that is wrong, and what it is."""
        for outcome in self._outcomes:
            yield from self._answers(outcome)
        for act, outcome in self._acts:
            if outcome.acknowledged:
                yield from self._is_there(act, outcome)
            elif outcome.refused and act["do"] not in ("finish", "append") and self._has(act):
                yield "refused, yet there", _name(act)
        for job, said in self._of_job.items():
            yield from self._whole(job, said)
        yield from self._from_nowhere()
        yield from self._not_in_one()

    def _answers(self, outcome: Outcome) -> Iterator[tuple[str, str]]:
        act = outcome.act
        for kind, error in outcome.refused:
            if kind not in act.get("may", ()):
                yield "refused", f"{_name(act)}: {kind}: {error}"
        if act.get("may") and act["do"] != "finish" and outcome.acknowledged:
            yield "accepted", _name(act)
        if outcome.refused and outcome.acknowledged:
            yield "refused and accepted", _name(act)
        if any(told != outcome.told[0] for told in outcome.told):
            yield "told otherwise", f"{_name(act)}: {outcome.told}"
        # How long a caller's own connection waits is the caller's business.
        slow = outcome.seconds > self._patience and act.get("in") != "callers"
        if slow or any(kind == "TimeoutError" for kind, _ in outcome.errors):
            yield "stalled", f"{_name(act)}: {outcome.seconds:.1f} s"

    def _has(self, act: Act) -> bool:
        """Tell whether the store has what an act adds, or some of it."""
        found = self._found
        match act["do"]:
            case "create":
                return act["submit"] in found.submits
            case "register":
                return act["artifact"] in found.outside
            case "start" | "record":
                return act["job"] in found.jobs
            case "reuse":
                return any((act["submit"], one) in found.reuse for one in act["of"])
            case "release":
                return act["release"] in found.releases
            case "withdraw":
                return (act["artifact"], act["id"]) in found.withdrawals
            case "sweep":
                return act["sweep"] in self._swept
            case _:
                return False

    def _is_there(self, act: Act, outcome: Outcome) -> Iterator[tuple[str, str]]:
        """Look for what an acknowledged act wrote; what is of a job, `_whole` looks for."""
        found, name, told = self._found, _name(act), outcome.told[0]
        match act["do"]:
            case "create":
                if found.submits.get(act["submit"], at(act)) != at(act):
                    yield "different", name
            case "register":
                wanted = act["path"], sha256(act["content"])
                if found.outside.get(act["artifact"], wanted) != wanted:
                    yield "different", name
            case "reuse":
                times = [found.reuse.get((act["submit"], one)) for one in act["of"]]
                if any(time not in (None, at(act)) for time in times):
                    yield "different", name
                if None in times:
                    yield "missing", name
                    return
            case "release":
                if found.releases.get(act["release"], set(told)) != set(told):
                    yield "different", name
                if not told:
                    return
            case "sweep":
                swept = self._swept.get(act["sweep"], set())
                if lost := set(told) - swept:
                    yield "missing", f"{name}: {lost}"
                if more := swept - set(told):
                    yield "different", f"{name}: {more}"
                return
            case "start" | "record":
                one = found.jobs.get(act["job"])
                if one and outcome.act is act and one.fingerprint != told:
                    yield "different", f"{name}: its fingerprint"
            case "append" | "heartbeat" | "container" | "finish":
                if act["job"] not in found.jobs:
                    yield "missing", name
                return
        if not self._has(act):
            yield "missing", name

    def _whole(self, uuid: str, said: list[tuple[Act, Outcome]]) -> Iterator[tuple[str, str]]:
        """Check that a job is as was said, neither more nor less."""
        job = self._found.jobs.get(uuid)
        if job is None:
            return  # What was acknowledged is missed elsewhere.
        begun = next((act for act, _ in said if act["do"] in ("start", "record")), None)
        if begun is None:
            yield "from nowhere", f"job {uuid}"
            return
        if job.inputs != set(begun["inputs"]):
            yield "half-written", f"job {uuid} has inputs {job.inputs}, not {begun['inputs']}"
        as_said = begun["submit"], begun["name"], at(begun)
        if (job.submit, job.endpoint, job.started_at) != as_said:
            yield "different", f"job {uuid}"
        ends = [(act, outcome) for act, outcome in said if act["do"] in ("finish", "record")]
        yield from self._end(uuid, job, ends)
        containers = [act for act, outcome in said if act["do"] == "container" and outcome.told]
        if any(act["container"] != job.container for act in containers):
            yield "missing", f"the container of job {uuid}"
        if begun["do"] == "start":
            yield from self._log(uuid, job, [pair for pair in said if pair[0]["do"] == "append"])
        elif job.log != begun["log"]:
            yield "different", f"the log of job {uuid}"
        if job.state != "running" and job.chunks:
            yield "orphan chunk", f"job {uuid}"

    def _end(
        self, uuid: str, job: Job, ends: list[tuple[Act, Outcome]]
    ) -> Iterator[tuple[str, str]]:
        swept = job.swept_by is not None
        acknowledged = [act for act, outcome in ends if outcome.acknowledged]
        if acknowledged and uuid in self._told_swept:
            yield "ended twice", f"job {uuid}"
        if swept or job.state == "running":
            if acknowledged:
                yield "missing", f"the end of job {uuid}, which is {job.state}"
            if job.outputs:
                yield "half-written", f"job {uuid} is {job.state} and has outputs"
            if job.state != ("lost" if swept else "running"):
                yield "different", f"job {uuid} was swept, and is {job.state}"
            return
        if not ends:
            yield "from nowhere", f"the end of job {uuid}"
            return
        act, outcome = ends[0]
        if outcome.refused:
            yield "refused, yet there", f"the end of job {uuid}"
        if (job.state, job.finished_at, job.reason) != (act["state"], at(act), act.get("reason")):
            yield "different", f"the end of job {uuid}: {job.state} {job.reason}"
        if job.outputs != _files(act):
            yield "half-written", f"job {uuid} has outputs {job.outputs}"

    def _log(
        self, uuid: str, job: Job, appends: list[tuple[Act, Outcome]]
    ) -> Iterator[tuple[str, str]]:
        log = "".join(job.chunks[seq] for seq in sorted(job.chunks))
        if job.state != "running":
            log = (job.log or "") + log
        written = ""
        for act, outcome in appends:
            if log == written and not outcome.acknowledged:
                return
            written += act["text"]
        if log != written:
            kind = "missing" if written.startswith(log) else "different"
            yield kind, f"the log of job {uuid} has {len(log)} of {len(written)} characters"

    def _from_nowhere(self) -> Iterator[tuple[str, str]]:
        """Yield what nobody of this schema's clients has tried to write."""
        tried: dict[str, set[object]] = defaultdict(set)
        for act, _ in self._acts:
            for name in ("submit", "artifact", "job", "release", "sweep"):
                if name in act:
                    tried[name].add(act[name])
            if act["do"] == "reuse":
                tried["reuse"] |= {(act["submit"], one) for one in act["of"]}
            tried["withdrawal"].add((act.get("artifact"), act["id"]))
        found = self._found
        there: dict[str, Iterable[object]] = {
            "submit": found.submits,
            "artifact": found.outside,
            "job": found.jobs,
            "release": found.releases,
            "reuse": found.reuse,
            "withdrawal": found.withdrawals,
            "sweep": self._swept.keys() - {None},
        }
        for name, ones in there.items():
            for one in set(ones) - tried[name]:
                yield "from nowhere", f"{name} {one}"

    def _not_in_one(self) -> Iterator[tuple[str, str]]:
        """Yield transactions of which a part is there."""
        for outcome in self._outcomes:
            parts = [
                one for one in _single(outcome.act) if one["do"] in ("create", "start", "record")
            ]
            if len({self._has(one) for one in parts}) > 1:
                yield "half-written", _name(outcome.act)


def _name(act: Act) -> str:
    which = next((act[key] for key in ("job", "submit", "artifact", "release") if key in act), "")
    return f"{act['do']} {which} ({act['id']})"
