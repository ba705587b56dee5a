"""Every query file runs unchanged in psql, and gives what the library gets from it.

Both run a file on the same state, each in a transaction that is undone. What is compared are
column names, the rows as text, and then what every table holds.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from conftest import Postgres
from doors import Both, Connection, told
from filled import (
    BROKEN,
    DONE,
    ENV,
    LATER,
    NEW,
    NEXT,
    ODD,
    OTHER,
    PROGRAM,
    REPORTS,
    RUNNING,
    SOURCE,
    STATEMENTS,
    SUBMIT,
    TWIN,
)
from samples import HASH, TIME, create, later, sha256
from yoyo.migrations import get_migration_hash

from butido_store import Statement, release
from butido_store._check import json_text
from butido_store._query import Query, names, query
from butido_store._statement import Step

# Stands for the name of the schema that the tests run in.
STORES = "the store's"
# What the statements run before a file, in the same transaction.
BEFORE: dict[str, tuple[Step, ...]] = {}


def of(*statements: Statement[object]) -> dict[str, Mapping[str, object]]:
    """Return the parameters of each file that these statements run, what they ask of why, too."""
    found: dict[str, Mapping[str, object]] = {}
    for statement in statements:
        for place, step in enumerate(statement.steps):
            found[step.query.name] = told(step)
            BEFORE[step.query.name] = statement.steps[:place]
        for step in statement.why().steps if statement.why else ():
            found.setdefault(step.query.name, told(step))
    return found


# Parameters of every file, its optional ones too, such that each choice of them finds rows.
# Where the library has a function for it, it is asked what it would send.
SAMPLES: dict[str, Mapping[str, object]] = {
    **of(*STATEMENTS),
    **{
        name: {**parameters, "submit": SUBMIT}
        for name, parameters in of(
            release.create(
                NEW, store="stable", timestamp=TIME, actor=ODD, artifacts=[PROGRAM, SOURCE]
            )
        ).items()
    },
    "job/insert": {**of(*STATEMENTS)["job/insert"], "besides": [DONE, TWIN]},
    "job/sweep": {**of(*STATEMENTS)["job/sweep"], "job": RUNNING},
    "job/compare": {
        "jobs": json_text([{"uuid": str(DONE), "image": ODD}, {"uuid": str(NEW), "inputs": []}])
    },
    "submit/compare": {
        **of(create(SUBMIT, env=ENV, actor=ODD, labels={"odd": ODD}))["submit/create"]
    },
    "job/compare_chunk": {"job": RUNNING, "seq": 0, "chunk": ODD},
    "release/withdrawn": {
        "store": "stable",
        "artifact": OTHER,
        "timestamp": later(1),
        "actor": ODD,
        "reason": "differs",
    },
    **{name: {} for name in names() if name.startswith("drift/")},
    "drift/scratch": {"schema": ODD},
    "drift/session": {"schema": STORES},
    "endpoint/intern": {"names": [ODD, "b", "a", "builder-1"]},
    "envvar/intern": {
        "names": ["b", "a", "ODD", "LANG"],
        "values": [*map(json_text, [ODD, "", ODD, ODD])],
    },
    "environment/intern": {
        "environments": [json_text({"ODD": ODD}), "{}", '{"UNKNOWN": ""}', json_text(ENV)]
    },
    "environment/intern_variables": {"environments": [json_text({"ODD": ODD})]},
    "git_hash/intern": {"hashes": [sha256("b").hex(), sha256("a").hex(), HASH]},
    "image/intern": {"names": [ODD, "b", "a", "debian:12"]},
    "migration/applied": {},
    "migration/blockers": {"tables": ["job", ODD], "modes": ["RowExclusiveLock"] * 2},
    "migration/count": {},
    "migration/create_schema": {},
    "migration/drop_scratch": {},
    "migration/facts": {},
    "migration/flush": {},
    "migration/has_records": {},
    "migration/held": {},
    "migration/holder": {"schema": "of another session"},
    "migration/lock": {"schema": ODD},
    "migration/limit_wait": {"lock_timeout": "10ms"},
    "migration/log": {"hash": "5e1f", "id": ODD, "operation": "apply", "hostname": ODD},
    "migration/mark": {
        "hash": "5e1f",
        "id": "9999.sample",
        "sha256": sha256(""),
        "phase": "pre",
        "duration": timedelta(seconds=1.5),
    },
    "migration/pid": {},
    "migration/session": {"schema": STORES},
    "migration/set": {
        "search_path": "pg_temp",
        "lock_timeout": "5s",
        "statement_timeout": "0",
        "datestyle": "ISO",
        "intervalstyle": "postgres",
    },
    "migration/set_role": {"role": "none"},
    "migration/stores": {},
    "migration/unfit": {"ids": ["0000.before"], "sha256s": ["00"]},
    "migration/unlock": {"schema": ODD},
    "migration/unmark": {"hash": get_migration_hash("0001.initial")},
    "package/intern": {"names": ["b", "a", "zlib"], "versions": [ODD, "1", ODD]},
    "release_store/intern": {"names": [ODD, "b", "a", "stable"]},
    "retention/begin": {"what": "log"},
    "retention/holders": {"what": "record", "jobs": [DONE, NEXT, RUNNING]},
    "retention/remove_logs": {"width": 9, "limit": 9},
    "retention/remove_records": {"width": 9, "limit": 9},
    "retention/remove_submits": {"width": 9, "limit": 9},
    "retention/submits": {"submits": [SUBMIT, LATER]},
    "retention/survey_logs": {"before_at": later(90), "before": BROKEN, "limit": 9},
    "retention/survey_records": {"before_at": later(90), "before": BROKEN, "limit": 9},
    "retention/survey_submits": {"before_at": later(2), "before": LATER, "limit": 9},
    **{f"report/{name}": sample for name, sample in REPORTS.items()},
    "store/begin": {},
    "store/commit": {},
    "store/complete_package": {"begin": "zl", "limit": 3},
    "store/complete_uuid": {"kind": "job", "first": UUID(int=0), "last": SOURCE, "limit": 3},
    "store/limit_idle": {"milliseconds": 9999},
    "store/limit_time": {"milliseconds": 9999},
    "store/missing": {
        "subjects": ["environment", "environment", "package", "image", "endpoint", "git_hash"],
        "names": [
            json_text({"LANG": "C.UTF-8", "ODD": ODD}),
            '{"ODD": ""}',
            "zlib",
            ODD,
            ODD,
            HASH,
        ],
        "values": ["", "", "1.3", "", "", ""],
    },
    "store/denied": {
        "privileges": ["SELECT", "DELETE"],
        "names": ["job", "nothing"],
        "schema": STORES,
    },
    "store/position": {},
    "store/replayed": {"lsn": "0/0", "timeline": "00000001"},
    "store/neighbours": {"uuids": [SOURCE, DONE]},
    "store/open": {"schema": STORES},
    "store/session": {"schema": STORES, "pid": 0, "begins": True},
    "store/release": {},
    "store/resolve": {"first": UUID(int=0), "last": SOURCE, "kind": "job"},
    "store/rollback": {},
    "store/rollback_to": {},
    "store/savepoint": {},
}

BEFORE["environment/intern_variables"] = (
    Step(query("environment/intern"), SAMPLES["environment/intern_variables"]),
)

CONTROL = {
    "store/begin": (),
    "store/commit": ("store/begin",),
    "store/rollback": ("store/begin",),
    "store/savepoint": ("store/begin",),
    "store/release": ("store/begin", "store/savepoint"),
    "store/rollback_to": ("store/begin", "store/savepoint"),
}
WITHOUT_ROWS = (
    *CONTROL,
    "job/insert_inputs",
    "job/insert_outputs",
    # The store has none; tests/test_drift.py plants each.
    "drift/others",
    "drift/privileges",
    # No rule is older; tests/test_refresh_failures.py has one.
    "job/refresh_failures",
    # Nobody else is there; tests/test_migrator_locks.py has somebody.
    "migration/blockers",
    "migration/create_schema",
    # tests/test_migration_plan.py has such a schema.
    "migration/drop_scratch",
    # No rule lets anything go; tests/test_retention.py has some.
    "retention/remove_logs",
    "retention/remove_records",
    "retention/remove_submits",
    # The owner lacks nothing; tests/test_privileges.py has a role that does.
    "store/denied",
)


# What a check takes are limits.
SAMPLES |= {
    name: dict.fromkeys(query(name).types, 1) for name in names() if name.startswith("doctor/")
}

# Files that test_report.py and test_doctor.py take through all of their doors.
ELSEWHERE = ("report/", "doctor/")


def cases() -> list[Any]:
    """Return each other file with none, each and all of its optional clauses."""
    found = []
    for name in names():
        if name.startswith(ELSEWHERE):
            continue
        clauses = [*query(name).clauses]
        for chosen in dict.fromkeys([(), *((clause,) for clause in clauses), tuple(clauses)]):
            case = "+".join([name, *chosen]) if len(chosen) < 2 else f"{name}+all"
            found.append(pytest.param(name, chosen, id=case))
    return found


def parameters(file: Query, chosen: tuple[str, ...]) -> dict[str, object]:
    """Return the sample parameters of a file, those optional ones only that were chosen."""
    sample = SAMPLES[file.name]
    if file.name == "release/create" and not chosen:
        chosen = ("artifacts",)  # Without either there is nothing to release.
    given = file.required.union(chosen, *(file.clauses[clause] for clause in chosen))
    return {name: sample[name] for name in given}


@pytest.fixture
def _holder(connection: Connection) -> None:
    """Another session that holds a lock as the schema's only migrator."""
    lock = Step(query("migration/lock"), SAMPLES["migration/holder"])
    psycopg.RawCursor(connection).execute(*lock.rendered())


