"""A database with a row in every table, for tests that change rows by hand."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from samples import TIME, create, finish, sha256, start

from butido_store import Store, artifact, job, release, submit, uuid7

Connection = psycopg.Connection[tuple[object, ...]]


def fill(dsn: str, schema: str) -> None:
    """Put a row into every table."""
    with Store.connect(dsn, schema=schema) as store:
        of_submit, other, done, running, act = (uuid7() for _ in range(5))
        source = store.run(artifact.register("src", sha256=sha256("src"), size=3))
        store.run(create(of_submit), create(other))
        store.run(start(done, of_submit, inputs=[source.uuid]))
        store.run(finish(done, "out"))
        store.run(submit.reuse(other, [done], timestamp=TIME))
        store.run(start(running, of_submit))
        store.run(job.append_log(running, seq=0, data="so far"))
        said: dict[str, Any] = {"store": "stable", "actor": "somebody", "timestamp": TIME}
        store.run(release.create(act, artifacts=[source.uuid], **said))
        store.run(release.withdraw(artifact=source.uuid, reason="a mistake", **said))
    with psycopg.connect(dsn) as connection:
        connection.execute("SELECT set_config('search_path', quote_ident(%s), false)", [schema])
        connection.execute(
            "INSERT INTO retention_rule (position, what, package) VALUES (1, 'log', '%')"
        )
        connection.execute("INSERT INTO retention_walk VALUES ('log', now(), gen_random_uuid())")


@pytest.fixture
def row(connection: Connection, dsn: str, schema: str) -> Iterator[Connection]:
    """A connection in a transaction that is undone, to a database with a row in every table."""
    fill(dsn, schema)
    with connection.transaction(force_rollback=True):
        yield connection


NODE: dict[str, object] = {"name": "a", "version": "1", "dependencies": []}


def a_tree(**changes: object) -> dict[str, object]:
    return {"root": 0, "nodes": [NODE | changes]}
