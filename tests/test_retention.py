"""What the rules of retention let go is removed, and what is kept stays as it was."""

import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from uuid import UUID

import psycopg
import pytest
from commandline import Shell
from conftest import Postgres
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo
from samples import TIME, create, ended, later, sha256, start
from shell import looking_at
from stores import LAST, PACKAGES, Job, Submit, World, record, worlds

from butido_store import Statement, Store, job, release, report, submit, uuid7
from butido_store._query import query
from butido_store.admin import retention
from butido_store.artifact import Output
from butido_store.errors import InvalidInput, LogRemoved, NotFound, StoreError

Connection = psycopg.Connection[tuple[object, ...]]
Connect = Callable[[], Connection]

# Random stores are of a time that may be to come; so long ago is what is recorded of them here.
AGO = timedelta(hours=200_000)


@dataclass(frozen=True)
class Rule:
    """A rule; what started before `cut` is old enough, or nothing is."""

    what: str
    package: str
    image: str | None
    state: str | None
    cut: float | None
    keep_newest: int | None
    keep_last_success: bool | None

    def fits(self, what: str, package: str, image: str, *states: str) -> bool:
        """Tell whether this rule is about it."""
        return (
            self.what == what
            and like(package, self.package)
            and like(image, self.image or "%")
            and (self.state is None or self.state in states)
        )


def like(text: str, pattern: str) -> bool:
    """Tell whether a text is like a pattern without backslashes."""
    return bool(re.fullmatch(re.escape(pattern).replace("%", ".*").replace("_", "."), text))


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    """Draw a rule."""
    state = draw(st.sampled_from([None, None, "success", "error", "lost"]))
    cut = draw(st.sampled_from([None, *(x + 0.5 for x in range(-1, LAST + 1)), *[LAST + 0.5] * 4]))
    newest = None if cut is None else draw(st.sampled_from([None, None, None, 1, 2]))
    can = cut is not None and state in (None, "success")
    return Rule(
        draw(st.sampled_from(["log", "record"])),
        draw(st.sampled_from(["%", "%", "%", "app", "app%", "l_b", "_", "no"])),
        draw(st.sampled_from([None, None, "debian", "%d%", "_"])),
        state,
        cut,
        newest,
        draw(st.sampled_from([None, False, True])) if can else None,
    )


def insert(connection: Connection, some: list[Rule]) -> None:
    """Replace the rules in the table."""
    connection.execute("DELETE FROM retention_rule")
    for position, one in enumerate(some):
        connection.execute(
            "INSERT INTO retention_rule (position, what, package, image, state, older_than,"
            " keep_newest, keep_last_success) VALUES (%s, %s, %s, %s, %s, now() - %s, %s, %s)",
            [
                position,
                *(one.what, one.package, one.image, one.state),
                None if one.cut is None else later(one.cut) - AGO,
                *(one.keep_newest, one.keep_last_success),
            ],
        )


@st.composite
def scenes(draw: st.DrawFn) -> World:
    """Draw a store of which less is released and reused, so that some of it goes."""
    world = draw(worlds(most=12, alike=draw(st.booleans())))
    one_in_three = st.sampled_from([True, False, False])
    reuses = tuple(one for one in world.reuses if draw(one_in_three))
    # One that is there is not released again; of those the last, in its turn.
    releases = {(one.store, one.file.uuid): one for one in world.releases if draw(one_in_three)}
    in_turn = sorted(releases.values(), key=lambda one: one.key)
    return replace(world, reuses=reuses, releases=tuple(in_turn))


def write(connection: Connection, world: World) -> Store:
    """Record a store, long ago."""
    store = Store(connection)
    record(store, world)
    connection.execute("UPDATE job SET started_at = started_at - %s", [AGO])
    connection.execute("UPDATE submit SET timestamp = timestamp - %s", [AGO])
    return store


# A second implementation ------------------------------------------------------------------------


