"""Each role of schema/roles.sql does what it is there for, and is refused all else."""

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from conftest import Postgres
from filled import DONE, LIBRARY, NEXT, REPORTS, RUNNING, STATEMENTS, SUBMIT, WRITTEN
from psycopg import sql
from psycopg.conninfo import make_conninfo
from samples import TIME, create, ended, finish, start
from shell import Run

from butido_store import Statement, Store, job, open_schema, release, report, uuid7
from butido_store._query import directory
from butido_store.admin import retention
from butido_store.admin.migrate import Migrator
from butido_store.errors import MigrationError, PermissionDenied

Connection = psycopg.Connection[tuple[object, ...]]

ROLES = ("owner", "builder", "janitor", "reader")
# What the builder leaves to the janitor: what is released is for people to say, and what has ended.
JANITORS = ("job/refresh_failures", "release/withdraw")
SWEEP = "job/sweep"


@dataclass(frozen=True)
class Granted:
    """A database on which `schema/roles.sql` was run, and how to be each of its roles."""

    dsn: str
    schema: str
    names: dict[str, str]
    psql: str

    @property
    def script(self) -> list[str]:
        """Arguments of psql that run the script for these roles."""
        given = {**self.names, "schema": self.schema}
        variables = (part for name, value in given.items() for part in ("-v", f"{name}={value}"))
        return [*variables, "-f", str(directory("schema") / "roles.sql")]

    def run(self, *arguments: str, dsn: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run psql; by default the script, as the superuser."""
        command = [self.psql, "-Xq", dsn or self.dsn, *(arguments or self.script)]
        environment = {**os.environ, "PGCLIENTENCODING": "UTF8"}
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    def done(self, *arguments: str, dsn: str | None = None) -> None:
        """Run psql as `run` does; it succeeds and says nothing."""
        found = self.run(*arguments, dsn=dsn)
        assert (found.returncode, found.stdout, found.stderr) == (0, "", "")

    def login(self, role: str) -> str:
        """Return a DSN of a user who was granted a role."""
        return make_conninfo(self.dsn, user=f"{self.names[role]} login")

    def connect(self, role: str | None = None) -> Connection:
        """Connect as a user who was granted a role, by default as the superuser."""
        dsn = self.login(role) if role else self.dsn
        connection = psycopg.connect(dsn, autocommit=True)
        connection.execute(
            "SELECT set_config('search_path', quote_ident(%s), false)", [self.schema]
        )
        return connection


@pytest.fixture(scope="module")
def empty(postgres: Postgres, schema: str) -> Iterator[Callable[[], Granted]]:
    """Make databases without a store, and names of roles for each, some of which want quoting."""
    made: list[Granted] = []
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    server = make_conninfo(host=postgres.host, port=postgres.port, user=postgres.user)
    admin = psycopg.connect(make_conninfo(server, dbname="postgres"), autocommit=True)

    def make() -> Granted:
        name = f"roles_{worker}_{len(made)}"
        names = {role: f"{role} '{name}\"" for role in ROLES}
        dsn = make_conninfo(server, dbname=name)
        made.append(Granted(dsn, schema, names, postgres.psql))
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return made[-1]

    yield make
    for one in made:
        database = str(psycopg.conninfo.conninfo_to_dict(one.dsn)["dbname"])
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database)))
        for role in one.names.values():
            for each in (f"{role} login", role):
                admin.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(each)))
    admin.close()


def with_logins(granted: Granted) -> Granted:
    """Make a user for each role."""
    with granted.connect() as connection:
        for role in granted.names.values():
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN IN ROLE {}").format(
                    sql.Identifier(f"{role} login"), sql.Identifier(role)
                )
            )
    return granted


@pytest.fixture(scope="module")
def granted(empty: Callable[[], Granted]) -> Granted:
    """A filled database to which the script was applied after it was migrated by a superuser."""
    granted = empty()
    with psycopg.connect(granted.dsn, autocommit=True) as connection:
        Migrator(connection, schema=granted.schema).apply()
    granted.done()
    with_logins(granted)
    with Store.connect(granted.dsn, schema=granted.schema) as store, granted.connect() as admin:
        store.run(*WRITTEN)
        admin.execute(
            "UPDATE job SET heartbeat_at = %s WHERE state = 'running'", [TIME - timedelta(9)]
        )
    return granted


@pytest.fixture
def undone(granted: Granted) -> Callable[..., object]:
    """Run a statement as a role, and undo it."""

    def run(role: str, statement: Statement[object]) -> object:
        with psycopg.connect(granted.login(role), autocommit=True) as connection:
            open_schema(connection, granted.schema)
            with connection.transaction(force_rollback=True):
                return Store(connection).run(statement)

    return run


WRITES = [one for one in STATEMENTS if one.writes] + [
    create(uuid7(), package="new", env={"NEW": ""}, repo_hash="a" * 40, image="new"),
    start(uuid7(), SUBMIT, endpoint="new", inputs=[LIBRARY]),
    job.record(ended(uuid7(), SUBMIT)),
    release.create(uuid7(), store="new", timestamp=TIME, actor="a", artifacts=[LIBRARY]),
]


@pytest.mark.parametrize("statement", WRITES, ids=repr)
def test_each_write_runs_as_the_role_that_it_is_for_and_not_as_a_reader(
    statement: Statement[object], undone: Callable[..., object]
) -> None:
    files = {step.query.name for step in statement.steps}
    roles = {"janitor"} if files & {*JANITORS} else {"builder"}
    roles |= {"janitor"} if SWEEP in files else set()
    for role in ("builder", "janitor", "reader"):
        if role in roles:
            found = undone(role, statement)
            assert SWEEP not in files or found == [RUNNING]
        else:
            with pytest.raises(PermissionDenied, match=r"schema/roles\.sql"):
                undone(role, statement)


def test_the_life_of_a_job_is_the_builders(granted: Granted) -> None:
    one, request = uuid7(), uuid7()
    end = finish(one, "a")
    with Store.connect(granted.login("builder"), schema=granted.schema) as store:
        store.run(create(request))
        store.run(start(one, request))
        store.run(job.set_container(one, "c0ffee"))
        for seq, data in enumerate(["a\n", "b\n"]):
            store.run(job.append_log(one, seq=seq, data=data))
        assert [each.path for each in store.run(end)] == ["a"]
        with granted.connect() as admin, admin.transaction():
            # Who waits for the row of an ended job would not come back before this ends.
            admin.execute("SELECT FROM job WHERE uuid = %s FOR UPDATE", [one])
            store.run(end)
            store.run(job.append_log(one, seq=1, data="b\n"))
        assert store.run(job.log(one)) == "a\nb\n"


@pytest.mark.parametrize("role", ["builder", "janitor", "reader"])
def test_every_report_says_the_same_to_each_role(role: str, granted: Granted) -> None:
    with (
        Store.connect(granted.dsn, schema=granted.schema) as superuser,
        Store.connect(granted.login(role), schema=granted.schema) as store,
    ):
        for name, values in REPORTS.items():
            given = {key: value for key, value in values.items() if key != "limit"}
            one = getattr(report, name)(**given)
            assert store.run(one) == superuser.run(one) != [], name
        for statement in STATEMENTS:
            if not statement.writes:
                assert store.run(statement) == superuser.run(statement)


def test_metrics_estimate_for_a_reader_too(granted: Granted) -> None:
    with granted.connect() as admin, admin.transaction(force_rollback=True):
        columns = (
            "submit_uuid, endpoint_id, package_id, image_id, environment_id, state, started_at,"
            " finished_at, heartbeat_at, fingerprint, script, log, log_size"
        )
        admin.execute(
            f"INSERT INTO job (uuid, {columns}) SELECT gen_random_uuid(), {columns} FROM job"
            f" CROSS JOIN generate_series(1, 22000) WHERE uuid = '{DONE}'".encode()
        )
        admin.execute("ANALYZE job")
        admin.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(granted.names["reader"])))
        rows = Store(admin).run(report.metrics())
    (found,) = (
        row.value
        for row in rows
        if row.metric == "butido_jobs" and row.labels == {"state": "success"}
    )
    assert found == pytest.approx(22000, rel=0.02)


def test_people_read_views_and_functions(granted: Granted) -> None:
    with granted.connect("reader") as reader:
        for query in (
            "SELECT count(*) FROM job_overview",
            "SELECT count(*) FROM release_current",
            f"SELECT job_log('{DONE}')",
            f"SELECT count(*) FROM artifact_ancestors(ARRAY['{LIBRARY}']::uuid[])",
        ):
            assert reader.execute(query.encode()).fetchone() not in (None, (0,), (None,))


# What nobody may ----------------------------------------------------------------------------------


def columns(granted: Granted) -> list[tuple[str, str]]:
    """Return each column of the store's tables."""
    with granted.connect() as admin:
        return [
            (str(table), str(column))
            for table, column in admin.execute(
                "SELECT c.relname, a.attname FROM pg_class AS c"
                " JOIN pg_attribute AS a ON a.attrelid = c.oid"
                " WHERE c.relnamespace = to_regnamespace(quote_ident(%s)) AND c.relkind = 'r'"
                " AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''"
                " AND a.attidentity = '' ORDER BY 1, 2",
                [granted.schema],
            )
        ]


def touched(connection: Connection, statement: str) -> int:
    """Run a statement, undo it, and return how many rows it touched; 0 if it was refused."""
    try:
        with connection.transaction(force_rollback=True):
            return max(connection.execute(statement.encode()).rowcount, 0)
    except psycopg.errors.InsufficientPrivilege:
        return 0


def written(granted: Granted, role: str, statement: str) -> set[str]:
    """Return the tables, or columns of tables, that a role can do this to."""
    found = set()
    with granted.connect(role) as connection:
        for table, column in columns(granted):
            text = statement.format(table=f'"{table}"', column=f'"{column}"')
            if touched(connection, text):
                found.add(f"{table}.{column}" if "{column}" in statement else table)
    return found


def test_the_janitor_prunes_and_the_others_only_foretell_it(granted: Granted) -> None:
    with granted.connect() as admin, admin.transaction(force_rollback=True):
        admin.execute("UPDATE job SET started_at = started_at - interval '30 years'")
        store = Store(admin)

        def become(role: str) -> None:
            admin.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(granted.names[role])))

        become("janitor")
        admin.execute(
            "INSERT INTO retention_rule (position, what, package, older_than)"
            " VALUES (1, 'log', '%', '1 day'), (2, 'record', '%', '1 day')"
        )
        plan = retention.plan(store)
        assert min(plan.removed.logs, plan.removed.jobs, plan.removed.artifacts) > 0
        for role in ("builder", "reader"):
            become(role)
            assert retention.plan(store) == plan
            with pytest.raises(PermissionDenied, match=r"retention_walk .+schema/roles\.sql"):
                retention.prune(store)
        become("janitor")
        assert retention.prune(store) == plan.removed


