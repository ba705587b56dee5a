"""What the benchmark compares the store to records the same facts."""

from itertools import islice
from typing import Any

import psycopg
import pytest
from peers import HERE, PEERS, on_schema
from peers.get_or_create import GetOrCreate
from workload import Submit, submits

from butido_store.admin.migrate import ZERO, Migrator

pytestmark = pytest.mark.any_server

Facts = list[tuple[Any, ...]]


@pytest.fixture
def database(database_dsn: str) -> str:
    """Return an empty store's DSN, in the schema that the peers know."""
    with psycopg.connect(database_dsn, autocommit=True) as connection:
        Migrator(connection).apply()
    return database_dsn


def record(peer: str, dsn: str, work: list[Submit]) -> Facts:
    """Let a peer record the first submit's jobs one by one, the others' in one go."""
    PEERS[peer].prepare(dsn)
    with PEERS[peer](dsn) as writer:
        for number, one in enumerate(work):
            writer.create(one)
            portions = [one.jobs] if number else [[job] for job in one.jobs]
            for jobs in portions:
                writer.record(writer.known(jobs))
    with psycopg.connect(on_schema(dsn, PEERS[peer].schema)) as connection:
        return connection.execute((HERE / PEERS[peer].facts).read_bytes()).fetchall()


@pytest.mark.parametrize("peer", [name for name in PEERS if name != "butido_store"])
def test_a_peer_records_what_the_store_does(peer: str, database: str) -> None:
    work = list(islice(submits(1, jobs=3), 3))
    found = record(peer, database, work)
    assert len(found) == 3 + 9
    with psycopg.connect(database, autocommit=True) as connection:
        Migrator(connection).rollback(to=ZERO, lose_data=True)
        Migrator(connection).apply()
    assert found == record("butido_store", database, work)


def test_the_get_or_create_pattern_takes_60_round_trips(database: str) -> None:
    GetOrCreate.prepare(database)
    (work,) = islice(submits(1, jobs=2), 1)
    with GetOrCreate(database) as writer:
        writer.create(work)
        for job in work.jobs:
            writer.round_trips = 0
            writer.record([job])
    # The last job has 5 variables, an input and an output.
    assert writer.round_trips == 60