def goes(world: World, some: list[Rule], what: str, one: Job) -> bool:
    """Tell whether the rules let it go, whatever is kept."""
    if one.state == "running":
        return False

    def rule_of(each: Job) -> Rule | None:
        return next(
            (r for r in some if r.fits(what, each.package, each.image, each.state)),
            None,
        )

    rule = rule_of(one)
    if rule is None or rule.cut is None or one.started_at > later(rule.cut):
        return False
    alike = [
        each
        for each in world.newest()
        if (each.package, each.version, each.image) == (one.package, one.version, one.image)
    ]
    good = [each for each in alike if each.state == "success"]
    if rule.keep_last_success and good[:1] == [one]:
        return False
    same = [each for each in alike if each.state != "running" and rule_of(each) is rule]
    return one not in same[: rule.keep_newest or 0]


@dataclass(frozen=True)
class Gone:
    """What is removed."""

    logs: frozenset[UUID]
    jobs: frozenset[UUID]
    submits: frozenset[UUID]


def expected(world: World, some: list[Rule]) -> Gone:
    """Return what has to go."""
    jobs = world.jobs

    def released(one: Job) -> bool:
        return any(act.file in one.outputs for act in world.releases)

    def readers(one: Job) -> Iterator[Job]:
        return (each for each in jobs if set(each.inputs) & set(one.outputs))

    logs: set[UUID] = set()
    named = [one for one in jobs if goes(world, some, "log", one) and not released(one)]
    while more := {
        one.uuid
        for one in named
        if one.uuid not in logs
        and all(each.state in ("error", "lost") or each.uuid in logs for each in readers(one))
    }:
        logs |= more

    gone: set[UUID] = set()
    submits: set[UUID] = set()
    named = [one for one in jobs if goes(world, some, "record", one) and not released(one)]

    def empty(of: UUID) -> bool:
        return all(one.uuid in gone for one in jobs if one.submit.uuid == of)

    def let_go(one: Submit) -> bool:
        if any(each.submit == one for each in jobs):
            return True
        reused = any(reuse.submit == one for reuse in world.reuses)
        states = ("success",) if reused else ("success", "error", "lost")
        rule = next((r for r in some if r.fits("record", one.package, one.image, *states)), None)
        return rule is not None and rule.cut is not None and one.timestamp <= later(rule.cut)

    while True:
        more = {
            one.uuid
            for one in named
            if one.uuid not in gone
            and all(each.uuid in gone for each in readers(one))
            and all(reuse.submit.uuid in submits for reuse in world.reuses if reuse.job == one)
        }
        left = {
            of.uuid
            for of in world.submits
            if of.uuid not in submits and empty(of.uuid) and let_go(of)
        }
        if not more and not left:
            return Gone(frozenset(logs), frozenset(gone), frozenset(submits))
        gone |= more
        submits |= left


# What the store has -------------------------------------------------------------------------------


def found(connection: Connection, world: World) -> Gone:
    """Return what is not there any more."""

    def those(sql: str) -> set[UUID]:
        return {uuid for (uuid,) in connection.execute(sql.encode()) if isinstance(uuid, UUID)}

    return Gone(
        frozenset(those("SELECT uuid FROM job WHERE log IS NULL AND state <> 'running'")),
        frozenset({one.uuid for one in world.jobs} - those("SELECT uuid FROM job")),
        frozenset({one.uuid for one in world.submits} - those("SELECT uuid FROM submit")),
    )


def counts(connection: Connection) -> dict[str, int]:
    """Return how many rows each table has, and the size of all logs."""
    sums = {
        "jobs": "count(*) FROM job",
        "submits": "count(*) FROM submit",
        "artifacts": "count(*) FROM artifact",
        "inputs": "count(*) FROM job_input_artifacts",
        "reuses": "count(*) FROM reuse",
        "chunks": "count(*) FROM job_log_chunk",
        "log_bytes": "coalesce(sum(log_size), 0) FROM job WHERE log IS NOT NULL",
    }
    rows = {
        name: connection.execute(f"SELECT {sql}".encode()).fetchone() for name, sql in sums.items()
    }
    return {name: int(str(row[0])) for name, row in rows.items() if row}


