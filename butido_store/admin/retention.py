"""Retention: remove what the rules in the table `retention_rule` name and nothing keeps.

What may go is decided and removed by the statements of `sql/retention/`, a batch at a time; `prune`
runs them one after the other. A walk goes from the newest to the oldest, so that what was made from
something goes before it. `plan` reckons the same without removing anything.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from graphlib import CycleError, TopologicalSorter
from itertools import islice
from typing import Literal, NamedTuple, Self, TypeVar, cast
from uuid import UUID

from butido_store import _check
from butido_store._statement import CONFIRM, Rows, Statement, read, step, typed, write
from butido_store.store import Store

R = TypeVar("R", bound="_Surveyed")

What = Literal["log", "record"]
Walk = Literal["log", "record", "submit"]

# How long a batch should take, in seconds; how many jobs the first one removes and looks at, and
# within which bounds that is doubled and halved: each other number is another statement to prepare.
_TAKES = 0.03
_LIMIT, _LEAST_LIMIT = 16, 8
_WIDTH, _LEAST_WIDTH, _MOST_WIDTH = 256, 64, 2048
# How many jobs or submits a page of a survey has.
_PAGE = 500


@dataclass(frozen=True, slots=True)
class Removed:
    """How many rows of each table go, and logs; `log_bytes` is the size of these, uncompressed.

    Logs are those of jobs that stay, or go later; `log_bytes` counts also those that go with the
    record of their job.
    """

    logs: int = 0
    jobs: int = 0
    submits: int = 0
    artifacts: int = 0
    inputs: int = 0
    reuses: int = 0
    chunks: int = 0
    log_bytes: int = 0

    def __add__(self, other: Self) -> Self:
        """Return both together."""
        return type(self)(
            *(getattr(self, one.name) + getattr(other, one.name) for one in fields(self))
        )

    def __bool__(self) -> bool:
        """Tell whether there is anything."""
        return any(getattr(self, one.name) for one in fields(self))


@dataclass(frozen=True, slots=True)
class Batch:
    """What one statement looked at and removed."""

    walked: int
    removed: Removed


@dataclass(frozen=True, slots=True)
class Plan:
    """What `prune` would remove, and why the rest stays.

    `stays` counts jobs by what is asked, `log` or `record`, and reason; and submits without jobs.
    """

    removed: Removed
    stays: Mapping[tuple[Walk, str], int]
    logs: frozenset[UUID] = field(repr=False)
    jobs: frozenset[UUID] = field(repr=False)
    submits: frozenset[UUID] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why the log or record of a job stays: `because` is None if it goes.

    `by` leads from the job to the one that holds it, which is the last; each was made from the one
    before it, or is of a submit that reused it. `position` is that of the rule that decides.
    """

    what: What
    position: int | None
    because: str | None
    by: Sequence[UUID] = ()


# What is removed -------------------------------------------------------------------------------


def begin(what: Walk) -> Statement[None]:
    """Have a walk of retention begin anew, at the newest.

    :param what: `log`, `record`, or `submit` for submits without jobs
    :raises InvalidInput: at once, when it is something else
    """
    chosen = _check.choice("what", what, ("log", "record", "submit"))
    return write(step("retention/begin", {"what": chosen}), collect=lambda _: None)


def remove(what: Walk, *, width: int = 1000, limit: int = 100) -> Statement[Batch | None]:
    """Remove the next logs, records or submits that go by the rules and are not kept.

    :param what: which; `begin` it before
    :param width: how many are looked at, at most
    :param limit: how many are removed, at most
    :returns: what was looked at and removed; None at the end of the walk
    :raises InvalidInput: at once, when a value cannot be used
    :raises Unavailable: when run, if another session walks in this moment
    """
    chosen = _check.choice("what", what, ("log", "record", "submit"))
    bounds = {"width": _check.count("width", width), "limit": _check.count("limit", limit)}
    names = {
        "log": ("logs", "chunks", "log_bytes"),
        "record": ("jobs", "submits", "artifacts", "inputs", "reuses", "chunks", "log_bytes"),
        "submit": ("submits", "reuses"),
    }[chosen]

    def batch(answers: Sequence[Rows]) -> Batch | None:
        if not answers[0]:
            return None
        walked, *counts = cast(tuple[int, ...], answers[0][0])
        return Batch(walked, Removed(**dict(zip(names, counts, strict=True))))

    # One before, whose answer was lost, may have left nothing to remove.
    return write(step(f"retention/remove_{chosen}s", bounds), CONFIRM, collect=batch)