def test_every_file_has_sample_parameters() -> None:
    assert {name: {*sample} for name, sample in SAMPLES.items()} == {
        name: {*query(name).types} for name in names()
    }


@pytest.mark.usefixtures("_holder")
@pytest.mark.parametrize(("name", "chosen"), cases())
def test_a_file_gives_the_same_in_psql(
    name: str,
    chosen: tuple[str, ...],
    postgres: Postgres,
    filled: str,
    schema: str,
    tmp_path: Path,
) -> None:
    file, given = query(name), parameters(query(name), chosen)
    if given.get("schema") is STORES:
        given["schema"] = schema
    search_path = f"{schema} 2" if name == "migration/create_schema" else schema
    both = Both(postgres, filled, schema, search_path, tmp_path)
    if name in CONTROL:
        files = [query(other).path for other in (*CONTROL[name], name)]
        assert both.psql(*chain.from_iterable(("-f", str(path)) for path in files)) == ""
        return
    before = BEFORE.get(name, ())
    library, psql = both.by_library(file, given, before), both.by_psql(file, given, before)
    if name in ("migration/pid", "migration/held", "store/position"):
        # Of which each session has its own, or which what each writes moves on.
        library, psql = replace(library, rows=library.rows[:0]), replace(psql, rows=psql.rows[:0])
        assert psql == library
        return
    if name == "migration/blockers":
        # What has no role is the server's own, an autovacuum for instance, which comes and goes.
        library, psql = (
            replace(one, rows=[row for row in one.rows if row[2]]) for one in (library, psql)
        )
    assert psql == library
    assert bool(library.rows) is (name not in WITHOUT_ROWS)