def test_only_what_a_role_needs_can_be_changed(granted: Granted) -> None:
    end = {
        *("state", "finished_at", "log", "log_pieces", "log_size"),
        *("failure", "failure_rule", "swept_by"),
    }
    builders = end | {"heartbeat_at", "container_hash", "exit_code", "reason", "measurements"}
    update = "UPDATE {table} SET {column} = {column}"
    assert written(granted, "builder", update) == {f"job.{name}" for name in builders}
    # A lock takes leave to change something; a uuid that others refer to stays as it is.
    locks = {"artifact.uuid", "submit.uuid"}
    rules = {f"{table}.{column}" for table, column in columns(granted) if "retention" in table}
    assert written(granted, "janitor", update) - rules == locks | {
        f"job.{name}" for name in {*end, "started_at"}
    }
    assert written(granted, "reader", update) == set()


@pytest.mark.parametrize("state", ["success", "error"])
def test_a_builder_forges_no_ended_job(state: str, granted: Granted) -> None:
    update = f"UPDATE {{table}} SET {{column}} = {{column}} WHERE state = '{state}'"
    with granted.connect("builder") as builder:
        for table, column in columns(granted):
            if table == "job":
                text = update.format(table=table, column=column)
                assert touched(builder, text) == 0, text
        for text in (
            f"SELECT FROM job WHERE state = '{state}' FOR UPDATE",
            f"SELECT FROM job WHERE state = '{state}' FOR KEY SHARE",
            f"DELETE FROM job WHERE state = '{state}'",
            # An output, or an environment, would be forged by way of the job that has it.
            "SET row_security = off; UPDATE job SET reason = 'forged'",
            "INSERT INTO job SELECT * FROM job ON CONFLICT (uuid) DO UPDATE SET reason = 'forged'",
            f"INSERT INTO job_log_chunk VALUES ('{DONE}', 99, 'forged')",
            "ALTER TABLE job DISABLE ROW LEVEL SECURITY",
            "DROP POLICY job_update ON job",
            "ALTER POLICY job_update ON job USING (true)",
            "CREATE POLICY mine ON job USING (true)",
        ):
            assert touched(builder, text) == 0, text
        # So that the statements above can do something at all.
        assert touched(builder, "UPDATE job SET reason = 'x', state = 'lost', log_size = 0,"
                       " finished_at = now() WHERE state = 'running'") == 1  # fmt: skip


