"""Submits: written once, read back whole, listed newest first."""

from dataclasses import asdict
from typing import Any
from uuid import UUID

import psycopg
import pytest
from conftest import AnyStore
from samples import HASH, TIME, buildplan, create, later, tree

from butido_store import Store, report, submit, uuid7
from butido_store.errors import Conflict, NotFound, StoreError


def test_everything_that_was_given_comes_back(store: AnyStore) -> None:
    uuid, planned = uuid7(), uuid7()
    given_tree: Any = {**tree("zlib", "gcc"), "note": {"any": ["more", 1.5, None, True]}}
    store.run(
        create(
            uuid,
            tree=given_tree,
            buildplan=buildplan(planned),
            env={"A": "b=c", "E": ""},
            actor="jane",
            labels={"ci": "nightly", "note": "a=b\n"},
        )
    )
    found = store.run(submit.get(uuid))
    assert found == submit.SubmitDetail(
        uuid,
        TIME,
        "zlib",
        "1.3",
        "debian:12",
        HASH,
        "jane",
        {"ci": "nightly", "note": "a=b\n"},
        given_tree,
        buildplan(planned),
    )
    assert store.run(submit.env(uuid)) == {"A": "b=c", "E": ""}


def said_of(number: int) -> dict[str, Any]:
    """Return what is said of a submit, each of it different for each number."""
    return {
        "timestamp": later(number),
        "package": f"p{number}",
        "version": f"{number}",
        "image": f"i{number}",
        "repo_hash": f"{number}" * 40,
        "tree": tree(f"p{number}", "gcc"),
        "buildplan": buildplan(UUID(int=number)),
        "env": {"Z": f"{number}", f"O{number}": "", "BOTH": "same"},
        "actor": f"a{number}",
        "labels": {"k": f"{number}"},
    }


def test_each_of_several_is_what_was_said_of_it(store: AnyStore) -> None:
    several = {uuid7(): said_of(number) for number in range(3)}
    for uuid, said in several.items():
        store.run(create(uuid, **said))
    for uuid, said in several.items():
        store.run(create(uuid, **said))
        found = store.run(submit.get(uuid))
        expected = {name: said[name] for name in said if name != "env"}
        assert asdict(found) == {"uuid": uuid, **expected}
        assert [*store.run(submit.env(uuid)).items()] == sorted(said["env"].items())
    first, *_, other = several.values()
    for name in first:
        with pytest.raises(Conflict, match=f"content: {name}$"):
            store.run(create(next(iter(several)), **{**first, name: other[name]}))


def test_a_repetition_changes_nothing(store: AnyStore, connection: psycopg.Connection[Any]) -> None:
    statement = create(uuid7())
    store.run(statement)
    store.run(statement)
    counts = connection.execute(
        "SELECT (SELECT count(*) FROM submit), (SELECT count(*) FROM submitenvs)"
    ).fetchone()
    assert counts == (1, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"timestamp": later(1)},
        {"package": "other"},
        {"version": "1.4"},
        {"image": "other"},
        {"repo_hash": "0" * 40},
        {"tree": tree("zlib")},
        {"buildplan": buildplan(uuid7())},
        {"env": {"LANG": "C"}},
        {"env": {}},
        {"env": {"LANG": "C.UTF-8", "MORE": ""}},
        {"actor": "jane"},
        {"actor": None},
        {"labels": {"ci": "nightly", "more": ""}},
        {"labels": {"ci": ""}},
        {"labels": {}},
    ],
    ids=lambda change: "-".join(change),
)
def test_the_same_uuid_with_other_content_is_refused(
    store: AnyStore, change: dict[str, Any]
) -> None:
    uuid = uuid7()
    said = {"actor": "joe", "labels": {"ci": "nightly"}}
    store.run(create(uuid, **said))
    before = store.run(submit.get(uuid))
    with pytest.raises(Conflict, match=f"submit {uuid} .* content: {', '.join(change)}$"):
        store.run(create(uuid, **said | change))
    assert store.run(submit.get(uuid)) == before


@pytest.mark.parametrize("nothing", [{}, {"actor": None, "labels": None}, {"labels": {}}])
def test_of_whom_nothing_is_said_has_neither_actor_nor_labels(
    store: AnyStore, nothing: dict[str, Any], connection: psycopg.Connection[Any]
) -> None:
    uuid = uuid7()
    store.run(create(uuid, **nothing))
    store.run(create(uuid))
    found = store.run(submit.get(uuid))
    assert (found.actor, found.labels) == (None, None)
    (stored,) = connection.execute("SELECT actor, labels FROM submit_overview").fetchall()
    assert stored == (None, None)
    with pytest.raises(Conflict, match="content: actor, labels"):
        store.run(create(uuid, actor="joe", labels={"a": ""}))