@pytest.mark.any_server
@pytest.mark.parametrize(
    ("name", "table", "rows"),
    [
        ("environment/intern_variables", "environment_envvar", 1),
        ("job/insert", "job", 1),
        ("job/insert_inputs", "job_input_artifacts", 1),
        ("job/insert_outputs", "artifact", 1),
        ("job/insert_all", "job", 2),
        ("job/delete_chunks", "job_log_chunk", -1),
        ("job/insert_chunk", "job_log_chunk", 1),
        ("submit/create", "submit", 1),
        ("artifact/register", "artifact", 1),
        ("migration/mark", "_yoyo_migration", 1),
        ("migration/log", "_yoyo_log", 1),
        ("envvar/intern", "envvar", 3),
    ],
)
def test_the_state_compared_shows_what_a_file_writes(
    name: str,
    table: str,
    rows: int,
    postgres: Postgres,
    filled: str,
    schema: str,
    tmp_path: Path,
) -> None:
    """Or else the comparison would be of two states that never change."""
    both = Both(postgres, filled, schema, schema, tmp_path)
    before = both.by_library(query("job/get"), SAMPLES["job/get"]).state
    after = both.by_psql(query(name), parameters(query(name), ()), BEFORE.get(name, ())).state
    tables = [row[0] for row in after], [row[0] for row in before]
    assert tables[0].count(table) - tables[1].count(table) == rows


def test_a_file_that_fails_ends_psql(
    postgres: Postgres, dsn: str, schema: str, tmp_path: Path
) -> None:
    both = Both(postgres, dsn, schema, schema, tmp_path)
    with pytest.raises(AssertionError, match="invalid input syntax for type uuid"):
        both.psql("-v", "job=none", "-f", str(query("job/get").path))
