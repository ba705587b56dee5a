"""Every query file runs unchanged in psql, and gives what the library gets from it.

Both run a file on the same state, each in a transaction that is undone. What is compared are
column names, the rows as text, and then what every table holds.
"""

from collections.abc import Mapping
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from conftest import Postgres
from doors import Both, Connection
from filled import (
    DONE,
    ENV,
    FILE,
    LAST,
    LIBRARY,
    MADE,
    NEW,
    NEXT,
    ODD,
    PROGRAM,
    REPORTS,
    RUNNING,
    SOURCE,
    STARTED,
    SUBMIT,
)
from samples import HASH, TIME, buildplan, create, ended, finish, sha256, start, tree
from yoyo.migrations import get_migration_hash

from butido_store import Statement, artifact, job, release, submit
from butido_store._check import json_text
from butido_store._query import Query, names, query
from butido_store.artifact import Output

# Stands for the name of the schema that the tests run in.
STORES = "the store's"
# Parameters of every file, its optional ones too, such that each choice of them finds rows.
# Where the library has a function for it, it is asked what it would send.
SAMPLES: dict[str, Mapping[str, object]] = {
    "artifact/get": artifact.get(PROGRAM).parameters,
    "artifact/register": artifact.register(ODD, sha256=sha256(""), size=0, uuid=NEW).parameters,
    "artifact/reusable": artifact.reusable(
        package="zlib",
        version="1.3",
        image="debian:12",
        script=ODD,
        env=ENV,
        inputs=[FILE[:2], ("lib/libz.a", sha256("libz.a"))],
    ).parameters,
    "endpoint/intern": {"names": [ODD, "b", "a", "builder-1"]},
    "envvar/intern": {"names": ["b", "a", "ODD", "LANG"], "values": [ODD, "", ODD, ODD]},
    "environment/intern": {
        "environments": [json_text({"ODD": ODD}), "{}", '{"UNKNOWN": ""}', json_text(ENV)]
    },
    "git_hash/intern": {"hashes": [sha256("b").hex(), sha256("a").hex(), HASH]},
    "image/intern": {"names": [ODD, "b", "a", "debian:12"]},
    "job/append_log": job.append_log(RUNNING, seq=1, data=ODD + "\0").parameters,
    "job/env": job.env(DONE).parameters,
    "job/finish": finish(
        RUNNING,
        state="error",
        outputs=[Output("b", sha256("b"), 1, MADE), Output(ODD, sha256("a"), 2**62, NEW)],
    ).parameters,
    "job/get": job.get(DONE).parameters,
    "job/heartbeat": job.heartbeat(RUNNING).parameters,
    "job/inputs": job.inputs(NEXT).parameters,
    "job/log": job.log(RUNNING).parameters,
    "job/log_after": job.log_after(RUNNING, after=0, characters=3).parameters,
    "job/outputs": job.outputs(NEXT).parameters,
    "job/record": job.record(
        ended(
            NEW,
            SUBMIT,
            inputs=[SOURCE],
            env=ENV,
            log=b"\xff" + ODD.encode(),
            container_hash=ODD,
            outputs=[Output(ODD, sha256(""), 0, MADE)],
        )
    ).parameters,
    "job/record_all": job.record_all(
        [
            ended(
                NEW,
                SUBMIT,
                inputs=[SOURCE],
                env=ENV,
                log=ODD,
                outputs=[Output(ODD, sha256(""), 0, MADE)],
            ),
            ended(
                LAST,
                SUBMIT,
                state="error",
                inputs=[MADE],
                env=ENV,
                log=b"\xff",
                container_hash=ODD,
            ),
        ]
    ).parameters,
    "job/script": job.script(NEXT).parameters,
    "job/set_container": job.set_container(RUNNING, ODD).parameters,
    "job/start": start(NEW, SUBMIT, container_hash=ODD, **STARTED).parameters,
    "job/sweep": job.sweep(
        silent_for=timedelta(minutes=30), endpoint="builder-1", limit=1
    ).parameters,
    "migration/applied": {},
    "migration/create_schema": {},
    "migration/holder": {"schema": "of another session"},
    "migration/lock": {"schema": ODD},
    "migration/mark": {
        "hash": "5e1f",
        "id": "9999.sample",
        "sha256": sha256(""),
        "phase": "pre",
        "duration": timedelta(seconds=1.5),
        "hostname": ODD,
    },
    "migration/session": {"schema": STORES},
    "migration/set": {"search_path": "pg_temp", "lock_timeout": "5s", "statement_timeout": "0"},
    "migration/unlock": {"schema": ODD},
    "migration/unmark": {
        "hash": get_migration_hash("0001.initial"),
        "id": "0001.initial",
        "hostname": ODD,
    },
    "package/intern": {"names": ["b", "a", "zlib"], "versions": [ODD, "1", ODD]},
    "release/create": {
        **release.create(
            NEW, store="stable", timestamp=TIME, actor=ODD, artifacts=[PROGRAM, SOURCE]
        ).parameters,
        "submit": SUBMIT,
    },
    "release/withdraw": release.withdraw(
        store="stable", artifact=LIBRARY, timestamp=TIME, actor=ODD, reason=ODD
    ).parameters,
    "release_store/intern": {"names": [ODD, "b", "a", "stable"]},
    **{f"report/{name}": sample for name, sample in REPORTS.items()},
    "store/begin": {},
    "store/commit": {},
    "store/missing": {
        "environments": ["{}", json_text({"LANG": "C.UTF-8", "ODD": ODD}), '{"ODD": ""}'],
        "package_names": ["zlib", ODD],
        "package_versions": ["1.3", "1"],
        "images": ["debian:12", ODD],
        "endpoints": [ODD],
        "hashes": [HASH, sha256("").hex()],
        "release_stores": ["stable", ODD],
    },
    "store/open": {"schema": STORES},
    "store/resolve": {"first": UUID(int=0), "last": SOURCE, "kind": "job"},
    "store/rollback": {},
    "submit/create": create(
        NEW,
        env=ENV,
        tree=tree("zlib", ODD.replace("\t", "")),
        buildplan=buildplan(NEW),
    ).parameters,
    "submit/env": submit.env(SUBMIT).parameters,
    "submit/get": submit.get(SUBMIT).parameters,
}