def answers(store: Store, world: World, gone: Gone) -> dict[str, object]:
    """Return what every report says of what is not gone, in lists without the rest."""
    told: dict[str, object] = {}
    jobs = {one.uuid for one in world.jobs} - gone.jobs
    files = {file.uuid for file in world.files if file.job not in gone.jobs}
    for uuid in jobs:
        (one,) = store.run(report.job(uuid, log=True, script=True, env=True))
        if uuid in gone.logs:
            one = replace(one, log=None, log_removed=True)
        told[f"job {uuid}"] = one
    for uuid in files:
        told[f"provenance {uuid}"] = store.run(report.provenance(uuid))
        impact = store.run(report.impact(artifact=uuid, limit=None))
        told[f"impact {uuid}"] = [row for row in impact if row.uuid in files]
        made_by = next(file.job for file in world.files if file.uuid == uuid)
        if made_by:
            told[f"slsa {uuid}"] = store.run(report.slsa(uuid))
    for of in world.submits:
        if of.uuid not in gone.submits:
            (all_of_it,) = store.run(report.submit(of.uuid))
            kept = [one for one in all_of_it.jobs if UUID(one["uuid"]) in jobs]
            told[f"submit {of.uuid}"] = replace(
                all_of_it, jobs=kept, running=0, success=0, error=0, lost=0
            )
            rows = store.run(report.jobs(of_submit=of.uuid, limit=None))
            told[f"jobs of {of.uuid}"] = [
                replace(row, log_removed=False) for row in rows if row.uuid in jobs
            ]
    told["jobs"] = [
        replace(row, log_removed=False)
        for row in store.run(report.jobs(limit=None))
        if row.uuid in jobs
    ]
    told["artifacts"] = [
        row for row in store.run(report.artifacts(limit=None)) if row.uuid in files
    ]
    told["submits"] = [
        row for row in store.run(report.submits(limit=None)) if row.uuid not in gone.submits
    ]
    told["releases"] = store.run(report.releases(history=True, limit=None))
    told["found"] = [
        [row for row in store.run(report.find_artifact(name, limit=None)) if row.uuid in files]
        for name in PACKAGES
    ]
    return told


def explained(store: Store, world: World, some: list[Rule], gone: Gone) -> None:
    """Check what is said of why each job stays, or goes, before anything is removed."""
    released = {act.file.job for act in world.releases}
    for one in world.jobs:
        log, record = retention.why(store, one.uuid)
        for reason, goes in ((log, gone.logs), (record, gone.jobs)):
            fits = (r.fits(reason.what, one.package, one.image, one.state) for r in some)
            assert reason.position == next((n for n, does in enumerate(fits) if does), None)
            assert (reason.because is None) == (one.uuid in goes), reason
            last = reason.by[-1] if reason.by else one.uuid
            if reason.because == "released":
                assert last in released
            elif reason.by:
                (held,) = [r for r in retention.why(store, last) if r.what == reason.what]
                assert (held.because, held.by) == (reason.because, ())


@given(world=scenes(), some=st.lists(rules(), max_size=5))
def test_what_is_kept_stays_as_it_was_and_the_rest_goes_as_foretold(
    connection: Connection, world: World, some: list[Rule]
) -> None:
    with connection.transaction(force_rollback=True):
        store = write(connection, world)
        insert(connection, some)
        gone = expected(world, some)
        before, rows = answers(store, world, gone), counts(connection)
        plan = retention.plan(store)
        assert Gone(plan.logs, plan.jobs, plan.submits) == gone
        assert counts(connection) == rows
        explained(store, world, some, gone)
        removed = retention.prune(store, batch=3)
        now = found(connection, world)
        assert (now.jobs, now.submits, now.logs) == (gone.jobs, gone.submits, gone.logs - gone.jobs)
        assert answers(store, world, gone) == before
        assert removed == plan.removed
        assert {name: rows[name] - count for name, count in counts(connection).items()} == {
            name: getattr(removed, name) for name in rows
        }
        for one in world.jobs:
            for reason in retention.why(store, one.uuid):
                assert reason.because is not None or reason.what == "log"


class Broken(Exception):
    """Breaks a prune off."""


