"""Releases: given to a store, taken back, and kept from being deleted."""

from collections import Counter
from typing import Any
from uuid import UUID

import psycopg
import pytest
from conftest import AnyStore
from samples import TIME, create, finish, later, sha256, start

from butido_store import artifact, job, release, report, uuid7
from butido_store.artifact import Output
from butido_store.errors import Conflict, InvalidInput, NotFound

SUBMIT, GOOD, BAD, LIB, BIN, BROKEN, SOURCE, BROKEN_TOO = (UUID(int=n) for n in range(1, 9))
UNKNOWN = [UUID(int=98), UUID(int=99)]
BY: dict[str, Any] = {"store": "stable", "actor": "jane", "timestamp": TIME}


@pytest.fixture(autouse=True)
def _built(store: AnyStore) -> None:
    """A submit with a job that made two files, one that failed, and a source file."""
    store.run(
        create(SUBMIT),
        artifact.register("src", sha256=sha256("src"), size=3, uuid=SOURCE),
        start(GOOD, SUBMIT),
        finish(
            GOOD, outputs=[Output("lib", sha256("lib"), 3, LIB), Output("bin", sha256("b"), 1, BIN)]
        ),
        start(BAD, SUBMIT),
        finish(
            BAD,
            state="error",
            outputs=[
                Output("lib", sha256("broken"), 6, BROKEN),
                Output("bin", sha256("broken"), 6, BROKEN_TOO),
            ],
        ),
    )


def current(store: AnyStore) -> list[tuple[str, UUID]]:
    """Return what is in the release stores."""
    rows = store.run(report.releases())
    counted = {
        row.labels["store"]: row.value
        for row in store.run(report.metrics())
        if row.metric == "butido_releases"
    }
    assert {name: n for name, n in counted.items() if n} == Counter(row.store for row in rows)
    return sorted((row.store, row.artifact_uuid) for row in rows)


def test_artifacts_or_all_of_a_submit_are_released(store: AnyStore) -> None:
    one, all_ = uuid7(), uuid7()
    assert store.run(release.create(one, artifacts=[LIB, SOURCE], **BY)) == [LIB, SOURCE]
    # The failed job's file is none of it, and what is there already is left as it is.
    assert store.run(release.create(all_, submit=SUBMIT, **BY)) == [BIN]
    assert current(store) == [("stable", LIB), ("stable", BIN), ("stable", SOURCE)]
    assert store.run(release.create(uuid7(), submit=SUBMIT, **BY)) == []
    other = store.run(release.create(uuid7(), submit=SUBMIT, **(BY | {"store": "testing"})))
    assert other == [LIB, BIN]


def test_a_repeated_release_is_no_error_and_another_one_is(store: AnyStore) -> None:
    uuid, values = uuid7(), {**BY, "artifacts": [BIN, LIB]}
    for _ in range(2):
        assert store.run(release.create(uuid, **values)) == [LIB, BIN]
    changes: list[dict[str, Any]] = [
        {"actor": "joe"},
        {"store": "testing"},
        {"timestamp": later(1)},
        {"artifacts": [LIB]},
        {"artifacts": [LIB, BIN, SOURCE]},
    ]
    for change in changes:
        with pytest.raises(Conflict, match=f"{uuid} is in the store already, with other content"):
            store.run(release.create(uuid, **(values | change)))
    assert current(store) == [("stable", LIB), ("stable", BIN)]


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"artifacts": [LIB, BROKEN]}, Conflict, str(BROKEN)),
        ({"artifacts": [BROKEN_TOO, BROKEN, BIN]}, Conflict, f" {BROKEN}, {BROKEN_TOO} did not"),
        ({"artifacts": [LIB, UUID(int=99)]}, NotFound, str(UUID(int=99))),
        ({"artifacts": [*UNKNOWN[::-1], LIB]}, NotFound, f" {UNKNOWN[0]}, {UNKNOWN[1]} in"),
        ({"submit": UUID(int=99)}, NotFound, f"submit {UUID(int=99)}: there is no artifact"),
        ({}, InvalidInput, "either artifacts or submit"),
        ({"artifacts": [LIB], "submit": SUBMIT}, InvalidInput, "either artifacts or submit"),
        ({"artifacts": []}, InvalidInput, "artifacts is empty"),
        ({"artifacts": [LIB], "store": ""}, InvalidInput, "store"),
        ({"artifacts": [LIB], "actor": "x" * 1000}, InvalidInput, "actor"),
        ({"artifacts": ["lib"]}, InvalidInput, "artifacts"),
        ({"artifacts": [LIB], "timestamp": TIME.replace(tzinfo=None)}, InvalidInput, "timestamp"),
    ],
)
def test_all_or_none(
    store: AnyStore, given: dict[str, Any], error: type[Exception], says: str
) -> None:
    # Where the release store is unknown, that alone keeps the first attempt from writing.
    store.run(release.create(uuid7(), artifacts=[SOURCE], **BY))
    with pytest.raises(error, match=says):
        store.run(release.create(uuid7(), **(BY | given)))
    assert current(store) == [("stable", SOURCE)]