CONTROL = ("store/begin", "store/commit", "store/rollback")
WITHOUT_ROWS = (*CONTROL, "migration/create_schema")


def cases() -> list[Any]:
    """Return each file but the reports with none, each and all of its optional clauses."""
    found = []
    for name in names():
        if name.startswith("report/"):
            continue  # test_report.py goes through all of their doors.
        clauses = [*query(name).clauses]
        for chosen in dict.fromkeys([(), *((clause,) for clause in clauses), tuple(clauses)]):
            case = "+".join([name, *chosen]) if len(chosen) < 2 else f"{name}+all"
            found.append(pytest.param(name, chosen, id=case))
    return found


def parameters(file: Query, chosen: tuple[str, ...]) -> dict[str, object]:
    """Return the sample parameters of a file, those optional ones only that were chosen."""
    sample = SAMPLES[file.name]
    given = file.required.union(chosen, *(file.clauses[clause] for clause in chosen))
    return {name: sample[name] for name in given}


@pytest.fixture
def _holder(connection: Connection) -> None:
    """Another session that holds a lock as the schema's only migrator."""
    statement = Statement(query("migration/lock"), SAMPLES["migration/holder"], list)
    psycopg.RawCursor(connection).execute(*statement.rendered())


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
        others = ["store/begin"] if name != "store/begin" else []
        files = [query(other).path for other in (*others, name)]
        assert both.psql(*chain.from_iterable(("-f", str(path)) for path in files)) == ""
        return
    library = both.by_library(file, given)
    assert both.by_psql(file, given) == library
    assert bool(library.rows) is (name not in WITHOUT_ROWS)


@pytest.mark.parametrize(
    ("name", "table", "rows"),
    [
        ("job/start", "job", 1),
        ("environment/intern", "environment_envvar", 1),
        ("job/record", "job", 1),
        ("job/record_all", "job", 2),
        ("job/finish", "artifact", 2),
        ("job/append_log", "job_log_chunk", 1),
        ("submit/create", "submit", 1),
        ("artifact/register", "artifact", 1),
        ("migration/mark", "_yoyo_migration", 1),
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
    after = both.by_psql(query(name), parameters(query(name), ())).state
    tables = [row[0] for row in after], [row[0] for row in before]
    assert tables[0].count(table) - tables[1].count(table) == rows


def test_a_file_that_fails_ends_psql(
    postgres: Postgres, dsn: str, schema: str, tmp_path: Path
) -> None:
    both = Both(postgres, dsn, schema, schema, tmp_path)
    with pytest.raises(AssertionError, match="invalid input syntax for type uuid"):
        both.psql("-v", "job=none", "-f", str(query("job/get").path))