def test_a_long_log_in_chunks_is_not_the_builders_to_delete(granted: Granted) -> None:
    delete = f"DELETE FROM job_log_chunk WHERE job_uuid = '{NEXT}'"
    with granted.connect() as admin, granted.connect("builder") as builder:
        admin.execute("INSERT INTO job_log_chunk VALUES (%s, 0, 'of a long log')", [NEXT])
        try:
            assert touched(builder, delete) == 0
            assert touched(builder, f"INSERT INTO job_log_chunk VALUES ('{NEXT}', 1, 'x')") == 0
            assert touched(admin, delete) == 1
        finally:
            admin.execute(delete.encode())


def test_no_role_deletes_or_adds_what_is_not_its_own(granted: Granted) -> None:
    tables = {table for table, _ in columns(granted)}
    kept = {"release", "release_store", "release_withdrawal"}
    yoyo = {table for table in tables if table.startswith("_yoyo")}
    rules = {table for table in tables if table.startswith("retention_")}
    with granted.connect() as admin:
        for role in ROLES[1:]:
            rows = admin.execute(
                "SELECT p.privilege, c.relname FROM pg_class AS c,"
                " unnest(ARRAY['INSERT', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER'])"
                " AS p (privilege) WHERE c.relnamespace = to_regnamespace(quote_ident(%s))"
                " AND c.relkind IN ('r', 'v') AND has_table_privilege(%s, c.oid, p.privilege)",
                [granted.schema, granted.names[role]],
            ).fetchall()
            may: dict[object, set[object]] = {}
            for privilege, table in rows:
                may.setdefault(privilege, set()).add(table)
            assert (
                may
                == {
                    "builder": {
                        "INSERT": tables - yoyo - rules - {"release_withdrawal"},
                        "DELETE": {"job_log_chunk"},
                    },
                    "janitor": {
                        "INSERT": {"release_withdrawal"} | rules,
                        "DELETE": tables - yoyo - kept,
                    },
                    "reader": {},
                }[role]
            )
    for role in ROLES[1:]:
        with granted.connect(role) as connection:
            for text in (
                "CREATE TABLE mine ()",
                "DROP TABLE job",
                "LOCK TABLE release",
                "TRUNCATE reuse",
                f"SET ROLE {sql.Identifier(granted.names['owner']).as_string()}",
            ):
                with (
                    pytest.raises(psycopg.errors.InsufficientPrivilege),
                    connection.transaction(),
                ):
                    connection.execute(text.encode())