def prune(
    store: Store,
    *,
    batch: int = 100,
    pause: float = 0.0,
    told: Callable[[Walk, Batch, float], None] = lambda *_: None,
) -> Removed:
    """Remove all that goes by the rules and is not kept: logs first, then records.

    It may be broken off at any moment and begun again. Builders may work beside it, and so may
    another prune; both together remove the same. Without rules nothing is removed.

    :param store: the store
    :param batch: how many jobs a statement removes at most; fewer where it would take long
    :param pause: for how many seconds to wait after each statement
    :param told: called after each statement with what was walked, what came of it, and the seconds
        that it took
    :returns: what was removed
    :raises InvalidInput: a value cannot be used
    :raises Unavailable: another session walks, and did so for as long as the store tries again
    """
    _check.instance("store", store, Store)
    most = _check.count("batch", batch, least=1)
    pace = _Pace(most, _check.seconds("pause", pause), _check.function("told", told))
    total = Removed()
    while logs := pace.walk(store, "log"):
        total += logs
    # Each submit that is gone lets go of what it reused.
    while records := pace.walk(store, "record") + pace.walk(store, "submit"):
        total += records
    return total


class _Pace:
    """Walks in batches of such a size that none takes long."""

    def __init__(self, most: int, pause: float, told: Callable[[Walk, Batch, float], None]) -> None:
        self._most, self._pause, self._told = most, pause, told
        self._limit, self._width = min(_LIMIT, most), _WIDTH

    def walk(self, store: Store, what: Walk) -> Removed:
        """Walk over all once, and return what was removed."""
        total = Removed()
        store.run(begin(what))
        while True:
            start = time.perf_counter()
            done = store.run(remove(what, width=self._width, limit=self._limit))
            took = time.perf_counter() - start
            if done is None:
                return total
            total += done.removed
            self._told(what, done, took)
            self._adapt(done, took)
            if self._pause:
                time.sleep(self._pause)

    def _adapt(self, done: Batch, took: float) -> None:
        if took > _TAKES:
            # Of what was looked at and what was removed, either may have taken it.
            self._width = max(_LEAST_WIDTH, self._width // 2)
            self._limit = max(min(_LEAST_LIMIT, self._most), self._limit // 2)
        elif took < _TAKES / 2 and done.removed:
            self._limit = min(self._most, self._limit * 2)
        elif took < _TAKES / 2:
            self._width = min(_MOST_WIDTH, self._width * 2)


# What would be removed ---------------------------------------------------------------------------


class _Log(NamedTuple):
    """What the rules say of a log, a row of sql/retention/survey_logs.sql."""

    uuid: UUID
    started_at: datetime
    stays: str | None
    state: str
    is_released: bool
    consumers: int
    log_bytes: int
    chunks: int
    makers: Sequence[UUID]


class _Record(NamedTuple):
    """What the rules say of a job, a row of sql/retention/survey_records.sql."""

    uuid: UUID
    started_at: datetime
    stays: str | None
    submit_uuid: UUID
    is_released: bool
    consumers: int
    reuses: int
    artifacts: int
    inputs: int
    chunks: int
    log_bytes: int
    makers: Sequence[UUID]


class _Submit(NamedTuple):
    """What the rules say of a submit, a row of sql/retention/survey_submits.sql."""

    uuid: UUID
    started_at: datetime
    stays: str | None
    reused: Sequence[UUID]


_Surveyed = _Log | _Record | _Submit


def plan(store: Store) -> Plan:
    """Reckon what `prune` would remove now, and why the rest stays; nothing is written.

    It takes memory for each job that the rules name.

    :param store: the store
    :returns: what would be removed
    :raises InvalidInput: the store is something else
    """
    _check.instance("store", store, Store)
    stays: Counter[tuple[Walk, str]] = Counter()
    logs = _go_logs(_candidates(store, "log", _Log, stays), stays)
    records = _candidates(store, "record", _Record, stays)
    empty = _candidates(store, "submit", _Submit, stays)
    removed = Removed(
        logs=len(logs),
        log_bytes=sum(one.log_bytes for one in logs.values()),
        chunks=sum(one.chunks for one in logs.values()),
    )
    submits = {one.submit_uuid for one in records.values()}
    of_submits = _submits(store, sorted(submits))
    jobs, gone = _go_records(records, empty, of_submits, stays)
    for one in jobs.values():
        went = one.uuid in logs
        removed += Removed(
            jobs=1,
            artifacts=one.artifacts,
            inputs=one.inputs,
            chunks=0 if went else one.chunks,
            log_bytes=0 if went else one.log_bytes,
        )
    removed += Removed(submits=len(gone), reuses=sum(map(len, gone.values())))
    return Plan(removed, stays, frozenset(logs), frozenset(jobs), frozenset(gone))


def _candidates(
    store: Store, what: Walk, row: type[R], stays: Counter[tuple[Walk, str]]
) -> dict[UUID, R]:
    """Return what the rules let go, and count the others by why they stay."""
    found: dict[UUID, R] = {}
    after: dict[str, object] = {}
    while rows := store.run(
        read(
            f"retention/survey_{what}s",
            {**after, "limit": _PAGE},
            lambda rows: typed(row, rows),
        )
    ):
        for one in rows:
            if one.stays is None:
                found[one.uuid] = one
            # A submit that has jobs is counted by these.
            elif one.stays not in ("jobs", "removed"):
                stays[what, one.stays] += 1
        after = {"before_at": rows[-1].started_at, "before": rows[-1].uuid}
    return found


def _submits(store: Store, uuids: Sequence[UUID]) -> dict[UUID, tuple[int, Sequence[UUID]]]:
    """Return how many jobs each submit has, and which of others it reused."""
    found = {}
    each = iter(uuids)
    while some := list(islice(each, _PAGE)):
        rows = store.run(read("retention/submits", {"submits": some}, list))
        for uuid, jobs, reused in rows:
            found[cast(UUID, uuid)] = cast(int, jobs), cast(Sequence[UUID], reused)
    return found


def _go_logs(named: dict[UUID, _Log], stays: Counter[tuple[Walk, str]]) -> dict[UUID, _Log]:
    """Return the logs that go: those that no release holds, nor a log that stays."""
    holds = {one.uuid: one.consumers for one in named.values() if not one.is_released}
    free = [uuid for uuid, count in holds.items() if not count]
    going: dict[UUID, _Log] = {}
    while free:
        one = named[free.pop()]
        going[one.uuid] = one
        if one.state == "success":
            _let_go(one.makers, holds, free)
    for one in named.values():
        if one.uuid not in going:
            stays["log", "released" if one.is_released else "read"] += 1
    return going


def _go_records(
    named: dict[UUID, _Record],
    empty: dict[UUID, _Submit],
    submits: Mapping[UUID, tuple[int, Sequence[UUID]]],
    stays: Counter[tuple[Walk, str]],
) -> tuple[dict[UUID, _Record], dict[UUID, Sequence[UUID]]]:
    """Return the jobs that go, and the submits, each with what it reused."""
    holds = {one.uuid: one.consumers + one.reuses for one in named.values() if not one.is_released}
    reuses = {uuid: named[uuid].reuses for uuid in holds}
    left = {uuid: jobs for uuid, (jobs, _) in submits.items()}
    reused = {uuid: one.reused for uuid, one in empty.items()}
    free = [uuid for uuid, count in holds.items() if not count]

    def let_go_reused(jobs: Sequence[UUID]) -> None:
        _let_go(jobs, reuses, [])
        _let_go(jobs, holds, free)

    for jobs in reused.values():
        let_go_reused(jobs)
    going: dict[UUID, _Record] = {}
    while free:
        one = named[free.pop()]
        going[one.uuid] = one
        _let_go(one.makers, holds, free)
        # One that was recorded since goes another time.
        if one.submit_uuid in left:
            left[one.submit_uuid] -= 1
            if not left[one.submit_uuid]:
                reused[one.submit_uuid] = submits[one.submit_uuid][1]
                let_go_reused(reused[one.submit_uuid])
    for one in named.values():
        if one.uuid not in going:
            held = "read" if holds.get(one.uuid, 0) > reuses.get(one.uuid, 0) else "reused"
            stays["record", "released" if one.is_released else held] += 1
    return going, reused


def _let_go(uuids: Sequence[UUID], holds: dict[UUID, int], free: list[UUID]) -> None:
    """Take a hold off each of these, and note those that have none any more."""
    for uuid in uuids:
        if uuid in holds:
            holds[uuid] -= 1
            if not holds[uuid]:
                free.append(uuid)


# Why one stays ----------------------------------------------------------------------------------


class _Held(NamedTuple):
    """What holds a job, a row of sql/retention/holders.sql."""

    job_uuid: UUID
    position: int | None
    stays: str | None
    release_uuid: UUID | None
    submit_uuid: UUID | None
    holder_uuid: UUID | None


def why(store: Store, uuid: UUID) -> list[Reason]:
    """Why do the log and the record of this job stay?

    :param store: the store
    :param uuid: the job's uuid
    :returns: for each whether it goes, or why not; none if there is no such job
    :raises InvalidInput: a value cannot be used
    """
    _check.instance("store", store, Store)
    _check.uuid("uuid", uuid)
    return [reason for what in ("log", "record") if (reason := _why(store, what, uuid))]


def _why(store: Store, what: What, uuid: UUID) -> Reason | None:
    """Look from the job to what holds it, and what holds that, until one stays by itself."""
    came_by: dict[UUID, UUID | None] = {uuid: None}
    position: int | None = None
    holders: dict[UUID, set[UUID]] = {}
    asked, known = [uuid], False
    while asked:
        rows = store.run(
            read(
                "retention/holders",
                {"what": what, "jobs": asked},
                lambda rows: typed(_Held, rows),
            )
        )
        if not known:
            if not rows:
                return None
            position, known = rows[0].position, True
        for one in rows:
            because = one.stays
            # Without its own log, it holds those of what it was made from.
            if one.release_uuid and (because is None or one.job_uuid != uuid):
                because = "released"
            if because is None and one.submit_uuid and not one.holder_uuid:
                because = f"reused by submit {one.submit_uuid}"
            if because:
                return Reason(what, position, because, tuple(_way(came_by, one.job_uuid)))
        asked = []
        for one in rows:
            if one.holder_uuid:
                holders.setdefault(one.job_uuid, set()).add(one.holder_uuid)
            if one.holder_uuid and one.holder_uuid not in came_by:
                came_by[one.holder_uuid] = one.job_uuid
                asked.append(one.holder_uuid)
    try:
        TopologicalSorter(holders).prepare()
    except CycleError:
        return Reason(what, position, "circle")
    return Reason(what, position, None)


def _way(came_by: Mapping[UUID, UUID | None], last: UUID) -> Iterator[UUID]:
    """Yield the jobs from the first, which is asked about, to the last, without the first."""
    way: list[UUID] = []
    at: UUID | None = last
    while at is not None and came_by[at] is not None:
        way.append(at)
        at = came_by[at]
    return reversed(way)
