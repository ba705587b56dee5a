"""`migrate plan`: what pending migrations do, seen on an empty store, and who is in their way."""

from pathlib import Path

import psycopg
import pytest
from migrating import CONCURRENT, NOTES, Directory, exists, snapshot, states
from psycopg.sql import SQL, Identifier
from shell import Run

from butido_store.admin.migrate import SCRATCH, Migrator
from butido_store.admin.plan import plan
from butido_store.errors import MigrationError

Connection = psycopg.Connection[tuple[object, ...]]

# Something to change, of each kind.
BASE = """
CREATE TABLE fruit (id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, n integer);
CREATE TABLE nut (id bigint PRIMARY KEY, fruit_id bigint, CONSTRAINT nut_id_check CHECK (id > 0));
ALTER TABLE nut ADD CONSTRAINT nut_late_check CHECK (fruit_id > 0) NOT VALID;
CREATE INDEX nut_fruit_id_idx ON nut (fruit_id);
CREATE VIEW nuts AS SELECT n.id FROM nut AS n;
"""
SCANS = "scans {}; 1 s and 1 MB of WAL on 1 M jobs"
REWRITES = "rewrites {}; 1 s and 1 MB of WAL on 1 M jobs"

# What is applied, its rollback, and what is true of it: locks, duration, and what is lost.
TRUTHS = [
    ("SELECT 1;", "SELECT 1;", "none", "instant", set()),
    ("CREATE TABLE a (id bigint); CREATE INDEX i ON a (id);", "DROP TABLE a;", "none", "instant",
     {"a"}),
    ("ALTER TABLE fruit ADD COLUMN note text;", "ALTER TABLE fruit DROP COLUMN note;",
     "ACCESS EXCLUSIVE on fruit", "instant", {"fruit.note"}),
    ("ALTER TABLE fruit ALTER n TYPE bigint;", "ALTER TABLE fruit ALTER n TYPE integer;",
     "ACCESS EXCLUSIVE on fruit", REWRITES.format("fruit"), set()),
    ("ALTER TABLE fruit ADD CHECK (n > 0);", "ALTER TABLE fruit DROP CONSTRAINT fruit_n_check;",
     "ACCESS EXCLUSIVE on fruit", SCANS.format("fruit"), set()),
    ("ALTER TABLE fruit ADD CHECK (n > 0) NOT VALID;",
     "ALTER TABLE fruit DROP CONSTRAINT fruit_n_check;",
     "ACCESS EXCLUSIVE on fruit", "instant", set()),
    ("ALTER TABLE nut VALIDATE CONSTRAINT nut_late_check;", "SELECT 1;",
     "SHARE UPDATE EXCLUSIVE on nut", SCANS.format("nut"), set()),
    ("CREATE INDEX i ON fruit (n);", "DROP INDEX i;", "SHARE on fruit", SCANS.format("fruit"),
     set()),
    ("ALTER TABLE nut ADD FOREIGN KEY (fruit_id) REFERENCES fruit;",
     "ALTER TABLE nut DROP CONSTRAINT nut_fruit_id_fkey;",
     "SHARE ROW EXCLUSIVE on fruit, nut", SCANS.format("nut, fruit"), set()),
    ("UPDATE fruit SET n = 1;", "SELECT 1;", "ROW EXCLUSIVE on fruit", SCANS.format("fruit"),
     set()),
    ("REINDEX INDEX nut_fruit_id_idx;", "SELECT 1;", "ACCESS EXCLUSIVE on nut",
     SCANS.format("nut"), set()),
    ("CREATE OR REPLACE VIEW nuts AS SELECT n.id, 1 AS one FROM nut AS n;",
     "DROP VIEW nuts; CREATE VIEW nuts AS SELECT n.id FROM nut AS n;",
     "ACCESS EXCLUSIVE on nuts", "instant", set()),
]  # fmt: skip


def notes(locks: str, duration: str, rollback: str = "lossless") -> str:
    """Return a header's fields."""
    text = NOTES.replace("none", locks).replace("instant", duration)
    return text.replace("lossless", rollback)


@pytest.fixture
def base(database: Connection, directory: Directory) -> Migrator:
    """A migrator that has made what the migrations of a test change."""
    directory.add("0001.base", BASE, "DROP VIEW nuts; DROP TABLE nut; DROP TABLE fruit;")
    migrator = Migrator(database, directory=directory.path)
    migrator.apply()
    return migrator


def test_true_headers(database: Connection, directory: Directory, base: Migrator) -> None:
    for number, (sql, rollback, locks, duration, lost) in enumerate(TRUTHS, 2):
        about = notes(locks, duration, "loses it" if lost else "lossless")
        directory.add(f"{number:04}.t", sql, rollback, notes=about)
        planned = plan(base)
        assert [(one.id, one.lies) for one in planned] == [(f"{number:04}.t", ())]
        assert planned[0].lost == lost
        for path in directory.path.glob(f"{number:04}.*"):
            path.unlink()
    assert not exists(database, "fruit", SCRATCH)
    assert states(base) == {"0001.base": "applied"}


@pytest.mark.parametrize(
    ("what", "lie"),
    [
        (
            notes("SHARE on fruit", "instant", "loses it"),
            "it locks ACCESS EXCLUSIVE on fruit, and says SHARE on fruit",
        ),
        (
            notes("ACCESS EXCLUSIVE on fruit, nut", "instant", "loses it"),
            "it locks ACCESS EXCLUSIVE on fruit, and says ACCESS EXCLUSIVE on fruit, nut",
        ),
        (
            notes("ACCESS EXCLUSIVE on fruit", REWRITES.format("fruit"), "loses it"),
            "it rewrites nothing, and says fruit",
        ),
        (
            notes("ACCESS EXCLUSIVE on fruit", "instant"),
            "its rollback drops fruit.note, and says lossless",
        ),
    ],
)
def test_wrong_headers(directory: Directory, base: Migrator, what: str, lie: str) -> None:
    sql = "ALTER TABLE fruit ADD COLUMN note text;"
    directory.add("0002.note", sql, "ALTER TABLE fruit DROP COLUMN note;", notes=what)
    assert [one.lies for one in plan(base)] == [(lie,)]


