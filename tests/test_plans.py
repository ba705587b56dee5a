"""No query reads all of a large table, at a size where the planner has reason to use an index."""

import os
import re
from collections.abc import Iterator
from datetime import date
from typing import Any

import psycopg
import pytest
from conftest import Postgres
from filled import REPORTS
from generate import generate
from listings import Case, cases, nodes, scans
from psycopg import sql
from stores import windows
from test_psql import CONTROL, SAMPLES, WITHOUT_ROWS, parameters

from butido_store._query import names, query
from butido_store._statement import Step
from butido_store.admin.migrate import Migrator

JOBS = 20_000
# What is asked of all jobs, where no time or name bounds it.
OF_ALL = {
    "report/measurements": {"job"},
    "report/savings": {"job"},
    "migration/count": {"artifact", "job", "submit"},
}
# They join what a walk is expected to give, thousands: for so many, all of this table is cheap.
JOIN_THOUSANDS = ("report/impact", "report/provenance")

EACH_BUILD = (
    "artifact/register",
    "artifact/registered",
    "artifact/reusable",
    "job/delete_chunks",
    "job/end",
    "job/heartbeat",
    "job/insert",
    "job/insert_all",
    "job/insert_chunk",
    "job/insert_inputs",
    "job/insert_outputs",
    "job/lock",
    "submit/create",
)

# Each listing with those filters that it is planned anew for: of a time the planner knows how many
# rows come after it, so that it takes a plan for the one it is given for the cheaper.
LISTINGS: dict[str, set[str]] = {
    "report/artifacts": set(),
    "report/envvars": set(),
    # The server plans a page of what a submit ran and reused each time.
    "report/jobs": {"newer_than", "of_submit"},
    "report/packages": set(),
    "report/submits": {"newer_than", "older_than"},
}


@pytest.fixture(scope="module")
def cursor(postgres: Postgres, schema: str) -> Iterator[psycopg.RawCursor[tuple[object, ...]]]:
    """A session on a database with generated jobs."""
    # The workers of a run share the server.
    name = f"plans_{os.environ.get('PYTEST_XDIST_WORKER', '')}"
    host, user = postgres.host, postgres.user
    with psycopg.connect(host=host, user=user, dbname="postgres", autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        with psycopg.connect(host=host, user=user, dbname=name, autocommit=True) as connection:
            Migrator(connection, schema=schema).apply()
            generate(connection.info.dsn, schema=schema, jobs=JOBS, until=date(2026, 1, 1))
            connection.execute("SELECT set_config('search_path', quote_ident(%s), false)", [schema])
            yield psycopg.RawCursor(connection)
        admin.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))


@pytest.fixture(scope="module")
def every(cursor: psycopg.RawCursor[tuple[object, ...]]) -> list[Case]:
    """The listings, each with values that many jobs have, few, old ones, and none."""
    return cases(cursor)


def test_no_listing_reads_all_of_a_large_table(
    cursor: psycopg.RawCursor[tuple[object, ...]], every: list[Case]
) -> None:
    assert {case.report for case in every} <= REPORTS.keys()
    assert len(every) > 60
    assert {str(case): found for case in every if (found := scans(cursor, *case.statement))} == {}


def test_what_few_jobs_have_is_not_looked_for_among_all_by_time(
    cursor: psycopg.RawCursor[tuple[object, ...]], every: list[Case]
) -> None:
    """A walk back through all jobs ends soon only where many have it."""
    by_time = {
        str(case)
        for case in every
        if case.report == "jobs" and case.filter in ("of_submit", "package", "image", "endpoint")
        for node in nodes(cursor, *case.statement)
        if node.get("Index Name") == "job_started_at_idx"
    }
    assert by_time == set()


@pytest.mark.parametrize(
    ("report", "index", "time"),
    [
        ("jobs", "job_started_at_idx", "started_at"),
        ("submits", "submit_timestamp_idx", "timestamp"),
    ],
)
def test_a_page_begins_in_the_index_where_the_one_before_ended(
    report: str,
    index: str,
    time: str,
    cursor: psycopg.RawCursor[tuple[object, ...]],
    every: list[Case],
) -> None:
    (case,) = (c for c in every if (c.report, c.filter) == (report, "before"))
    conditions = [
        condition(node)
        for node in nodes(cursor, *case.statement)
        if node.get("Index Name") == index
    ]
    assert len(conditions) == 1
    assert conditions[0].startswith(f"({time} <= ")