def test_what_a_janitor_deletes_is_gone(granted: Granted) -> None:
    with granted.connect("janitor") as janitor:
        for table in ("job_input_artifacts", "job_log_chunk", "reuse"):
            assert touched(janitor, f"DELETE FROM {table}") > 0, table
        with janitor.transaction(force_rollback=True):
            for table in ("job_input_artifacts", "job_log_chunk", "reuse"):
                janitor.execute(f"DELETE FROM {table}".encode())
            gone = janitor.execute(
                "DELETE FROM job AS j WHERE NOT EXISTS"
                " (SELECT FROM artifact AS a WHERE a.job_uuid = j.uuid)"
            )
            assert gone.rowcount > 1


# The script ---------------------------------------------------------------------------------------


PRIVILEGES = """
WITH acl AS (
    SELECT c.oid::regclass::text AS name, c.relowner AS owner, c.relacl AS acl
    FROM pg_class AS c
    WHERE c.relnamespace = to_regnamespace(quote_ident(%(schema)s)) AND c.relkind <> 'i'
    UNION ALL
    SELECT c.oid::regclass || '.' || a.attname, c.relowner, a.attacl
    FROM pg_class AS c
    JOIN pg_attribute AS a ON a.attrelid = c.oid
    WHERE c.relnamespace = to_regnamespace(quote_ident(%(schema)s)) AND a.attacl IS NOT NULL
    UNION ALL
    SELECT p.oid::regprocedure::text, p.proowner, p.proacl
    FROM pg_proc AS p
    WHERE p.pronamespace = to_regnamespace(quote_ident(%(schema)s))
    UNION ALL
    SELECT n.nspname, n.nspowner, n.nspacl FROM pg_namespace AS n WHERE n.nspname = %(schema)s
    UNION ALL
    SELECT 'default ' || d.defaclobjtype::text, d.defaclrole, d.defaclacl FROM pg_default_acl AS d
)
SELECT
    l.name, pg_get_userbyid(l.owner),
    (SELECT string_agg(x::text, ' ' ORDER BY x::text) FROM unnest(l.acl) AS x)
FROM acl AS l
UNION ALL
SELECT p.polname, p.polroles::regrole[]::text, concat(
    p.polcmd, p.polpermissive, pg_get_expr(p.polqual, p.polrelid),
    pg_get_expr(p.polwithcheck, p.polrelid)
)
FROM pg_policy AS p
ORDER BY 1, 2, 3
"""