def test_what_is_withdrawn_stays_in_the_history(store: AnyStore) -> None:
    store.run(release.create(uuid7(), artifacts=[LIB, BIN], **BY))
    back = release.withdraw(
        store="stable", artifact=LIB, timestamp=later(5), actor="joe", reason="it leaks"
    )
    store.run(back)
    store.run(back)
    assert current(store) == [("stable", BIN)]
    (row,) = store.run(report.releases(artifact=LIB, history=True))
    assert (row.actor, row.timestamp, row.withdrawn_by, row.withdrawn_at, row.reason) == (
        "jane",
        TIME,
        "joe",
        later(5),
        "it leaks",
    )
    # Released again, it is there again; both times stay recorded.
    assert store.run(release.create(uuid7(), artifacts=[LIB], **BY)) == [LIB]
    assert len(store.run(report.releases(artifact=LIB, history=True))) == 2
    assert len(current(store)) == 2


def test_a_withdrawal_counts_once_and_another_one_again(store: AnyStore) -> None:
    for name, files in (("stable", [LIB]), ("stable", [BIN]), ("testing", [LIB]), ("old", [LIB])):
        store.run(release.create(uuid7(), artifacts=files, **(BY | {"store": name})))
    said = {**BY, "artifact": LIB, "timestamp": later(5), "reason": "it leaks"}

    def withdraw(**changes: Any) -> None:
        store.run(release.withdraw(**(said | changes)))

    withdraw()
    withdraw()
    withdraw(store="testing", reason="it is old")
    others: list[dict[str, Any]] = [
        {"timestamp": later(6)},
        {"actor": "joe"},
        {"reason": "it is old"},
        {"store": "testing"},
        {"artifact": SOURCE},
    ]
    for change in others:
        with pytest.raises(NotFound):
            withdraw(**change)
    assert current(store) == [("old", LIB), ("stable", BIN)]
    # In the same words, of another file, and from elsewhere.
    withdraw(artifact=BIN)
    withdraw(store="old")
    assert current(store) == []
    for change in others[:3]:
        again = BY | {"timestamp": later(7)}
        store.run(release.create(uuid7(), artifacts=[LIB], **again))
        # Repeated by a builder that had no answer.
        withdraw()
        assert current(store) == [("stable", LIB)]
        withdraw(**change)
        assert current(store) == []