@pytest.mark.parametrize("name", [name for name in names() if name not in WITHOUT_ROWS])
def test_no_query_file_reads_all_of_a_large_table(
    name: str, cursor: psycopg.RawCursor[tuple[object, ...]], schema: str
) -> None:
    """With the sample parameters that each has to have: none, each and all of its optional ones."""
    assert name in SAMPLES, "a query file has sample parameters"
    file = query(name)
    clauses = [*file.clauses]
    found: set[str] = set()
    # A page at a time, where there are pages: all of a listing is all of its table.
    page = tuple(clause for clause in clauses if clause == "limit")
    # As on a disk without moving parts, of which a table of 20,000 rows has little.
    cursor.execute("SET random_page_cost = 1.1")
    cursor.execute(f"SET enable_hashjoin = {name not in JOIN_THOUSANDS}")
    cursor.execute(f"SET enable_mergejoin = {name not in JOIN_THOUSANDS}")
    for chosen in [page, *((clause, *page) for clause in clauses), tuple(clauses)]:
        given = parameters(file, chosen)
        if "schema" in given:
            given["schema"] = schema
        found |= scans(cursor, *file.render(frozenset(given)).bind(given))
    assert found <= OF_ALL.get(name, set())


@pytest.mark.parametrize("what", ["log", "record", "submit"])
def test_a_batch_of_a_prune_reads_all_of_no_large_table(
    what: str, cursor: psycopg.RawCursor[tuple[object, ...]]
) -> None:
    given = {"width": 1000, "limit": 100}
    cursor.execute("SET random_page_cost = 1.1")
    cursor.execute("BEGIN")
    cursor.execute(
        "INSERT INTO retention_rule (position, what, package, older_than, keep_newest)"
        " VALUES (1, 'log', '%', '1 day', 3), (2, 'record', '%', '1 day', 3)"
    )
    cursor.execute(*query("retention/begin").render(frozenset({"what"})).bind({"what": what}))
    found = scans(cursor, *query(f"retention/remove_{what}s").render(frozenset(given)).bind(given))
    cursor.execute("ROLLBACK")
    assert found == set()


def test_what_few_jobs_said_at_their_end_is_found_without_reading_all(
    cursor: psycopg.RawCursor[tuple[object, ...]],
) -> None:
    said = {
        "reason": "timeout",
        "env": "RARE=yes",
        "package": "rare-package",
        "image": "rare-image:1",
        "newer_than": "2025-12-30T00:00:00Z",
    }
    cursor.execute("BEGIN")
    cursor.execute(
        'UPDATE job SET measurements = \'{"a": 1, "b": 2}\','
        " reason = CASE WHEN uuid_hash(uuid) % 1000 = 0 THEN 'timeout' ELSE 'other' END"
        " WHERE state <> 'running'"
    )
    cursor.execute("ANALYZE job")
    found = {}
    for report, *filters in (
        ("jobs", "reason"),
        ("jobs", "reason", "env"),
        ("measurements", "package"),
        ("measurements", "image"),
        ("measurements", "newer_than"),
    ):
        given: dict[str, object] = {"limit": 50, **{name: said[name] for name in filters}}
        asked = query(f"report/{report}").render(frozenset(given)).bind(given)
        found[report, *filters] = nodes(cursor, *asked)
    cursor.execute("ROLLBACK")
    for (_, *filters), plan in found.items():
        read = {n["Relation Name"] for n in plan if n["Node Type"] == "Seq Scan"}
        indexes = {n.get("Index Name") for n in plan}
        assert "job" not in read, filters
        assert "job_started_at_idx" not in indexes or filters == ["newer_than"], filters
        assert "job_left_started_at_idx" in indexes or "reason" not in filters, filters


