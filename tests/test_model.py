"""The public API against a plain model of it: any acts, in any order, by two stores in turn.

`./dev test tests/test_model.py --hypothesis-profile thorough --timeout 0` tries it for long.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Any
from unittest.mock import ANY
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from samples import create, ended, finish, later, sha256, start

from butido_store import Statement, Store, artifact, job, release, report, submit
from butido_store.artifact import Output
from butido_store.errors import Conflict, NotFound, NotRunning, StoreError
from butido_store.log import decode_log

# A few of each, so that acts meet; the last one of each kind is never written.
SUBMITS, JOBS, SOURCES, RELEASES, SWEEPS = range(3), range(6), range(4), range(4), range(3)
NAMES, PATHS, CONTENTS, TEXTS = ("a", "b"), ("p", "q"), ("1", "2"), ("", "x\n", "\\x", "é")

names = st.sampled_from(NAMES)
moments = st.integers(0, 3)
submits, jobs = st.sampled_from(SUBMITS), st.sampled_from(JOBS)
outputs = st.dictionaries(st.sampled_from(PATHS), st.sampled_from(CONTENTS), max_size=2)
ends: st.SearchStrategy[job.EndState] = st.sampled_from(["success", "success", "error", "lost"])


@dataclass(frozen=True)
class File:
    """A file, and the job that made it."""

    uuid: UUID
    path: str
    content: str
    job: UUID | None

    @property
    def key(self) -> tuple[str, str]:
        """What of it counts in a fingerprint."""
        return self.path, self.content


@dataclass
class Job:
    """A job, as the model has it."""

    uuid: UUID
    # Submit, name of everything that has one, start and inputs: what starts of one uuid compare.
    begun: tuple[UUID, str, datetime, frozenset[UUID]]
    state: str = "running"
    # State, time and reason: what ends of one uuid compare, with the outputs by path.
    end: tuple[str, datetime | None, str | None] | None = None
    made: dict[str, File] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    # Whether it was recorded as a whole, so that its log has no pieces.
    whole: bool = False
    swept_by: UUID | None = None

    @property
    def key(self) -> tuple[datetime, UUID]:
        """What listings sort by."""
        return self.begun[2], self.uuid


@dataclass
class Released:
    """An artifact that an act of releasing gave to a store."""

    key: tuple[datetime, UUID, UUID]
    store: str
    file: File
    # Each withdrawal of it: when and why.
    withdrawn: list[tuple[datetime, str]] = field(default_factory=list)


Answer = Callable[[], Any]


class Machine(RuleBasedStateMachine):
    """Does to stores and to the model the same, and compares what both say."""

    stores: tuple[Store, Store]
    numbers = count(1)

    def __init__(self) -> None:
        """Begin with names and uuids that no other example has."""
        super().__init__()
        self.number = next(self.numbers)
        self.last = count(1000)
        self.submits: dict[UUID, tuple[str, datetime]] = {}
        self.reused: dict[tuple[UUID, UUID], datetime] = {}
        self.jobs: dict[UUID, Job] = {}
        self.files: dict[UUID, File] = {}
        self.released: list[Released] = []
        self.streams: list[tuple[Iterator[Any], list[UUID]]] = []

    def teardown(self) -> None:
        """Close what is open."""
        for stream, _ in self.streams:
            stream.close()  # type: ignore[attr-defined]

    def uuid(self, kind: int, number: int) -> UUID:
        """Return a uuid of this example."""
        return UUID(int=self.number << 64 | kind << 32 | number)

    def name(self, name: str) -> str:
        """Return a name of this example."""
        return f"{name}-{self.number}"

    def both(self, which: int, statement: Statement[Any], answer: Answer) -> Any:
        """Run a statement, and compare what comes of it with what the model says."""
        try:
            wanted: object = answer()
        except StoreError as error:
            wanted = type(error)
        try:
            got: object = self.stores[which].run(statement)
        except StoreError as error:
            got = type(error)
        assert got == wanted, statement
        return got

    # Submits --------------------------------------------------------------------------------

    @rule(which=st.integers(0, 1), number=submits, name=names, at=moments)
    def create(self, which: int, number: int, name: str, at: int) -> None:
        """Create a submit, or one that is there."""
        uuid, said = self.uuid(1, number), (self.name(name), later(at))

        def answer() -> None:
            if self.submits.setdefault(uuid, said) != said:
                raise Conflict("")

        self.both(which, create(uuid, package=said[0], timestamp=said[1]), answer)

    @rule(
        which=st.integers(0, 1),
        number=submits,
        of=st.lists(jobs, min_size=1, max_size=2, unique=True),
        at=moments,
    )
    def reuse(self, which: int, number: int, of: list[int], at: int) -> None:
        """Record that a submit takes what jobs made."""
        uuid, ones = self.uuid(1, number), [self.uuid(2, one) for one in of]

        def answer() -> None:
            if uuid not in self.submits or any(one not in self.jobs for one in ones):
                raise NotFound("")
            for one in ones:
                if self.jobs[one].state != "success" or self.jobs[one].begun[0] == uuid:
                    raise Conflict("")
            for one in ones:
                self.reused.setdefault((uuid, one), later(at))

        self.both(which, submit.reuse(uuid, ones, timestamp=later(at)), answer)

    # Files ----------------------------------------------------------------------------------

    @rule(
        which=st.integers(0, 1),
        number=st.sampled_from(SOURCES),
        path=st.sampled_from(PATHS),
        content=st.sampled_from(CONTENTS),
        size=st.sampled_from([1, 1, 1, 2]),
    )
    def register(self, which: int, number: int, path: str, content: str, size: int) -> None:
        """Register a file from outside, by whatever uuid."""
        new = File(self.uuid(3, number), self.name(path), content, None)
        there = next((f for f in self.files.values() if f.key == new.key and not f.job), None)

        def answer() -> artifact.Artifact:
            if there and size != 1:
                raise Conflict("")
            found = there or new
            self.files[found.uuid] = found
            return artifact.Artifact(found.uuid, found.path, sha256(content), 1, None)

        # All have the size 1, but where another one is said of a file that is there.
        if there or (size == 1 and new.uuid not in self.files):
            digest = sha256(content)
            said = artifact.register(new.path, sha256=digest, size=size, uuid=new.uuid)
            self.both(which, said, answer)

    # Jobs -----------------------------------------------------------------------------------

    def read_by(self, data: st.DataObject) -> list[UUID]:
        """Draw inputs, one of which may be unknown."""
        known = [*self.files, self.uuid(9, 9)]
        return data.draw(st.lists(st.sampled_from(known), unique=True, max_size=2), "inputs")

    def begin(self, one: Job) -> None:
        """Have a job begin, if nothing speaks against it."""
        of_submit, _, _, inputs = one.begun
        if of_submit not in self.submits or any(file not in self.files for file in inputs):
            raise NotFound("")
        self.jobs[one.uuid] = one

    def fingerprint(self, one: Job) -> object:
        """Return what of a job is in its fingerprint."""
        return one.begun[1], {self.files[uuid].key for uuid in one.begun[3]}

    def begun(
        self, which: int, statement: Statement[bytes | None], new: Job, change: Answer
    ) -> None:
        """Run what gives a fingerprint, which equals that of all jobs that do the same."""

        def answer() -> object:
            change()
            return ANY

        got = self.both(which, statement, answer)
        if isinstance(got, bytes):
            mine = self.fingerprint(self.jobs[new.uuid])
            for one in self.jobs.values():
                found = self.stores[which].run(job.get(one.uuid)).fingerprint
                assert (found == got) == (self.fingerprint(one) == mine)
        else:
            assert got in (Conflict, NotFound)

    @rule(
        which=st.integers(0, 1),
        number=jobs,
        of_submit=submits,
        name=names,
        at=moments,
        data=st.data(),
    )
    def start(
        self, which: int, number: int, of_submit: int, name: str, at: int, data: st.DataObject
    ) -> None:
        """Start a job, or one that is there."""
        uuid, of, inputs = self.uuid(2, number), self.uuid(1, of_submit), self.read_by(data)
        new = Job(uuid, (of, self.name(name), later(at), frozenset(inputs)))

        def answer() -> None:
            if uuid not in self.jobs:
                self.begin(new)
            elif self.jobs[uuid].begun != new.begun:
                raise Conflict("")

        said = {"package": new.begun[1], "endpoint": new.begun[1], "started_at": new.begun[2]}
        self.begun(which, start(uuid, of, inputs=inputs, **said), new, answer)

    @rule(
        which=st.integers(0, 1),
        number=jobs,
        of_submit=submits,
        name=names,
        at=moments,
        state=ends,
        made=outputs,
        log=st.sampled_from(TEXTS),
        data=st.data(),
    )
    def record(
        self,
        which: int,
        number: int,
        of_submit: int,
        name: str,
        at: int,
        state: job.EndState,
        made: dict[str, str],
        log: str,
        data: st.DataObject,
    ) -> None:
        """Record a whole job, or one that is there."""
        uuid, of, inputs = self.uuid(2, number), self.uuid(1, of_submit), self.read_by(data)
        files = self.output_files(uuid, made)
        new = Job(
            uuid,
            (of, self.name(name), later(at), frozenset(inputs)),
            state,
            (state, later(at), None),
            files,
            [log],
            whole=True,
        )

        def answer() -> None:
            if uuid not in self.jobs:
                self.begin(new)
                self.files |= {file.uuid: file for file in files.values()}
                return
            old = self.jobs[uuid]
            same_outputs = {p: f.content for p, f in old.made.items()} == {
                p: f.content for p, f in files.items()
            }
            same = (old.begun, old.end, "".join(old.log)) == (new.begun, new.end, log)
            if not same or not same_outputs:
                raise Conflict("")

        said: dict[str, Any] = {
            "package": new.begun[1],
            "endpoint": new.begun[1],
            "started_at": new.begun[2],
            "finished_at": later(at),
            "state": state,
            "log": log,
            "outputs": self.as_outputs(files),
        }
        self.begun(which, job.record(ended(uuid, of, inputs=inputs, **said)), new, answer)

    def output_files(self, uuid: UUID, made: dict[str, str]) -> dict[str, File]:
        """Return outputs, each with a uuid of its own."""
        return {
            self.name(path): File(self.uuid(4, next(self.last)), self.name(path), content, uuid)
            for path, content in made.items()
        }

    @staticmethod
    def as_outputs(files: dict[str, File]) -> list[Output]:
        """Return them as a builder reports them."""
        return [Output(f.path, sha256(f.content), 1, f.uuid) for f in files.values()]

    def there(self, uuid: UUID) -> Job:
        """Return a job."""
        if uuid not in self.jobs:
            raise NotFound("")
        return self.jobs[uuid]

    @rule(which=st.integers(0, 1), number=jobs, seq=st.integers(0, 2), text=st.sampled_from(TEXTS))
    def append_log(self, which: int, number: int, seq: int, text: str) -> None:
        """Append a piece, in its place or in another one."""
        uuid = self.uuid(2, number)

        def answer() -> None:
            one = self.there(uuid)
            pieces = [] if one.whole else one.log
            if pieces[seq : seq + 1] == [text]:
                return
            if one.state != "running":
                raise NotRunning("")
            if seq != len(pieces):
                raise Conflict("")
            one.log.append(text)

        self.both(which, job.append_log(uuid, seq=seq, data=text), answer)

    @rule(which=st.integers(0, 1), number=jobs)
    def heartbeat(self, which: int, number: int) -> None:
        """Say that a job's builder is alive."""
        uuid = self.uuid(2, number)

        def answer() -> None:
            if self.there(uuid).state != "running":
                raise NotRunning("")

        self.both(which, job.heartbeat(uuid), answer)

    @rule(
        which=st.integers(0, 1),
        number=jobs,
        state=ends,
        at=moments,
        reason=st.sampled_from([None, None, "r"]),
        made=outputs,
    )
    def finish(
        self,
        which: int,
        number: int,
        state: job.EndState,
        at: int,
        reason: str | None,
        made: dict[str, str],
    ) -> None:
        """End a job, or one that has ended."""
        uuid = self.uuid(2, number)
        files = self.output_files(uuid, made)

        def answer() -> tuple[artifact.Artifact, ...]:
            one = self.there(uuid)
            said = state, later(at), reason
            if one.state == "running":
                one.state, one.end, one.made = state, said, files
                self.files |= {file.uuid: file for file in files.values()}
            elif (one.end, {p: f.content for p, f in one.made.items()}) != (
                said,
                {p: f.content for p, f in files.items()},
            ):
                raise (Conflict if one.state == state != "lost" else NotRunning)("")
            return tuple(
                artifact.Artifact(f.uuid, f.path, sha256(f.content), 1, uuid)
                for _, f in sorted(one.made.items())
            )

        end: dict[str, Any] = {"state": state, "finished_at": later(at), "reason": reason}
        self.both(which, finish(uuid, outputs=self.as_outputs(files), **end), answer)

    @rule(
        which=st.integers(0, 1),
        number=st.sampled_from(SWEEPS),
        name=names,
        limit=st.integers(0, 2),
    )
    def sweep(self, which: int, number: int, name: str, limit: int) -> None:
        """Sweep an endpoint, or say it again."""
        uuid, endpoint = self.uuid(5, number), self.name(name)

        def answer() -> list[UUID]:
            ones = sorted(self.jobs.values(), key=lambda one: one.key)
            swept = [one for one in ones if one.swept_by == uuid]
            if not swept:
                running = [one for one in ones if one.state == "running"]
                swept = [one for one in running if one.begun[1] == endpoint][:limit]
            for one in swept:
                # When, only the server knows.
                one.state, one.swept_by, one.end = "lost", uuid, ("lost", None, None)
            return [one.uuid for one in swept]

        silent = timedelta(microseconds=1)
        self.both(
            which, job.sweep(silent_for=silent, endpoint=endpoint, limit=limit, uuid=uuid), answer
        )

    # Releases -------------------------------------------------------------------------------

    def current(self, store: str) -> list[Released]:
        """Return what is released: of each path what came last, if it was not taken back."""
        of_path: dict[str, Released] = {}
        for one in self.released:
            if one.store == store:
                last = of_path.setdefault(one.file.path, one)
                of_path[one.file.path] = max(last, one, key=lambda each: each.key)
        return [one for one in of_path.values() if not one.withdrawn]

    @rule(
        which=st.integers(0, 1),
        number=st.sampled_from(RELEASES),
        name=names,
        at=moments,
        data=st.data(),
    )
    def release(self, which: int, number: int, name: str, at: int, data: st.DataObject) -> None:
        """Release artifacts, or say it again."""
        uuid, store, time = self.uuid(6, number), self.name(name), later(at)
        known = [*self.files, self.uuid(9, 9)]
        drawn = data.draw(
            st.lists(st.sampled_from(known), min_size=1, max_size=3, unique=True), "artifacts"
        )

        def answer() -> list[UUID]:
            if any(one not in self.files for one in drawn):
                raise NotFound("")
            files = [self.files[one] for one in drawn]
            if any(file.job and self.jobs[file.job].state != "success" for file in files):
                raise Conflict("")
            # Of a path the one with the highest uuid.
            chosen = [
                file
                for file in files
                if all(file.uuid >= other.uuid for other in files if other.path == file.path)
            ]
            before = [one for one in self.released if one.key[1] == uuid]
            if before:
                ever = {one.file.uuid for one in self.released if one.store == store}
                same = all(
                    (one.store, one.key[0]) == (store, time) and one.file.uuid in drawn
                    for one in before
                )
                if not same or any(file.uuid not in ever for file in chosen):
                    raise Conflict("")
                return sorted(one.file.uuid for one in before)
            there = {one.file.uuid for one in self.current(store)}
            new = [file for file in chosen if file.uuid not in there]
            self.released += [Released((time, uuid, one.uuid), store, one) for one in new]
            return sorted(file.uuid for file in new)

        said: dict[str, Any] = {"store": store, "timestamp": time, "actor": "a"}
        self.both(which, release.create(uuid, artifacts=drawn, **said), answer)

    @rule(
        which=st.integers(0, 1),
        name=names,
        at=moments,
        reason=st.sampled_from(["r", "s"]),
        data=st.data(),
    )
    def withdraw(self, which: int, name: str, at: int, reason: str, data: st.DataObject) -> None:
        """Take an artifact back, or say it again."""
        store, time = self.name(name), later(at)
        one = data.draw(st.sampled_from([*self.files, self.uuid(9, 9)]), "artifact")

        def answer() -> None:
            ever = [r for r in self.released if r.store == store and r.file.uuid == one]
            if any((time, reason) in each.withdrawn for each in ever):
                return
            for each in self.current(store):
                if each.file.uuid == one:
                    each.withdrawn.append((time, reason))
                    return
            raise NotFound("")

        said: dict[str, Any] = {"timestamp": time, "actor": "a", "reason": reason}
        self.both(which, release.withdraw(store=store, artifact=one, **said), answer)

    # What is asked --------------------------------------------------------------------------

    @rule(which=st.integers(0, 1), number=jobs)
    def look_at_job(self, which: int, number: int) -> None:
        """Compare all that there is to say of a job."""
        uuid = self.uuid(2, number)
        one, store = self.jobs.get(uuid), self.stores[which]
        if one is None:
            self.both(which, job.get(uuid), lambda: self.there(uuid))
            return
        found, log, made, read = store.run(
            job.get(uuid), job.log(uuid), job.outputs(uuid), job.inputs(uuid)
        )
        of_submit, name, at, inputs = one.begun
        assert (found.submit_uuid, found.package, found.started_at) == (of_submit, name, at)
        assert found.state == one.state
        if one.end and not one.swept_by:
            assert (found.state, found.finished_at, found.reason) == one.end
        assert decode_log(log) == "".join(one.log).encode()
        assert [file.uuid for file in made] == [f.uuid for _, f in sorted(one.made.items())]
        assert {file.uuid for file in read} == inputs

    @rule(which=st.integers(0, 1), number=submits, limit=st.sampled_from([None, 1, 3]))
    def list_submit(self, which: int, number: int, limit: int | None) -> None:
        """Compare the jobs of a submit, with those that it reused."""
        uuid = self.uuid(1, number)
        mine = [(one, False) for one in self.jobs.values() if one.begun[0] == uuid]
        mine += [(self.jobs[one], True) for of, one in self.reused if of == uuid]
        mine.sort(key=lambda pair: pair[0].key, reverse=True)
        rows = self.stores[which].run(report.jobs(of_submit=uuid, limit=limit))
        wanted = [(one.uuid, one.state, reused) for one, reused in mine]
        assert [(row.uuid, row.state, row.reused) for row in rows] == wanted[:limit]
        shown = self.stores[which].run(report.submit(uuid))
        assert len(shown) == (uuid in self.submits)
        for row in shown:
            assert (row.package, row.timestamp) == self.submits[uuid]
            states = [one.state for one, reused in mine if not reused]
            counted = row.running, row.success, row.error, row.lost
            assert counted == tuple(
                states.count(state) for state in ("running", "success", "error", "lost")
            )
            assert row.reused == len(mine) - len(states)

    @rule(
        which=st.integers(0, 1),
        name=names,
        state=st.sampled_from([None, "running", "success", "error", "lost"]),
    )
    def list_package(self, which: int, name: str, state: job.State | None) -> None:
        """Compare the jobs of a package."""
        rows = self.stores[which].run(report.jobs(package=self.name(name), state=state, limit=None))
        assert [row.uuid for row in rows] == [one.uuid for one in self.of_package(name, state)]

    def of_package(self, name: str, state: str | None) -> list[Job]:
        """Return the jobs of a package, newest first."""
        ones = [one for one in self.jobs.values() if one.begun[1] == self.name(name)]
        ones.sort(key=lambda one: one.key, reverse=True)
        return [one for one in ones if state in (None, one.state)]

    @rule(which=st.integers(0, 1), name=names, data=st.data())
    def ask_to_reuse(self, which: int, name: str, data: st.DataObject) -> None:
        """Compare which job is taken for another one that would do the same."""
        known = sorted(self.files)
        drawn = data.draw(st.lists(st.sampled_from(known), max_size=2)) if known else []
        inputs = {(self.files[one].path, sha256(self.files[one].content)) for one in drawn}
        like = self.name(name), {self.files[one].key for one in drawn}
        same = [one for one in self.of_package(name, "success") if self.fingerprint(one) == like]
        found = self.stores[which].run(
            artifact.reusable(
                package=self.name(name),
                version="1.3",
                image="debian:12",
                script="#!/bin/sh\nmake\n",
                env={"LANG": "C.UTF-8", "CC": "gcc"},
                inputs=inputs,
            )
        )
        assert (found and found.job_uuid) == (same[0].uuid if same else None)
        if found:
            assert {file.uuid for file in found.outputs} == {f.uuid for f in same[0].made.values()}

    @rule(which=st.integers(0, 1), name=names)
    def list_releases(self, which: int, name: str) -> None:
        """Compare what is released."""
        rows = self.stores[which].run(report.releases(store=self.name(name), limit=None))
        wanted = sorted((one.key for one in self.current(self.name(name))), reverse=True)
        found = [(row.timestamp, row.uuid, row.artifact_uuid) for row in rows]
        assert sorted(found, reverse=True) == wanted

    @rule(which=st.integers(0, 1), name=names)
    def begin_stream(self, which: int, name: str) -> None:
        """Begin a stream, which others write beside."""
        if len(self.streams) < 3:
            stream = self.stores[which].stream(report.jobs(package=self.name(name), limit=None))
            wanted = [one.uuid for one in self.of_package(name, None)]
            read = [row.uuid for row in [next(stream, None)] if row]
            assert read == wanted[:1]
            self.streams.append((stream, wanted[1:]))

    @rule()
    def end_stream(self) -> None:
        """Read a stream to its end: it has what was there at its beginning."""
        if self.streams:
            stream, wanted = self.streams.pop(0)
            assert [row.uuid for row in stream] == wanted


def test_two_stores_do_what_a_plain_model_does(dsn: str, schema: str) -> None:
    with Store.connect(dsn, schema=schema) as one, Store.connect(dsn, schema=schema) as other:

        class Here(Machine):
            stores = one, other

        long = settings().max_examples > 100
        run_state_machine_as_test(
            Here, settings=settings(settings(), stateful_step_count=200 if long else 50)
        )