def test_work_that_a_header_does_not_tell(directory: Directory, base: Migrator) -> None:
    lock = notes("ACCESS EXCLUSIVE on fruit", "instant")
    undo = "ALTER TABLE fruit DROP CONSTRAINT c;"
    directory.add("0002.a", "ALTER TABLE fruit ADD CONSTRAINT c CHECK (n > 0);", undo, notes=lock)
    same = "ALTER TABLE fruit ALTER n TYPE integer;"
    directory.add("0003.b", "ALTER TABLE fruit ALTER n TYPE bigint;", same, notes=lock)
    assert [one.lies for one in plan(base)] == [
        ("it scans fruit, and says nothing",),
        ("it rewrites fruit, and says nothing",),
    ]


def test_an_index_that_holds_nobody_up(directory: Directory, base: Migrator) -> None:
    sql, rollback = (text.replace("(name)", "(n)") for text in CONCURRENT)
    about = notes("SHARE UPDATE EXCLUSIVE on fruit", SCANS.format("fruit"))
    directory.add("0002.index", sql, rollback, transactional=False, notes=about)
    gone = notes("SHARE UPDATE EXCLUSIVE on fruit", "instant")
    directory.add("0003.none", rollback, sql, transactional=False, notes=gone)
    planned = plan(base)
    assert [one.lies for one in planned] == [(), ()]
    assert "\n  waits     nobody\n" in str(planned[0])


def test_a_plan_names_who_is_in_the_way_and_changes_nothing(
    run: Run,
    database_dsn: str,
    database: Connection,
    second: Connection,
    directory: Directory,
    base: Migrator,
) -> None:
    about = notes("ACCESS EXCLUSIVE on fruit", "instant", "loses it")
    undo = "ALTER TABLE fruit DROP COLUMN note;"
    directory.add("0002.note", "ALTER TABLE fruit ADD COLUMN note text;", undo, notes=about)
    # As a plan that was cut off leaves it.
    database.execute(f"CREATE SCHEMA {SCRATCH}; CREATE TABLE {SCRATCH}.fruit ();")
    before = [row for row in snapshot(database) if row[0] != SCRATCH]
    with second.transaction():
        second.execute("SELECT FROM butido.fruit")
        (planned,) = plan(base)
    assert f"in its way now: process {second.info.backend_pid} (role " in str(planned)
    assert "AccessShareLock on fruit)" in planned.blockers
    assert "\n  waits     readers and writers of fruit\n" in str(planned)
    assert "\n  rollback  loses it; drops fruit.note\n" in str(planned)
    assert snapshot(database) == before
    assert base.stores() == ["butido"]
    (planned,) = plan(base)
    assert planned.blockers == ""
    base.apply()
    assert plan(base) == []


def test_a_migration_that_fails_leaves_no_scratch(
    database: Connection, directory: Directory, base: Migrator
) -> None:
    directory.add("0002.bad", "SELECT nonsense;", "SELECT 1;")
    before = snapshot(database)
    with pytest.raises(MigrationError, match=r"0002\.bad\.sql:\d+: .*nonsense"):
        plan(base)
    assert snapshot(database) == before


def test_the_shell_plans_and_applies_everywhere(
    run: Run, database_dsn: str, database: Connection, tmp_path: Path
) -> None:
    on = ("--dsn", database_dsn)
    none = run(*on, "migrate", "apply", "--all-schemas")
    assert (none.returncode, "no schema of this database" in none.stderr) == (1, True)
    planned = run(*on, "migrate", "plan")
    assert (planned.returncode, planned.stderr) == (0, "")
    assert planned.stdout.startswith("0001.initial (pre)\n  locks     none\n  waits     nobody\n")
    for schema in ("one", "two", "three"):
        Migrator(database, schema=schema).apply()
    database.execute("UPDATE one._yoyo_migration SET sha256 = sha256('')")
    for schema in ("three", "two"):
        Migrator(database, schema=schema).rollback(to="zero")
    done = run(*on, "migrate", "apply", "--all-schemas")
    assert done.returncode == 1
    assert done.stdout == "three: applied 0001.initial\ntwo: applied 0001.initial\n"
    assert "one: Error: " in done.stderr
    assert done.stderr.endswith("Error: 1 of 3 schemas failed\n")
    database.execute("DROP SCHEMA one CASCADE")
    done = run(*on, "migrate", "apply", "--all-schemas")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "three: nothing to apply\ntwo: nothing to apply\n"
    assert run(*on, "--schema", "two", "migrate", "plan").stdout == "nothing to apply\n"


def test_a_schemas_name_does_not_act_on_a_terminal(
    run: Run, database_dsn: str, database: Connection
) -> None:
    evil = "x\x1b[31my\nz\N{RIGHT-TO-LEFT OVERRIDE}"
    Migrator(database, schema=evil).apply()
    done = run("--dsn", database_dsn, "migrate", "apply", "--all-schemas")
    assert done.stdout == "x\\x1b[31my\\nz\\u202e: nothing to apply\n"
    database.execute(
        SQL("UPDATE {} SET sha256 = sha256('')").format(Identifier(evil, "_yoyo_migration"))
    )
    done = run("--dsn", database_dsn, "migrate", "apply", "--all-schemas")
    assert done.stderr.startswith("x\\x1b[31my\\nz\\u202e: Error: ")