# What finds one row, or the few that belong to one, in a table that grows.
NARROW = re.compile(
    r"\b(artifact_uuid|environment_id|fingerprint|hash|id|job_uuid|name|path_sha256|sha256"
    r"|submit_uuid|swept_by|uuid)\b (=|<|>)|state = 'running'"
)
FEW_ROWS = ("endpoint", "image", "release_store")
# These go on from one row to the next, of all that there are.
WALKS = ("job/refresh_failures", "retention/", "migration/", "doctor/", "drift/", "report/")


def condition(node: dict[str, Any]) -> str:
    """Return by what a node finds its rows in an index, without quotes and casts of columns."""
    found = str(node.get("Index Cond", node.get("Recheck Cond", "")))
    return re.sub(r"\((\w+)\)::[a-z]+( with time zone)?", r"\1", found.replace('"', ""))


def read_whole(
    cursor: psycopg.RawCursor[tuple[object, ...]], name: str, chosen: tuple[str, ...], schema: str
) -> set[str]:
    """Return the tables of which a file's plan, one for all values, reads much."""
    file = query(name)
    given = parameters(file, chosen)
    if "schema" in given:
        given["schema"] = schema
    text, values = file.render(frozenset(given)).bind(given)
    cursor.execute(b"PREPARE kept AS " + text)
    arguments = ", ".join(["NULL"] * len(values))
    found = nodes(cursor, f"EXECUTE kept{f'({arguments})' if values else ''}".encode(), [])
    cursor.execute("DEALLOCATE kept")
    return {
        str(node["Relation Name"])
        for node in found
        if "Relation Name" in node and node["Node Type"] != "ModifyTable"
        if not str(node["Relation Name"]).startswith(("pg_", *FEW_ROWS))
        if not NARROW.search(condition(node))
    }


def test_what_builds_run_reads_no_table_whole_though_it_was_empty_when_that_was_planned(
    clone_dsn: str, schema: str
) -> None:
    """A session keeps its plans while the tables grow, until the server has counted their rows."""
    with (
        psycopg.connect(clone_dsn, autocommit=True) as connection,
        psycopg.RawCursor(connection) as cursor,
    ):
        connection.execute("SELECT set_config('search_path', quote_ident(%s), false)", [schema])
        connection.execute("SET plan_cache_mode = force_generic_plan")
        cases = [
            (name, chosen)
            for name in names()
            if name not in CONTROL and not name.startswith(WALKS)
            for clauses in [tuple(query(name).clauses)]
            for chosen in dict.fromkeys(((), *((one,) for one in clauses), clauses))
        ]
        assert {case: found for case in cases if (found := read_whole(cursor, *case, schema))} == {}


def plans(
    cursor: psycopg.RawCursor[tuple[object, ...]], name: str, given: dict[str, object]
) -> tuple[object, ...]:
    """Run a file twelve times, and return how many plans were made for one, and how many kept."""
    sql, values = query(name).render(frozenset(given)).bind(given)
    cursor.execute("BEGIN")
    for _ in range(12):
        cursor.execute(sql, values, prepare=True)
    cursor.execute(
        "SELECT custom_plans, generic_plans FROM pg_prepared_statements WHERE statement = $1",
        [sql.decode()],
    )
    (found,) = cursor.fetchall()
    cursor.execute("ROLLBACK")
    return found


@pytest.mark.parametrize("name", EACH_BUILD)
def test_the_plan_of_what_each_build_runs_is_kept(
    name: str, cursor: psycopg.RawCursor[tuple[object, ...]]
) -> None:
    """To plan it again takes longer than to run it; five times the server tries what that saves."""
    file = query(name)
    assert plans(cursor, name, parameters(file, tuple(file.clauses))) == (5, 7)


def shape(
    cursor: psycopg.RawCursor[tuple[object, ...]], name: str, chosen: tuple[str, ...], schema: str
) -> list[tuple[object, ...]]:
    """Return what a file's plan reads, and how."""
    file = query(name)
    given = parameters(file, chosen)
    if "schema" in given:
        given["schema"] = schema
    return [
        tuple(node.get(key) for key in ("Node Type", "Relation Name", "Index Name"))
        for node in nodes(cursor, *file.render(frozenset(given)).bind(given))
    ]


