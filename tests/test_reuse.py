"""What a submit reused: recorded once, all or none, and only what can be reused."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
from conftest import AnyStore
from samples import TIME, create, finish, later, start

from butido_store import artifact, submit, uuid7
from butido_store.errors import Conflict, InvalidInput, NotFound, StoreError

Connection = psycopg.Connection[tuple[object, ...]]
OLD, NEW, ONE, TWO, FAILED, RUNS, LOST, OWN, UNKNOWN = (UUID(int=n) for n in range(1, 10))


@pytest.fixture(autouse=True)
def _built(store: AnyStore) -> None:
    """A submit with jobs of every state, and another one with a job of its own."""
    store.run(create(OLD), create(NEW, timestamp=later(100)))
    store.run(start(ONE, OLD), finish(ONE, "one"))
    store.run(start(TWO, OLD, started_at=later(10), script="2"), finish(TWO, "two"))
    store.run(start(FAILED, OLD), finish(FAILED, state="error"))
    store.run(start(LOST, OLD), finish(LOST, state="lost"))
    store.run(start(RUNS, OLD))
    store.run(start(OWN, NEW, script="3"), finish(OWN, "own"))


@pytest.fixture
def recorded(connection: Connection) -> Iterator[Any]:
    """Gives what is recorded."""

    def read() -> list[tuple[object, ...]]:
        return connection.execute(
            "SELECT submit_uuid, job_uuid, timestamp FROM reuse ORDER BY 1, 2"
        ).fetchall()

    return read


def test_a_reuse_is_recorded_once_with_its_first_time(store: AnyStore, recorded: Any) -> None:
    found = store.run(
        artifact.reusable(
            package="zlib",
            version="1.3",
            image="debian:12",
            script="2",
            env={"LANG": "C.UTF-8", "CC": "gcc"},
            inputs=[],
        )
    )
    assert found
    store.run(submit.reuse(NEW, [found], timestamp=later(100)))
    store.run(submit.reuse(NEW, [found, ONE], timestamp=later(101)))
    store.run(submit.reuse(NEW, [ONE, TWO], timestamp=later(102)))
    assert recorded() == [(NEW, ONE, later(101)), (NEW, TWO, later(100))]
    # With the submit itself, in one run; a generator is as good as a list; none is none.
    third = uuid7()
    store.run(create(third), submit.reuse(third, (each for each in [OWN, ONE]), timestamp=TIME))
    store.run(submit.reuse(third, [], timestamp=later(1)))
    assert recorded()[2:] == [(third, ONE, TIME), (third, OWN, TIME)]


@pytest.mark.parametrize(
    ("of_submit", "jobs", "error", "says"),
    [
        (UNKNOWN, [ONE], NotFound, f"there is no submit {UNKNOWN} in the store"),
        (UNKNOWN, [], NotFound, f"there is no submit {UNKNOWN} in the store"),
        (NEW, [ONE, UNKNOWN], NotFound, f"jobs: there is no job {UNKNOWN} in the store"),
        (NEW, [ONE, FAILED], Conflict, f"{FAILED} did not end with success: its state is error"),
        (NEW, [RUNS, ONE], Conflict, f"{RUNS} did not end with success: its state is running"),
        (NEW, [LOST], Conflict, f"{LOST} did not end with success: its state is lost"),
        (NEW, [ONE, OWN], Conflict, f"jobs: submit {NEW} ran job {OWN} itself"),
        (NEW, [ONE, ONE], InvalidInput, "jobs names the same uuid twice"),
        (NEW, [ONE, None], InvalidInput, r"jobs\[1\] must be a UUID, not NoneType"),
        (NEW, ONE, InvalidInput, "jobs"),
        ("new", [ONE], InvalidInput, "uuid"),
    ],
)
@pytest.mark.parametrize("is_known", [False, True])
def test_all_or_none(
    store: AnyStore,
    recorded: Any,
    of_submit: Any,
    jobs: Any,
    error: type[StoreError],
    says: str,
    is_known: bool,
) -> None:
    """Also where one of them is recorded already."""
    if is_known:
        store.run(submit.reuse(NEW, [ONE], timestamp=TIME))
    before = recorded()
    with pytest.raises(error, match=says):
        store.run(submit.reuse(of_submit, jobs, timestamp=later(1)))
    assert recorded() == before


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(InvalidInput, match="timestamp"):
        submit.reuse(NEW, [ONE], timestamp=TIME.replace(tzinfo=None))