@given(
    world=scenes(),
    some=st.lists(rules(), min_size=1, max_size=4),
    others=st.lists(rules(), max_size=3),
    batches=st.integers(1, 6),
)
def test_it_may_be_broken_off_begun_again_and_its_rules_edited(
    connection: Connection, world: World, some: list[Rule], others: list[Rule], batches: int
) -> None:
    left = batches

    def breaks(*_: object) -> None:
        nonlocal left
        left -= 1
        if not left:
            raise Broken

    with connection.transaction(force_rollback=True):
        store = write(connection, world)
        with connection.transaction(force_rollback=True):
            insert(connection, some)
            gone = expected(world, some)
            with suppress(Broken):
                retention.prune(store, batch=1, told=breaks)
            now = found(connection, world)
            assert now.jobs <= gone.jobs
            assert now.submits <= gone.submits
            assert now.logs <= gone.logs
            retention.prune(store)
            now = found(connection, world)
            assert (now.jobs, now.submits) == (gone.jobs, gone.submits)
            insert(connection, others)
            retention.prune(store)
            now = found(connection, world)
            after = answers(store, world, now)
        assert answers(store, world, now) == after


# What happens at the same time -------------------------------------------------------------------

RULE = (
    "INSERT INTO retention_rule (position, what, package, older_than)"
    " VALUES (1, '{}', '%', '1 day')"
)
ALL, LOGS = RULE.format("record"), RULE.format("log")
OLD = later(0) - AGO


@dataclass(frozen=True)
class Chain:
    """Jobs of which each read what the one before it made, two of each submit."""

    submits: tuple[UUID, ...]
    jobs: tuple[UUID, ...]
    files: tuple[UUID, ...]