def test_row_level_security_changes_no_plan(
    cursor: psycopg.RawCursor[tuple[object, ...]], schema: str
) -> None:
    """Statistics are kept from operators that may tell of rows that a policy hides."""
    cases = [
        (name, chosen)
        for name in names()
        if name not in WITHOUT_ROWS and not name.startswith("migration/")
        for chosen in dict.fromkeys(((), *((one,) for one in query(name).clauses)))
    ]
    plain = [shape(cursor, name, chosen, schema) for name, chosen in cases]
    cursor.execute("BEGIN")
    cursor.execute("CREATE ROLE bound_by_policies")
    for what in ("SCHEMA", "ALL TABLES IN SCHEMA"):
        grant = sql.SQL(f"GRANT ALL ON {what} {{}} TO bound_by_policies")
        cursor.execute(grant.format(sql.Identifier(schema)).as_bytes())
    cursor.execute("SET LOCAL ROLE bound_by_policies")
    bound = [shape(cursor, name, chosen, schema) for name, chosen in cases]
    cursor.execute("ROLLBACK")
    differing = [
        (case, one, other)
        for case, one, other in zip(cases, plain, bound, strict=True)
        if one != other
    ]
    # How many rows they have is guessed then, so that they may be joined another way.
    assert {name for (name, _), *_ in differing} <= {"report/failures", "report/jobs"}
    for case, one, other in differing:
        full = [{node for node in plan if node[0] == "Seq Scan"} for plan in (one, other)]
        assert full[0] == full[1], case


@pytest.mark.parametrize("name", LISTINGS)
def test_the_plan_of_a_page_is_kept(
    name: str, cursor: psycopg.RawCursor[tuple[object, ...]]
) -> None:
    file = query(name)
    planned_anew = set()
    for clause in file.clauses.keys() - {"limit"}:
        given = parameters(file, (clause, "limit")) | {"limit": 50}
        if clause == "before":
            # One that is there.
            ((given[clause], *_),) = cursor.execute(*Step(file, {"limit": 1}).rendered()).fetchall()
        # A text without parameters has a plan that is kept from the first run on.
        if plans(cursor, name, given) not in ((5, 7), (0, 12)):
            planned_anew.add(clause)
    assert planned_anew <= LISTINGS[name]


@pytest.mark.parametrize(
    ("given", "index"),
    [
        ({"actor": "jane"}, "submit_actor_timestamp_idx"),
        ({"label": ["ci=nightly", "release=7"]}, "submit_labels_idx"),
    ],
)
def test_what_is_said_of_few_submits_is_found_by_its_index(
    given: dict[str, object], index: str, cursor: psycopg.RawCursor[tuple[object, ...]]
) -> None:
    """The indexes are partial: a condition that does not imply theirs would read all submits."""
    cursor.execute("BEGIN")
    cursor.execute(
        'UPDATE submit SET actor = \'jane\', labels = \'{"ci": "nightly", "release": "7"}\''
        " WHERE uuid IN (SELECT s.uuid FROM submit AS s ORDER BY s.uuid LIMIT 3)"
    )
    cursor.execute("ANALYZE submit")
    asked = query("report/submits").render(frozenset({*given, "limit"}))
    found = {node.get("Index Name") for node in nodes(cursor, *asked.bind({**given, "limit": 50}))}
    cursor.execute("ROLLBACK")
    assert index in found