def test_an_unknown_uuid_is_not_found(store: AnyStore) -> None:
    uuid = uuid7()
    with pytest.raises(NotFound, match=f"no submit {uuid}"):
        store.run(submit.get(uuid))


@pytest.mark.parametrize(
    "document", ["[" * 4000 + "]" * 4000, "1e5000"], ids=["deep", "a number of 5,000 digits"]
)
def test_a_tree_that_python_cannot_hold_is_told(
    store: AnyStore, connection: psycopg.Connection[Any], document: str
) -> None:
    uuid, other = uuid7(), uuid7()
    store.run(create(uuid), create(other))
    connection.execute(
        "UPDATE submit SET tree = tree || jsonb_build_object('more', %s::jsonb) WHERE uuid = %s",
        [document, uuid],
    )
    with pytest.raises(StoreError, match="JSON document is more than can be read"):
        store.run(submit.get(uuid))
    with pytest.raises(StoreError, match="JSON document is more than can be read"):
        store.run(submit.get(other), submit.get(uuid))
    assert store.run(submit.get(other)).uuid == other
    callers = Store(connection)
    with connection.transaction():
        callers.run(create(third := uuid7()))
        with pytest.raises(StoreError, match="JSON document is more than can be read"):
            callers.run(submit.get(uuid))
        assert callers.run(submit.get(third)).uuid == third
    assert store.run(submit.get(third)).uuid == third
    # What shows no tree is none the worse.
    assert {found.uuid for found in store.run(report.submits(with_pkg="gcc"))} == {
        *(uuid, other, third),
    }


def test_a_list_has_the_newest_first_and_goes_on_where_the_page_ended(store: AnyStore) -> None:
    uuids = [uuid7() for _ in range(5)]
    # Two have the same time: the uuid decides.
    for uuid, seconds in zip(uuids, [0, 1, 1, 2, 3], strict=True):
        store.run(create(uuid, timestamp=later(seconds)))
    expected = sorted(zip([later(s) for s in (0, 1, 1, 2, 3)], uuids, strict=True), reverse=True)
    seen: list[submit.Submit] = []
    while page := store.run(report.submits(limit=2, before=seen[-1].uuid if seen else None)):
        assert len(page) <= 2
        seen += page
    assert [(found.timestamp, found.uuid) for found in seen] == expected
    assert store.run(report.submits(limit=None)) == seen


@pytest.mark.parametrize(
    ("mine", "filters"),
    [
        ({"package": "curl"}, {"for_pkg": "curl"}),
        ({"version": "9"}, {"for_version": "9"}),
        ({"image": "alpine"}, {"image": "alpine"}),
        ({"repo_hash": "1" * 64}, {"commit": "1" * 64}),
        ({"tree": tree("zlib", "make")}, {"with_pkg": "make"}),
        ({"tree": tree("zlib", "make")}, {"with_pkg": "make", "with_version": "1.0"}),
        ({"actor": "jane"}, {"actor": "jane"}),
        ({"labels": {"ci": "nightly", "a": "=b"}}, {"label": ["ci=nightly"]}),
        ({"labels": {"ci": "nightly", "a": "=b"}}, {"label": ["a==b", "ci=nightly", "a==b"]}),
        ({"timestamp": later(10)}, {"newer_than": later(10)}),
        ({"timestamp": later(-10)}, {"older_than": later(-9)}),
        (
            {"package": "curl", "version": "9", "timestamp": later(10)},
            {
                "for_pkg": "curl",
                "for_version": "9",
                "newer_than": later(9),
                "older_than": later(11),
            },
        ),
    ],
)
def test_a_filter_keeps_what_it_names(
    store: AnyStore, mine: dict[str, Any], filters: dict[str, Any]
) -> None:
    uuid = uuid7()
    store.run(create(uuid7()))
    store.run(create(uuid, **mine))
    assert [found.uuid for found in store.run(report.submits(**filters))] == [uuid]


def test_labels_must_all_hold(store: AnyStore) -> None:
    store.run(create(uuid7(), labels={"ci": "nightly", "a": ""}), create(uuid7()))
    some: list[tuple[report.Texts, int]] = [
        (["ci=nightly", "a="], 1),
        (("a=",), 1),
        ([], 2),
        (["ci=night"], 0),
        (["ci=nightly", "b="], 0),
        # No submit has two values of one key.
        (["ci=nightly", "ci=other"], 0),
        (["ci=other", "ci=nightly"], 0),
    ]
    for label, found in some:
        assert len(store.run(report.submits(label=label))) == found, label
