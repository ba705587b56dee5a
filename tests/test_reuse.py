"""What a submit reused: recorded once, all or none, and only what can be reused."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import psycopg
import pytest
from commandline import Shell
from conftest import AnyStore
from samples import TIME, create, finish, later, start

from butido_store import artifact, release, report, submit, uuid7
from butido_store.errors import Conflict, InvalidInput, NotFound, StoreError

Connection = psycopg.Connection[tuple[object, ...]]
Recorded = Callable[[], list[tuple[object, ...]]]
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
def recorded(connection: Connection) -> Recorded:
    """Gives what is recorded."""

    def read() -> list[tuple[object, ...]]:
        return connection.execute(
            "SELECT submit_uuid, job_uuid, timestamp FROM reuse ORDER BY 1, 2"
        ).fetchall()

    return read


def test_a_reuse_is_recorded_once_with_its_first_time(store: AnyStore, recorded: Recorded) -> None:
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
        (NEW, [ONE, ONE], InvalidInput, f"jobs has {ONE} twice"),
        (NEW, [ONE, None], InvalidInput, r"jobs\[1\] must be a UUID, not NoneType"),
        (NEW, ONE, InvalidInput, "jobs"),
        ("new", [ONE], InvalidInput, "uuid"),
    ],
)
@pytest.mark.parametrize("is_known", [False, True])
def test_all_or_none(
    store: AnyStore,
    recorded: Recorded,
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


def test_a_submit_shows_what_it_reused_in_one_order(store: AnyStore, shell: Shell) -> None:
    store.run(submit.reuse(NEW, [ONE, TWO], timestamp=later(100)))
    # By a clock that was set back; it saves nothing.
    back = uuid7()
    store.run(start(back, OLD, started_at=later(40), script="4"))
    store.run(finish(back, finished_at=later(30)), submit.reuse(NEW, [back], timestamp=later(101)))
    (found,) = store.run(report.submit(NEW))
    assert (found.running, found.success, found.error, found.lost) == (0, 1, 0, 0)
    # From 1 and from 10, both to 60.
    assert (found.reused, found.seconds_saved) == (3, 109.0)
    assert [(one["uuid"], one["reused"]) for one in found.jobs] == [
        (str(ONE), True),
        (str(OWN), False),
        (str(TWO), True),
        (str(back), True),
    ]
    (old,) = store.run(report.submit(OLD))
    assert (old.success, old.reused, old.seconds_saved, len(old.jobs)) == (3, 0, 0.0, 6)
    page = shell("submit", str(NEW), "--columns=reused,seconds_saved,jobs").stdout
    assert [line.split() for line in page.splitlines()[:2]] == [
        ["reused", "3"],
        ["seconds_saved", "109"],
    ]
    assert page.count("yes") == 3


def test_the_jobs_of_a_submit_are_listed_with_those_that_it_reused(
    store: AnyStore, shell: Shell
) -> None:
    store.run(submit.reuse(NEW, [ONE, TWO], timestamp=later(100)))
    every = store.run(report.jobs(of_submit=NEW))
    assert [(one.uuid, one.submit_uuid, one.reused) for one in every] == [
        (TWO, OLD, True),
        (OWN, NEW, False),
        (ONE, OLD, True),
    ]
    # By pages the same, with and without a filter; two start at the same time.
    every_filter: list[dict[str, Any]] = [
        {},
        {"env": "CC=gcc"},
        {"package": "zlib", "state": "success"},
    ]
    for filters in every_filter:
        seen: list[report.ListedJob] = []
        while page := store.run(
            report.jobs(of_submit=NEW, limit=1, before=seen[-1].uuid if seen else None, **filters)
        ):
            seen += page
        assert seen == every
        assert store.run(report.jobs(of_submit=NEW, limit=None, **filters)) == every
    assert store.run(report.jobs(of_submit=NEW, env="CC=clang")) == []
    assert store.run(report.jobs(of_submit=NEW, newer_than=later(2))) == every[:1]
    # Nobody else's listing marks them, and each is there once.
    assert not any(one.reused for one in store.run(report.jobs(of_submit=OLD)))
    assert len(store.run(report.jobs())) == 6
    assert not any(one.reused for one in store.run(report.jobs()))
    rows = shell("jobs", "-S", str(NEW), "--format=csv", "--columns=uuid,reused").stdout
    assert rows.split() == ["uuid,reused", f"{TWO},true", f"{OWN},false", f"{ONE},true"]


def test_the_overview_counts_what_was_reused(store: AnyStore, connection: Connection) -> None:
    store.run(submit.reuse(NEW, [ONE, TWO], timestamp=later(100)))
    rows = connection.execute("SELECT uuid, jobs, success, reused FROM submit_overview ORDER BY 1")
    assert rows.fetchall() == [(OLD, 5, 2, 0), (NEW, 1, 1, 2)]


def test_what_a_submit_delivered_is_released(store: AnyStore, shell: Shell) -> None:
    third = uuid7()
    said: dict[str, Any] = {"store": "stable", "actor": "jane", "timestamp": TIME}
    store.run(create(third), submit.reuse(NEW, [ONE], timestamp=TIME))
    store.run(submit.reuse(third, [ONE, TWO], timestamp=TIME))
    act = release.create(uuid7(), submit=NEW, **said)
    paths = {one.uuid: one.path for one in store.run(report.artifacts())}
    assert sorted(paths[one] for one in store.run(act)) == ["one", "own"]
    # What is reused later is no part of what was released then.
    store.run(submit.reuse(NEW, [TWO], timestamp=later(1)))
    assert sorted(paths[one] for one in store.run(act)) == ["one", "own"]
    # Wholly reused: what is there already stays as it is.
    assert [paths[one] for one in store.run(release.create(uuid7(), submit=third, **said))] == [
        "two"
    ]
    done = shell("release", "testing", "--submit", str(third))
    assert (done.exit_code, done.stdout.count("released ")) == (0, 2)
    nothing = uuid7()
    store.run(create(nothing))
    with pytest.raises(NotFound, match=f"submit {nothing}: there is no artifact to release"):
        store.run(release.create(uuid7(), submit=nothing, **said))
