"""`migrate mark`: a schema that was made otherwise is taken over if it is what migrations make."""

import psycopg
import pytest
from migrating import Directory, exists, snapshot, states, value
from shell import Run

from butido_store.admin.adopt import mark
from butido_store.admin.migrate import ZERO, Migrator, shipped
from butido_store.errors import MigrationError

Connection = psycopg.Connection[tuple[object, ...]]
FORGET = "DROP TABLE butido._yoyo_migration, butido._yoyo_log, butido._yoyo_version"


@pytest.fixture
def two(database: Connection, directory: Directory) -> Migrator:
    """A migrator with two migrations, of which the first one's table is there without a record."""
    directory.add("0001.fruit", "CREATE TABLE fruit (name text PRIMARY KEY);", "DROP TABLE fruit;")
    undo = "ALTER TABLE fruit DROP COLUMN note;"
    directory.add("0002.note", "ALTER TABLE fruit ADD COLUMN note text;", undo)
    database.execute("CREATE SCHEMA butido")
    database.execute("CREATE TABLE butido.fruit (name text PRIMARY KEY)")
    return Migrator(database, directory=directory.path)


def test_a_schema_without_records_is_taken_over(
    run: Run, database_dsn: str, database: Connection
) -> None:
    on = ("--dsn", database_dsn, "migrate")
    ids = [file.id for file in shipped()]
    Migrator(database).apply()
    database.execute(FORGET)
    marked = run(*on, "mark")
    assert (marked.returncode, marked.stderr) == (0, "")
    assert marked.stdout == "".join(f"marked {id_}\n" for id_ in ids)
    assert run(*on, "mark").stdout == "nothing to mark\n"
    assert run(*on, "apply").stdout == "nothing to apply\n"
    assert [one.duration for one in Migrator(database).status()] == [None] * len(ids)
    assert value(database, "SELECT array_agg(DISTINCT operation) FROM butido._yoyo_log") == ["mark"]
    assert Migrator(database).rollback(to=ZERO) == ids[::-1]


def test_a_schema_that_differs_is_not(run: Run, database_dsn: str, database: Connection) -> None:
    Migrator(database).apply()
    database.execute(FORGET)
    database.execute("DROP INDEX butido.job_submit_uuid_started_at_idx")
    before = snapshot(database)
    refused = run("--dsn", database_dsn, "migrate", "mark")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"not what the migrations up to {shipped()[-1].id} make" in refused.stderr
    assert (
        "index job_submit_uuid_started_at_idx is missing (mended by: CREATE INDEX" in refused.stderr
    )
    assert snapshot(database) == before


def test_a_schema_is_taken_over_up_to_a_migration(database: Connection, two: Migrator) -> None:
    with pytest.raises(MigrationError, match=r"up to 0002\.note make: .*note is missing"):
        mark(two)
    assert not exists(database, "_yoyo_migration")
    assert mark(two, to="0001.fruit") == ["0001.fruit"]
    assert states(two) == {"0001.fruit": "applied", "0002.note": "pending"}
    # What is recorded already is part of what is compared.
    database.execute("ALTER TABLE butido.fruit ADD COLUMN note text")
    assert mark(two) == ["0002.note"]
    with pytest.raises(MigrationError, match=r"0002\.note is applied, and comes after 0001"):
        mark(two, to="0001.fruit")
    assert two.rollback(to=ZERO) == ["0002.note", "0001.fruit"]


def test_nothing_is_taken_over_where_there_is_nothing(database: Connection) -> None:
    with pytest.raises(MigrationError, match="there is no schema 'butido' to take over: restore"):
        mark(Migrator(database))
    with pytest.raises(MigrationError, match="no migration 'nothing'"):
        mark(Migrator(database), to="nothing")
    assert snapshot(database) == [("public", None, None)]