@pytest.fixture
def chain(dsn: str, schema: str) -> Chain:
    """Old jobs, with the oldest first."""
    submits, jobs, files = (tuple(uuid7() for _ in range(n)) for n in (8, 16, 16))
    with Store.connect(dsn, schema=schema) as store:
        store.run(*(create(uuid, timestamp=OLD) for uuid in submits))
        store.run(
            job.record_all(
                ended(
                    uuid,
                    submits[place // 2],
                    started_at=OLD + timedelta(hours=place),
                    log="x" * 9,
                    inputs=files[place - 1 : place],
                    outputs=[Output(f"f{place}", sha256(f"{place}"), 1, files[place])],
                )
                for place, uuid in enumerate(jobs)
            )
        )
    return Chain(submits, jobs, files)


def left(connection: Connection) -> list[int]:
    """Return how many jobs and submits there are."""
    row = connection.execute("SELECT (SELECT count(*) FROM job), (SELECT count(*) FROM submit)")
    return [int(str(count)) for count in row.fetchone() or ()]


def test_without_rules_nothing_is_removed(connection: Connection, chain: Chain) -> None:
    store = Store(connection)
    assert not retention.plan(store).removed
    assert not retention.prune(store)
    assert left(connection) == [16, 8]
    assert {reason.because for reason in retention.why(store, chain.jobs[0])} == {"no rule"}


def test_two_at_once_remove_the_same(
    connection: Connection, dsn: str, schema: str, chain: Chain
) -> None:
    connection.execute(ALL.encode())
    removed: list[retention.Removed] = []

    def work() -> None:
        with Store.connect(dsn, schema=schema) as store:
            removed.append(retention.prune(store, batch=1))

    threads = [Thread(target=work) for _ in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert left(connection) == [0, 0]
    assert sum(removed, retention.Removed()) == retention.Removed(
        jobs=16, submits=8, artifacts=16, inputs=15, log_bytes=16 * 9
    )


def test_it_goes_on_when_its_session_is_ended(
    connection: Connection, dsn: str, schema: str, chain: Chain
) -> None:
    connection.execute(ALL.encode())
    sent = 0

    def cut(*_: object) -> None:
        nonlocal sent
        sent += 1
        if sent in (1, 4):
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE"
                " datname = current_database() AND application_name = 'butido_store'"
            )

    with Store.connect(dsn, schema=schema) as store:
        retention.prune(store, batch=2, told=cut)
    assert sent > 4
    assert left(connection) == [0, 0]


USES: dict[str, Callable[[Chain], Statement[object]]] = {
    "input": lambda at: start(uuid7(), at.submits[0], inputs=[at.files[-1]]),
    "inputs of many": lambda at: job.record_all(
        [ended(uuid7(), at.submits[0], inputs=[at.files[-1]], started_at=datetime.now(UTC))]
    ),
    "reuse": lambda at: submit.reuse(at.submits[0], [at.jobs[-1]], timestamp=TIME),
    "release": lambda at: release.create(
        uuid7(), store="stable", timestamp=TIME, actor="me", artifacts=[at.files[-1]]
    ),
    "job of the submit": lambda at: start(uuid7(), at.submits[-1]),
}


@pytest.mark.parametrize("use", USES)
def test_who_uses_what_is_being_removed_is_told_that_it_is_gone(
    use: str, connection: Connection, connect: Connect, dsn: str, schema: str, chain: Chain
) -> None:
    pruner, said = connect(), list[object]()
    with Store.connect(dsn, schema=schema) as store:
        # With all shared values there.
        store.run(create(uuid7()), start(uuid7(), chain.submits[0]))
        store.run(USES["release"](replace(chain, files=chain.files[:1])))
        connection.execute(ALL.encode())

        def work() -> None:
            try:
                said.append(store.run(USES[use](chain)))
            except StoreError as error:
                said.append(error)

        thread = Thread(target=work)
        with pruner.transaction():
            pruning = Store(pruner)
            pruning.run(retention.begin("record"))
            done = pruning.run(retention.remove("record", limit=2))
            assert done is not None
            assert (done.removed.jobs, done.removed.submits) == (2, 1)
            thread.start()
            waiting = "SELECT FROM pg_locks WHERE NOT granted AND %s = ANY(pg_blocking_pids(pid))"
            while not connection.execute(waiting, [pruner.info.backend_pid]).rowcount:
                assert thread.is_alive(), said
        thread.join()
        (error,) = said
        assert isinstance(error, NotFound), error
        counted = left(connection)
        assert counted[0] == 15


@pytest.mark.parametrize("use", USES)
def test_what_is_being_used_is_left(
    use: str, connection: Connection, connect: Connect, chain: Chain
) -> None:
    connection.execute(ALL.encode())
    writer = connect()
    store = Store(writer)
    store.run(USES["release"](replace(chain, files=chain.files[:1])))
    store.run(create(uuid7()), start(uuid7(), chain.submits[0]))
    with writer.transaction():
        store.run(USES[use](chain))
        removed = retention.prune(Store(connection))
        # The submit is locked, so that it outlasts its jobs.
        assert removed.jobs == (15 if use == "job of the submit" else 0)
    after = retention.prune(Store(connection))
    assert after.jobs == 0
    assert left(connection)[0] == (
        3 if use == "job of the submit" else 18 - (use in ("reuse", "release"))
    )


def test_submits_that_reused_of_each_other_stay(connection: Connection, chain: Chain) -> None:
    connection.execute(ALL.encode())
    store = Store(connection)
    last, other = chain.submits[-1], uuid7()
    store.run(create(other, timestamp=OLD))
    store.run(
        job.record(
            made := ended(uuid7(), other, started_at=OLD, outputs=[Output("o", sha256("o"), 1)])
        )
    )
    store.run(submit.reuse(last, [made.uuid], timestamp=TIME))
    store.run(submit.reuse(other, [chain.jobs[-1]], timestamp=TIME))
    plan = retention.plan(store)
    assert not plan.removed
    assert plan.stays["record", "reused"] == 2
    assert not retention.prune(store)
    assert [one.because for one in retention.why(store, made.uuid)] == ["no rule", "circle"]
    assert [one.because for one in retention.why(store, chain.jobs[0])] == ["no rule", "circle"]


def test_what_an_empty_submit_reused_goes_as_soon_as_that_may(
    connection: Connection, chain: Chain
) -> None:
    connection.execute(ALL.encode())
    store, last, empty = Store(connection), chain.jobs[-1], uuid7()
    store.run(create(empty, timestamp=datetime.now(UTC)))
    store.run(submit.reuse(empty, [last], timestamp=TIME))
    assert retention.why(store, last)[1].because == f"reused by submit {empty}"
    assert not retention.plan(store).removed
    connection.execute("UPDATE submit SET timestamp = %s", [OLD])
    assert retention.why(store, last)[1] == retention.Reason("record", 1, None)
    assert last in retention.plan(store).jobs
    retention.prune(store)
    assert left(connection) == [0, 0]


def test_a_failed_job_that_is_read_keeps_its_log_and_no_other(connection: Connection) -> None:
    connection.execute(LOGS.encode())
    store, of = Store(connection), uuid7()
    maker, failed, reader = uuid7(), uuid7(), uuid7()
    made, left = (Output(path, sha256(path), 1) for path in ("made", "left"))
    store.run(create(of, timestamp=OLD))
    store.run(job.record(ended(maker, of, started_at=OLD, outputs=[made])))
    store.run(
        job.record(
            ended(failed, of, started_at=OLD, state="error", inputs=[made.uuid], outputs=[left])
        )
    )
    store.run(start(reader, of, inputs=[left.uuid]))
    planned = retention.plan(store)
    assert planned.logs == {maker}
    assert retention.prune(store) == planned.removed
    assert not store.run(job.get(failed)).log_removed


# Doors -------------------------------------------------------------------------------------------


def test_a_removed_log_is_told_in_each_door(
    connection: Connection, chain: Chain, shell: Shell, postgres: Postgres, dsn: str, schema: str
) -> None:
    connection.execute(LOGS.encode())
    connection.execute("INSERT INTO job_log_chunk VALUES (%s, 0, 'stray')", [chain.jobs[3]])
    store, one = Store(connection), chain.jobs[3]
    planned = retention.plan(store).removed
    assert planned == retention.Removed(logs=16, chunks=1, log_bytes=16 * 9)
    assert retention.why(store, one)[0] == retention.Reason("log", 1, None)
    assert retention.prune(store) == planned
    assert retention.why(store, one)[0] == retention.Reason("log", 1, "removed")
    found = store.run(job.get(one))
    assert (found.log_removed, found.log_size) == (True, 9)
    with pytest.raises(LogRemoved):
        store.run(job.log(one))
    assert "was removed" in shell("log-of", str(one)).output
    assert "log removed" in shell("job", str(one)).output.replace("_", " ")
    command = [postgres.psql, "-XAtq", "-v", f"job={one}", "-f", str(query("job/log").path)]
    told = subprocess.run(
        [*command, make_conninfo(dsn, options=looking_at(schema))],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "stray" not in told.stdout
    assert "x" * 9 not in told.stdout


def test_psql_walks_with_the_files_alone(
    connection: Connection, chain: Chain, postgres: Postgres, dsn: str, schema: str
) -> None:
    connection.execute(ALL.encode())

    def psql(name: str, *variables: str) -> str:
        command = [postgres.psql, "-XAtq", "-v", "ON_ERROR_STOP=1"]
        for one in variables:
            command += ["-v", one]
        command += ["-f", str(query(f"retention/{name}").path)]
        told = subprocess.run(
            [*command, make_conninfo(dsn, options=looking_at(schema))],
            capture_output=True,
            text=True,
            check=True,
        )
        return told.stdout.strip()

    assert psql("begin", "what=record") == "record"
    assert psql("remove_records", "width=100", "limit=10") == "16|10|5|10|10|0|0|90"
    assert psql("remove_records", "width=100", "limit=10") == "6|6|3|6|5|0|0|54"
    assert psql("remove_records", "width=100", "limit=10") == ""


def run_the_loop_of_the_page(
    postgres: Postgres, connection: Connection, schema: str
) -> subprocess.CompletedProcess[str]:
    """Run the page's script for psql on the test's database, with small batches."""
    root = Path(__file__).parents[1]
    page = (root / "docs" / "dba.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```sh\n(set -e\nexport PGOPTIONS.*?)```", page, re.DOTALL)
    block = block.replace("'-c search_path=butido'", shlex.quote(looking_at(schema)))
    info = connection.info
    return subprocess.run(
        ["sh", "-c", block.replace("limit=50", "limit=9")],
        cwd=root,
        env={
            "PATH": f"{Path(postgres.psql).parent}{os.pathsep}{os.environ['PATH']}",
            "PGHOST": info.host,
            "PGPORT": str(info.port),
            "PGUSER": info.user,
            "PGDATABASE": info.dbname,
        },
        capture_output=True,
        text=True,
    )


def test_the_loop_of_the_page_removes_all(
    connection: Connection, chain: Chain, postgres: Postgres, schema: str
) -> None:
    connection.execute(ALL.encode())
    done = run_the_loop_of_the_page(postgres, connection, schema)
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 3)
    assert left(connection) == [0, 0]


@pytest.mark.parametrize("fails", ["begin", "remove_records"])
def test_the_loop_of_the_page_tells_an_error_from_its_end(
    fails: str, connection: Connection, chain: Chain, postgres: Postgres, schema: str
) -> None:
    connection.execute(ALL.encode())
    table = {"begin": "retention_walk", "remove_records": "retention_rule"}[fails]
    connection.execute(f"ALTER TABLE {table} RENAME TO gone".encode())
    try:
        done = run_the_loop_of_the_page(postgres, connection, schema)
    finally:
        connection.execute(f"ALTER TABLE gone RENAME TO {table}".encode())
    assert (done.returncode, done.stdout.count("\n")) == (3, fails != "begin")
    assert f"{fails}.sql" in done.stderr
    assert left(connection) == [16, 8]


def test_a_command_foretells_explains_and_removes(
    connection: Connection, chain: Chain, shell: Shell
) -> None:
    connection.execute(ALL.encode())
    Store(connection).run(USES["release"](replace(chain, files=chain.files[:6])))
    before = left(connection)
    told = shell("prune", "--dry-run").output
    assert re.search(r"jobs +10\n", told)
    assert re.search(r"record +another that stays was made from it +5\n", told)
    assert re.search(r"log +no rule fits +16\n", told)
    why = shell("prune", "--why", str(chain.files[2])).output.splitlines()
    assert why[0] == f"log of job {chain.jobs[2]}: no rule; stays: no rule fits"
    assert why[1] == f"record of job {chain.jobs[2]}: rule 1; stays: a file of it was released"
    assert why[2:] == [f"  as long as job {one} has its record" for one in chain.jobs[3:6]]
    assert "rule 1; goes" in shell("prune", "--why", str(chain.jobs[7])).output
    assert shell("prune", "--why", str(uuid7())).exit_code == 1
    assert shell("prune", "--dry-run", "--why", "1").exit_code == 2
    assert left(connection) == before
    done = shell("prune", "--batch", "3", "--pause", "0")
    assert "removed so far: 0 logs, 10 jobs, 5 submits\n" in done.stderr
    assert done.stdout == told[: len(done.stdout)]
    assert left(connection) == [6, 3]


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: retention.begin("logs"), "what"),  # type: ignore[arg-type]
        (lambda: retention.remove("logs"), "what"),  # type: ignore[arg-type]
        (lambda: retention.remove("log", limit=-1), "limit"),
        (lambda: retention.remove("log", width=True), "width"),
        (lambda: retention.prune(Store.__new__(Store), pause=-1), "pause"),
        (lambda: retention.prune(Store.__new__(Store), batch=-1), "batch"),
    ],
)
def test_what_it_cannot_be_is_refused(call: Callable[[], object], named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        call()


@pytest.mark.parametrize(
    "values",
    [
        "(1, 'job', '%', NULL, NULL, NULL, NULL, NULL)",
        "(1, 'log', '', NULL, NULL, NULL, NULL, NULL)",
        r"(1, 'log', 'a\', NULL, NULL, NULL, NULL, NULL)",
        r"(1, 'log', '%', 'a\\\', NULL, NULL, NULL, NULL)",
        "(1, 'log', '%', NULL, 'running', NULL, NULL, NULL)",
        "(1, 'log', '%', NULL, NULL, '-1 day', NULL, NULL)",
        "(1, 'log', '%', NULL, NULL, '2000 years', NULL, NULL)",
        "(1, 'log', '%', NULL, NULL, NULL, 3, NULL)",
        "(1, 'log', '%', NULL, NULL, '1 day', 0, NULL)",
        "(1, 'log', '%', NULL, NULL, NULL, NULL, TRUE)",
        "(1, 'log', '%', NULL, 'error', '1 day', NULL, TRUE)",
    ],
)
def test_a_rule_that_says_nothing_is_refused(values: str, connection: Connection) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        connection.execute(f"INSERT INTO retention_rule VALUES {values}".encode())