def rows_read(
    cursor: psycopg.RawCursor[tuple[object, ...]],
    table: str,
    asked: tuple[bytes, list[object]],
    mode: str,
) -> float:
    """Return how many rows of a table, or entries of its indexes, a question reads.

    :param cursor: of a session whose search path is the store's
    :param table: the table
    :param asked: the text and its parameters
    :param mode: whether the plan is made for these values (custom) or for any (generic)
    """
    cursor.execute("BEGIN")
    cursor.execute(f"SET LOCAL plan_cache_mode = force_{mode}_plan".encode())
    cursor.execute(*asked, prepare=True)
    cursor.execute(
        "SELECT name FROM pg_prepared_statements WHERE statement = $1", [asked[0].decode()]
    )
    ((name,),) = cursor.fetchall()
    values = sql.SQL(", ").join(map(sql.Literal, asked[1]))
    execute = sql.SQL("EXECUTE {}({})" if asked[1] else "EXECUTE {}")
    run = execute.format(sql.Identifier(str(name)), values).as_bytes(cursor)
    found = nodes(cursor, run, [], analyze=True)
    cursor.execute("ROLLBACK")
    read = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
    indexes = {str(node.get("Index Name")) for node in found}
    cursor.execute(
        "SELECT i.relname FROM pg_class AS i JOIN pg_index AS x ON x.indexrelid = i.oid"
        " WHERE x.indrelid = to_regclass($1) AND i.relname = ANY($2)",
        [table, list(indexes)],
    )
    own = {str(index) for (index,) in cursor.fetchall()}
    return sum(
        float(str(node["Actual Loops"])) * sum(float(str(node.get(key, 0))) for key in read)
        for node in found
        if node.get("Relation Name") == table or node.get("Index Name") in own
    )


@pytest.mark.parametrize("mode", ["custom", "generic"])
@pytest.mark.parametrize("name", ["failures", "irreproducible", "reused", "savings"])
def test_a_report_on_a_package_reads_no_more_than_its_window(
    name: str, mode: str, cursor: psycopg.RawCursor[tuple[object, ...]], every: list[Case]
) -> None:
    (common,) = (c for c in every if (c.report, c.filter, c.kind) == ("jobs", "package", "common"))
    assert common.uses
    assert common.uses > 700
    given = {"package": common.value, "limit": 50}
    with windows(name, {10_000: 10, 5_000: 10, 1_000: 10}):
        asked = query(f"report/{name}").render(frozenset(given)).bind(given)
        read = sum(rows_read(cursor, table, asked, mode) for table in ("job", "reuse"))
    # Ten of each version and of all, then what is shown of them.
    assert read < 250


@pytest.mark.parametrize("mode", ["custom", "generic"])
@pytest.mark.parametrize("kind", ["common", "rare", "old", "unknown"])
def test_a_page_of_a_version_is_not_looked_for_among_all_jobs(
    kind: str, mode: str, cursor: psycopg.RawCursor[tuple[object, ...]], every: list[Case]
) -> None:
    (case,) = (c for c in every if (c.report, c.filter, c.kind) == ("jobs", "version", kind))
    # The newest thousand, counted and looked at, and a page of some packages.
    assert rows_read(cursor, "job", case.statement, mode) < 4_000


def test_a_rule_that_keeps_none_of_the_newest_jobs_counts_none(
    cursor: psycopg.RawCursor[tuple[object, ...]], every: list[Case]
) -> None:
    (common,) = (c for c in every if (c.report, c.filter, c.kind) == ("jobs", "package", "common"))
    cursor.execute(
        "SELECT j.uuid FROM job AS j JOIN package AS p ON p.id = j.package_id"
        " WHERE p.name = $1 ORDER BY j.started_at, j.uuid LIMIT 1",
        [common.value],
    )
    (oldest,) = cursor.fetchone() or ()
    cursor.execute("BEGIN")
    cursor.execute(
        "INSERT INTO retention_rule (position, what, package, older_than)"
        " VALUES (1, 'record', '%', '1 day')"
    )
    asked = b"SELECT v.stays FROM retention_job AS v WHERE v.what = 'record' AND v.job_uuid = $1"
    assert rows_read(cursor, "job", (asked, [oldest]), "custom") == 1


def test_a_plan_that_does_is_found(
    cursor: psycopg.RawCursor[tuple[object, ...]], every: list[Case]
) -> None:
    (case,) = (c for c in every if (c.report, c.filter, c.kind) == ("jobs", "state", "rare"))
    cursor.execute("BEGIN")
    cursor.execute("DROP INDEX job_state_started_at_idx, job_started_at_idx")
    assert scans(cursor, *case.statement) == {"job"}
    cursor.execute("ROLLBACK")
