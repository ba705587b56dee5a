"""Failures of an older rule are written anew, from the logs that are still there."""

from uuid import UUID

import psycopg
import pytest
from conftest import AnyStore
from samples import create, ended, later, start
from shell import Run

from butido_store import Store, job, report, uuid7
from butido_store.errors import InvalidInput

Connection = psycopg.Connection[tuple[object, ...]]

OLD = "what an older rule gave"


@pytest.fixture
def failed(dsn: str, schema: str, connection: Connection) -> list[UUID]:
    """Failed jobs, newest first, with the failures of an older rule; the third without its log."""
    of_submit, jobs = uuid7(), [uuid7() for _ in range(5)]
    with Store.connect(dsn, schema=schema) as store:
        store.run(create(of_submit))
        for place, uuid in enumerate(jobs):
            log, at = f"error: {'ghijk'[place]}\n", later(-place)
            one = ended(uuid, of_submit, state="error", log=log, started_at=at)
            store.run(job.record(one))
        store.run(job.record(ended(uuid7(), of_submit)), start(uuid7(), of_submit))
    connection.execute("UPDATE job SET failure = %s, failure_rule = 0 WHERE state = 'error'", [OLD])
    # Imported, from a store that had no rule.
    connection.execute(
        "UPDATE job SET failure = NULL, failure_rule = NULL WHERE uuid = %s", [jobs[4]]
    )
    connection.execute("UPDATE job SET log = NULL WHERE uuid = %s", [jobs[2]])
    return jobs


def lines(store: AnyStore | Store) -> list[str]:
    return sorted(row.lines for row in store.run(report.failures()))


ALL = ["error: g", "error: h", "error: j", "error: k", OLD]


def test_they_are_done_batch_by_batch_and_then_no_more(store: AnyStore, failed: list[UUID]) -> None:
    assert store.run(job.refresh_failures(limit=2)) == failed[:2]
    assert lines(store) == [*ALL[:2], OLD]
    assert store.run(job.refresh_failures(before=failed[1], limit=2)) == failed[3:]
    assert store.run(job.refresh_failures(before=failed[4], limit=2)) == []
    assert store.run(job.refresh_failures()) == []
    assert lines(store) == ALL


def test_what_is_left_is_found_though_the_last_one_was_removed(
    store: AnyStore, failed: list[UUID], connection: Connection
) -> None:
    assert store.run(job.refresh_failures(limit=2)) == failed[:2]
    connection.execute("DELETE FROM artifact WHERE job_uuid = %s", [failed[1]])
    connection.execute("DELETE FROM job WHERE uuid = %s", [failed[1]])
    assert store.run(job.refresh_failures(before=failed[1])) == failed[3:]


def test_one_that_is_being_written_is_left_for_another_time(
    store: AnyStore, failed: list[UUID], connection: Connection
) -> None:
    with connection.transaction(force_rollback=True):
        connection.execute("SELECT FROM job WHERE uuid = %s FOR UPDATE", [failed[1]])
        assert store.run(job.refresh_failures()) == [failed[0], *failed[3:]]
    assert store.run(job.refresh_failures()) == [failed[1]]


def test_a_log_that_is_in_its_chunks_is_read_at_its_end(
    store: AnyStore, failed: list[UUID], connection: Connection
) -> None:
    connection.execute("UPDATE job SET log = '' WHERE uuid = %s", [failed[0]])
    for seq, text in enumerate(["error: far away\n", "x" * 90_000, "\nerror: in ", "two pieces\n"]):
        connection.execute("INSERT INTO job_log_chunk VALUES (%s, %s, %s)", [failed[0], seq, text])
    assert store.run(job.refresh_failures(limit=1)) == failed[:1]
    assert "error: in two pieces" in lines(store)


def test_a_command_does_all(dsn: str, schema: str, failed: list[UUID], run: Run) -> None:
    command = ("--dsn", dsn, "--schema", schema, "refresh-failures")
    assert run(*command, "--batch", "3").stdout == "4 failures written anew\n"
    assert run(*command).stdout == "0 failures written anew\n"
    with Store.connect(dsn, schema=schema) as store:
        assert lines(store) == ALL


def test_a_limit_is_a_count() -> None:
    with pytest.raises(InvalidInput, match="limit"):
        job.refresh_failures(limit=-1)