def privileges(granted: Granted) -> list[tuple[str, ...]]:
    """Return who owns what, every privilege, and every policy; each role by what it is."""
    database = granted.names["owner"].partition("'")[2].removesuffix('"')
    with granted.connect() as admin:
        rows = admin.execute(PRIVILEGES.encode(), {"schema": granted.schema}).fetchall()
    return [tuple(str(value).replace(database, "") for value in row) for row in rows]


def test_before_or_after_the_migrations_and_again_is_the_same(
    granted: Granted, empty: Callable[[], Granted], run: Run
) -> None:
    before = empty()
    said = before.run()
    assert (said.returncode, said.stdout) == (0, "")
    assert (
        said.stderr
        == "There are no tables yet: run this once more after the first migrate apply.\n"
    )
    with_logins(before)
    # The user may create no schema, and nothing will belong to it.
    options = ["--dsn", before.login("owner"), "--schema", before.schema, "migrate"]
    applied = run(*options, "apply", "--role", before.names["owner"])
    assert (applied.stdout, applied.stderr) == ("applied 0001.initial\n", "")
    # Until the script has seen the tables, nobody may write.
    with Store.connect(before.login("builder"), schema=before.schema) as store:
        with pytest.raises(PermissionDenied):
            store.run(create(uuid7()))
        assert store.run(report.submits()) == []
    before.done()
    assert privileges(before) == privileges(granted)
    # What is as it should be waits for nobody, and nobody for it.
    with before.connect() as reader, reader.transaction():
        reader.execute("LOCK TABLE job, job_log_chunk IN ACCESS SHARE MODE")
        before.done()
        reader.execute("ROLLBACK")
    assert privileges(before) == privileges(granted)
    undone = run(*options, "rollback", "zero", "--role", before.names["owner"], "--yes")
    assert (undone.stdout, undone.stderr) == ("undone 0001.initial\n", "")


