"""How steps go to the server: what is prepared, and what an error leaves of it."""

from itertools import combinations
from typing import Any

import psycopg
import pytest
from psycopg import IsolationLevel, sql
from psycopg.pq import TransactionStatus
from samples import TIME, create, sha256

from butido_store import Store, artifact, open_schema, report, submit, uuid7
from butido_store.admin.migrate import Migrator
from butido_store.errors import InvalidInput, StoreError


def prepared(connection: psycopg.Connection[Any]) -> list[str]:
    """Return the queries that this session has prepared."""
    rows = connection.execute(
        "SELECT substring(statement FROM '/[*] (.*?) [*]/') FROM pg_prepared_statements"
        " ORDER BY prepare_time, name",
        prepare=False,
    ).fetchall()
    return [name for (name,) in rows]


def test_a_text_is_prepared_once_where_it_is_run_often(connection: psycopg.Connection[Any]) -> None:
    store = Store(connection)
    connection.prepare_threshold = 3
    for _ in range(3):
        store.run(report.images())
    assert prepared(connection) == []
    store.run(report.images(), report.images())
    store.run(report.images())
    assert prepared(connection) == ["report/images"]


def test_what_an_error_cut_off_is_not_taken_for_prepared(
    connection: psycopg.Connection[Any],
) -> None:
    store = Store(connection)
    connection.prepare_threshold = 0
    with pytest.raises(StoreError):
        store.run(report.packages(), report.search_log(regex="("), report.images())
    assert prepared(connection) == ["report/packages", "report/search_log"]
    # Were one taken for prepared that is not, a run would prepare nothing after it.
    store.run(report.images(), report.packages())
    store.run(report.search_log(regex="x"))
    assert prepared(connection) == ["report/packages", "report/search_log", "report/images"]


def test_a_session_has_so_many_prepared_the_last_ones_used(
    connection: psycopg.Connection[Any],
) -> None:
    store = Store(connection)
    connection.prepare_threshold = 0
    filters: dict[str, Any] = {"package": "a", "image": "a", "endpoint": "a", "version": "1"}
    filters |= {"state": "error", "reason": "a", "env": "A=b", "older_than": TIME}
    chosen = [each for size in range(5) for each in combinations(filters, size)]
    store.run(report.images())
    for names in chosen[:110]:
        assert store.run(report.jobs(**{name: filters[name] for name in names})) == []
        store.run(report.images())
    assert len(prepared(connection)) == 100
    # It was prepared first, and used between the others.
    assert prepared(connection)[0] == "report/images"


def test_where_what_is_prepared_keeps_vanishing_nothing_is(
    connection: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(connection)
    connection.prepare_threshold = 0
    for _ in range(3):
        assert not caplog.records
        store.run(report.images())
        connection.execute("DEALLOCATE ALL", prepare=False)
        store.run(report.images())
    assert "--no-prepare" in caplog.text
    store.run(report.images())
    assert prepared(connection) == []


def test_a_connection_goes_from_one_schema_to_another(
    connection: psycopg.Connection[Any], schema: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(connection)
    store.run(create(uuid7()))
    connection.prepare_threshold = 0
    Migrator(connection, schema="other").apply()
    try:
        for turn in range(8):
            # After three that did not fit, nothing is prepared.
            assert bool(caplog.records) == (turn > 5)
            name = sql.Identifier(("other", schema)[turn % 2])
            connection.execute(sql.SQL("SET search_path = {}").format(name))
            assert len(store.run(report.submits())) == turn % 2
    finally:
        connection.execute("DROP SCHEMA other CASCADE")


def test_a_commit_that_fails_is_an_error_and_the_connection_goes_on(
    clone_dsn: str, schema: str
) -> None:
    with psycopg.connect(clone_dsn, autocommit=True) as connection:
        open_schema(connection, schema)
        connection.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql"
            " AS $$ BEGIN RAISE EXCEPTION 'not today'; END $$;"
            "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON submit DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
        store = Store(connection)
        store.run(artifact.register("a", sha256=sha256("a"), size=1))
        uuid = uuid7()
        with pytest.raises(StoreError, match="not today"):
            store.run(create(uuid))
        assert store.run(report.submits()) == []


def test_a_transaction_of_the_callers_begins_as_the_connection_says(dsn: str, schema: str) -> None:
    with psycopg.connect(dsn) as connection:
        open_schema(connection, schema)
        connection.isolation_level = IsolationLevel.SERIALIZABLE
        uuid = uuid7()
        store = Store(connection)
        store.run(create(uuid))
        assert connection.pgconn.transaction_status == TransactionStatus.INTRANS
        assert connection.execute("SHOW transaction_isolation").fetchone() == ("serializable",)
        connection.rollback()
        with pytest.raises(StoreError):
            store.run(submit.get(uuid))


def test_values_are_adapted_as_the_session_is_set_now(
    connection: psycopg.Connection[Any],
) -> None:
    store = Store(connection)
    for encoding in ("utf8", "latin1", "utf8"):
        connection.execute(f"SET client_encoding = {encoding}")
        uuid = uuid7()
        store.run(create(uuid, package="fähre"))
        assert store.run(submit.get(uuid)).package == "fähre"
    rows = connection.execute("SELECT name FROM package").fetchall()
    assert rows == [("fähre",)]


def test_a_value_that_cannot_be_sent_leaves_the_callers_connection_as_it_was(
    connection: psycopg.Connection[Any],
) -> None:
    store = Store(connection)
    connection.execute("SET client_encoding = latin1")
    with connection.transaction():
        with pytest.raises(InvalidInput, match="client_encoding"):
            store.run(create(uuid7(), package="\N{SNOWMAN}"))
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert not connection.closed


def test_texts_without_an_encoding_are_refused(connection: psycopg.Connection[Any]) -> None:
    """Else they would come as bytes."""
    store = Store(connection)
    store.run(create(uuid7()))
    connection.execute("SET client_encoding = sql_ascii")
    for _ in range(2):
        with pytest.raises(InvalidInput, match="client_encoding is SQL_ASCII; set it to UTF8"):
            store.run(report.submits())
        with pytest.raises(InvalidInput, match="client_encoding is SQL_ASCII; set it to UTF8"):
            list(store.stream(report.submits()))
    connection.execute("SET client_encoding = utf8")
    assert len(store.run(report.submits())) == 1