def test_the_later_release_of_a_path_replaces_the_earlier(store: AnyStore) -> None:
    again, other = (uuid7(), uuid7()), uuid7()
    store.run(start(again[0], SUBMIT, script="2"))
    store.run(finish(again[0], outputs=[Output("lib", sha256("lib 2"), 3, again[1])]))
    store.run(release.create(uuid7(), artifacts=[LIB, BIN], **BY))
    store.run(release.create(other, artifacts=[LIB], **(BY | {"store": "testing"})))
    second = {**BY, "timestamp": later(5)}
    assert store.run(release.create(uuid7(), artifacts=[again[1]], **second)) == [again[1]]
    # Another path, and the same one elsewhere, stay.
    assert current(store) == sorted([("stable", BIN), ("stable", again[1]), ("testing", LIB)])
    history = store.run(report.releases(store="stable", artifact=LIB, history=True))
    assert [(one.replaced_at, one.withdrawn_at) for one in history] == [(later(5), None)]
    found = {one.uuid: one.released for one in store.run(report.find_artifact("zlib"))}
    assert found == {LIB: ["testing"], BIN: ["stable"], again[1]: ["stable"]}
    # Only what is there can be taken back. What it had replaced does not come back.
    taken = {**BY, "timestamp": later(6), "reason": "it leaks"}
    with pytest.raises(NotFound):
        store.run(release.withdraw(artifact=LIB, **taken))
    store.run(release.withdraw(artifact=again[1], **taken))
    assert current(store) == [("stable", BIN), ("testing", LIB)]
    # Released once more, it is there once more, in place of what was withdrawn.
    third = {**BY, "timestamp": later(7)}
    assert store.run(release.create(uuid7(), artifacts=[LIB], **third)) == [LIB]
    assert current(store) == [("stable", LIB), ("stable", BIN), ("testing", LIB)]
    # One that says that it was made before that never was the latest.
    store.run(release.create(uuid7(), artifacts=[again[1]], **second))
    assert current(store) == [("stable", LIB), ("stable", BIN), ("testing", LIB)]


def test_of_two_releases_at_once_the_later_uuid_counts(store: AnyStore) -> None:
    again = uuid7(), uuid7()
    store.run(start(again[0], SUBMIT, script="2"))
    store.run(finish(again[0], outputs=[Output("lib", sha256("lib 2"), 3, again[1])]))
    acts = uuid7(), uuid7()
    store.run(release.create(acts[1], artifacts=[LIB], **BY))
    store.run(release.create(acts[0], artifacts=[again[1]], **BY))
    assert current(store) == [("stable", LIB)]


def test_of_one_path_an_act_releases_the_later_artifact(store: AnyStore) -> None:
    again = uuid7(), uuid7()
    store.run(start(again[0], SUBMIT, script="2"))
    store.run(finish(again[0], outputs=[Output("lib", sha256("lib 2"), 3, again[1])]))
    both: dict[str, Any] = {**BY, "artifacts": [again[1], LIB]}
    one = release.create(uuid7(), **both)
    assert [store.run(one), store.run(one)] == [[again[1]]] * 2
    # It is there already, and the other one does not replace it.
    assert store.run(release.create(uuid7(), **(both | {"timestamp": later(5)}))) == []
    third = {**BY, "timestamp": later(6), "submit": SUBMIT}
    assert store.run(release.create(uuid7(), **third)) == [BIN]
    assert current(store) == [("stable", BIN), ("stable", again[1])]
    assert len(store.run(report.releases(history=True))) == 2


def test_a_release_has_the_path_of_its_artifact(
    store: AnyStore, connection: psycopg.Connection[tuple[object, ...]]
) -> None:
    store.run(release.create(uuid7(), artifacts=[LIB], **BY))
    with pytest.raises(psycopg.errors.ForeignKeyViolation, match="path_sha256"):
        connection.execute("UPDATE release SET path_sha256 = text_sha256('bin')")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"artifact": BIN}, NotFound),
        ({"store": "testing"}, NotFound),
        ({"reason": ""}, InvalidInput),
        ({"reason": "\0"}, InvalidInput),
    ],
)
def test_what_is_not_released_is_not_withdrawn(
    store: AnyStore, changes: dict[str, Any], error: type[Exception]
) -> None:
    store.run(release.create(uuid7(), artifacts=[LIB], **BY))
    values = {"artifact": LIB, "reason": "why", **BY} | changes
    with pytest.raises(error):
        store.run(release.withdraw(**values))
    assert current(store) == [("stable", LIB)]


def test_a_released_artifact_cannot_be_deleted(
    store: AnyStore, connection: psycopg.Connection[tuple[object, ...]]
) -> None:
    store.run(release.create(uuid7(), artifacts=[LIB], **BY))
    with pytest.raises(psycopg.errors.ForeignKeyViolation, match="release"):
        connection.execute("DELETE FROM artifact WHERE uuid = %s", [LIB])
    connection.execute("DELETE FROM artifact WHERE uuid = %s", [BIN])
    assert [row.uuid for row in store.run(job.outputs(GOOD))] == [LIB]