def test_what_it_cannot_lock_leaves_all_as_it_was(empty: Callable[[], Granted]) -> None:
    granted = empty()
    with psycopg.connect(granted.dsn, autocommit=True) as connection:
        Migrator(connection, schema=granted.schema).apply()
    before = privileges(granted)
    with granted.connect() as reader:
        with reader.transaction():
            reader.execute("LOCK TABLE job IN ACCESS SHARE MODE")
            found = granted.run()
        assert found.returncode == 3
        assert "canceling statement due to lock timeout" in found.stderr
        assert privileges(granted) == before
        assert reader.execute(
            "SELECT count(*) FROM pg_roles WHERE rolname = %s", [granted.names["owner"]]
        ).fetchone() == (0,)


def test_a_later_migration_needs_no_thought(granted: Granted, tmp_path: Path) -> None:
    owner, name = sql.Identifier(granted.names["owner"]), "later_one"
    with granted.connect() as admin, admin.transaction(force_rollback=True):
        admin.execute(sql.SQL("SET LOCAL ROLE {}").format(owner))
        admin.execute(f"CREATE TABLE {name} (n bigint)".encode())
        admin.execute("RESET ROLE")
        for role, may in (("reader", "r"), ("builder", "ra"), ("janitor", "rd")):
            found = admin.execute(
                "SELECT string_agg(t.letter, '') FROM unnest(ARRAY['r', 'a', 'w', 'd'],"
                " ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS t (letter, privilege)"
                " WHERE has_table_privilege(%s, %s::text, t.privilege)",
                [granted.names[role], name],
            ).fetchone()
            assert found == (may,)


def test_whoever_creates_roles_can_run_it(granted: Granted, empty: Callable[[], Granted]) -> None:
    other = empty()
    name = sql.Identifier(f"{other.names['owner']} login")
    with psycopg.connect(other.dsn, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEROLE").format(name))
        database = sql.Identifier(admin.info.dbname)
        admin.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(database, name))
    assert other.run(dsn=other.login("owner")).returncode == 0
    with psycopg.connect(other.login("owner"), autocommit=True) as connection:
        Migrator(connection, schema=other.schema, role=other.names["owner"]).apply()
    other.done(dsn=other.login("owner"))
    assert privileges(other) == privileges(granted)


def test_one_role_for_two_is_refused(granted: Granted) -> None:
    before = privileges(granted)
    found = granted.run(*granted.script, "-v", f"reader={granted.names['builder']}")
    assert found.returncode == 3
    assert "owner, builder, janitor and reader have to be four roles" in found.stderr
    assert privileges(granted) == before


@pytest.mark.parametrize(
    ("role", "reason"), [("nobody", "does not exist"), ("owner", "permission denied to set role")]
)
def test_who_cannot_migrate_as_a_role_is_told(role: str, reason: str, granted: Granted) -> None:
    name = granted.names.get(role, role)
    with psycopg.connect(granted.login("builder"), autocommit=True) as connection:
        migrator = Migrator(connection, schema=granted.schema, role=name)
        with pytest.raises(MigrationError, match=reason) as caught:
            migrator.apply()
        assert "schema/roles.sql" in str(caught.value)
        # The session is as it was, and holds no lock.
        assert connection.execute("SELECT current_user = session_user").fetchone() == (True,)
        locks = (
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
        )
        assert connection.execute(locks).fetchone() == (0,)
