"""Bad input is refused before anything is written, with one error that names the field."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from conftest import AnyStore
from hypothesis import given
from hypothesis import strategies as st
from samples import create, ended, finish, sha256, start, tree

from butido_store import artifact, job, report, submit, uuid7
from butido_store._statement import Statement
from butido_store.artifact import Output
from butido_store.errors import InvalidInput, NotFound

NAIVE = datetime(2026, 1, 1)
NODE = {"name": "a", "version": "1", "dependencies": []}
PLANNED = {"uuid": str(uuid4()), "package": "a", "version": "1", "needs": []}


@pytest.mark.parametrize(
    ("field", "call"),
    [
        ("package", lambda: create(uuid7(), package="")),
        ("version", lambda: create(uuid7(), version="")),
        ("image", lambda: create(uuid7(), image="")),
        ("image", lambda: create(uuid7(), image="x" * 513)),
        ("package", lambda: create(uuid7(), package="x" * 256)),
        ("package", lambda: create(uuid7(), package="a\0")),
        ("package", lambda: create(uuid7(), package="a\ud800")),
        ("package", lambda: create(uuid7(), package=1)),
        ("uuid", lambda: create(str(uuid7()))),  # type: ignore[arg-type]
        ("timestamp", lambda: create(uuid7(), timestamp=NAIVE)),
        ("timestamp", lambda: create(uuid7(), timestamp="2026-01-01")),
        ("repo_hash", lambda: create(uuid7(), repo_hash="abc")),
        ("repo_hash", lambda: create(uuid7(), repo_hash="A" * 40)),
        ("env", lambda: create(uuid7(), env={"": "x"})),
        ("env", lambda: create(uuid7(), env={"A=B": "x"})),
        ("env", lambda: create(uuid7(), env={"A\0": "x"})),
        ("env", lambda: create(uuid7(), env=["A=B"])),
        (r"env\['A'\]", lambda: create(uuid7(), env={"A": "x\0y"})),
        (r"env\['A'\]", lambda: create(uuid7(), env={"A": "\udcff"})),
        (r"env\['A'\]", lambda: create(uuid7(), env={"A": None})),
        ("tree", lambda: create(uuid7(), tree={"root": 0})),
        ("tree", lambda: create(uuid7(), tree=[])),
        ("tree", lambda: create(uuid7(), tree={"root": 1, "nodes": [NODE]})),
        ("tree", lambda: create(uuid7(), tree={"root": True, "nodes": [NODE, NODE]})),
        ("tree", lambda: create(uuid7(), tree={"root": 0, "nodes": [{"name": "a"}]})),
        ("tree", lambda: create(uuid7(), tree={"root": 0, "nodes": [["a"]]})),
        (
            "tree",
            lambda: create(uuid7(), tree={"root": 0, "nodes": [NODE | {"dependencies": [1]}]}),
        ),
        (
            "tree.*cycle",
            lambda: create(uuid7(), tree={"root": 0, "nodes": [NODE | {"dependencies": [0]}]}),
        ),
        ("tree.*NUL", lambda: create(uuid7(), tree={"root": 0, "nodes": [NODE | {"x": ["\0"]}]})),
        ("tree.*NUL", lambda: create(uuid7(), tree={"root": 0, "nodes": [NODE], "\\\0": 1})),
        ("tree.*key 1", lambda: create(uuid7(), tree={"root": 0, "nodes": [NODE], 1: 1})),
        ("tree", lambda: create(uuid7(), tree={"root": 0, "nodes": [NODE], "x": float("nan")})),
        ("tree", lambda: create(uuid7(), tree={"root": 0, "nodes": [NODE], "x": "\ud800"})),
        ("tree", lambda: create(uuid7(), tree={"root": 0, "nodes": [NODE], "x": object()})),
        ("buildplan", lambda: create(uuid7(), buildplan={})),
        ("buildplan", lambda: create(uuid7(), buildplan={"jobs": [PLANNED | {"uuid": "x"}]})),
        ("buildplan", lambda: create(uuid7(), buildplan={"jobs": [PLANNED | {"needs": ["x"]}]})),
        ("buildplan", lambda: create(uuid7(), buildplan={"jobs": [PLANNED | {"package": ""}]})),
        ("buildplan.*NUL", lambda: create(uuid7(), buildplan={"jobs": [], "x": "\0"})),
        ("endpoint", lambda: start(uuid7(), uuid7(), endpoint="")),
        ("script", lambda: start(uuid7(), uuid7(), script="a\0")),
        ("script", lambda: start(uuid7(), uuid7(), script="\udcff")),
        ("started_at", lambda: start(uuid7(), uuid7(), started_at=NAIVE)),
        ("container_hash", lambda: start(uuid7(), uuid7(), container_hash="")),
        ("inputs", lambda: start(uuid7(), uuid7(), inputs=["src"])),
        ("inputs", lambda: start(uuid7(), uuid7(), inputs=[UUID(int=1)] * 2)),
        ("finished_at", lambda: finish(uuid7(), finished_at=NAIVE)),
        ("state", lambda: finish(uuid7(), state="running")),
        ("state", lambda: finish(uuid7(), state="done")),
        ("outputs.*twice", lambda: finish(uuid7(), "a", "a")),
        ("path", lambda: finish(uuid7(), "")),
        ("path", lambda: finish(uuid7(), "a\0")),
        ("path", lambda: finish(uuid7(), outputs=[Output("\udcff", sha256("a"), 1)])),
        ("sha256.*'a'", lambda: finish(uuid7(), outputs=[Output("a", b"x" * 31, 1)])),
        ("sha256", lambda: finish(uuid7(), outputs=[Output("a", "x" * 64, 1)])),  # type: ignore[arg-type]
        ("size", lambda: finish(uuid7(), outputs=[Output("a", sha256("a"), -1)])),
        ("size", lambda: finish(uuid7(), outputs=[Output("a", sha256("a"), 2**63)])),
        ("finished_at", lambda: job.record(ended(uuid7(), uuid7(), finished_at=NAIVE))),
        ("state", lambda: job.record(ended(uuid7(), uuid7(), state="running"))),
        ("uuid", lambda: job.record_all([ended(UUID(int=1), uuid7())] * 2)),
        ("seq", lambda: job.append_log(uuid7(), seq=-1, data="")),
        ("sha256", lambda: artifact.register("p", sha256=b"", size=0)),
        ("path", lambda: artifact.register("", sha256=sha256(""), size=0)),
        ("data", lambda: job.append_log(uuid7(), seq=0, data=5)),  # type: ignore[arg-type]
        ("silent_for", lambda: job.sweep(silent_for=60)),  # type: ignore[arg-type]
    ],
)
def test_the_error_names_the_field(field: str, call: Any) -> None:
    with pytest.raises(InvalidInput, match=field):
        call()


def test_a_literal_backslash_u0000_is_no_nul(store: AnyStore) -> None:
    uuid, text = uuid7(), "a literal \\u0000 and \\\\u0000"
    store.run(create(uuid, tree={**tree("a"), "note": text}))
    assert {**store.run(submit.get(uuid)).tree}["note"] == text


@given(text=st.text(st.characters(exclude_categories=[]), max_size=20))
def test_a_document_is_refused_or_kept_whole(text: str) -> None:
    storable = "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text)
    try:
        create(uuid7(), tree={**tree("a"), "x": text, "y": {text: 1}})
    except InvalidInput:
        assert not storable
    else:
        assert storable


def test_a_long_environment_value_and_path_are_stored(store: AnyStore) -> None:
    of_submit, uuid = uuid7(), uuid7()
    store.run(create(of_submit))
    # Random enough that compression does not save a B-tree.
    value = "".join(sha256(str(n)).hex() for n in range(1600))
    path = "/".join(sha256(str(n)).hex() for n in range(62))[:4000]
    assert (len(value) > 100_000, len(path)) == (True, 4000)
    store.run(start(uuid, of_submit, env={"LONG": value, "LONG2": value}))
    store.run(finish(uuid, path))
    assert store.run(job.env(uuid)) == {"LONG": value, "LONG2": value}
    assert [a.path for a in store.run(report.artifacts(path=path))] == [path]
    assert [j.uuid for j in store.run(report.jobs(env=f"LONG={value}"))] == [uuid]


def test_a_refused_statement_of_several_leaves_nothing(
    store: AnyStore, connection: psycopg.Connection[Any]
) -> None:
    of_submit = uuid7()
    statements: list[Statement[object]] = [
        create(of_submit),
        start(uuid7(), of_submit, env={"NEW": "1"}),
        start(uuid7(), of_submit, inputs=[uuid7()]),
    ]
    with pytest.raises(NotFound, match="inputs"):
        store.run(*statements)
    row = connection.execute("SELECT (SELECT count(*) FROM submit), (SELECT count(*) FROM job)")
    assert row.fetchone() == (0, 0)


def test_a_tree_of_60000_nodes_with_shared_dependencies(
    store: AnyStore, connection: psycopg.Connection[Any]
) -> None:
    uuid = uuid7()
    nodes = [
        {"name": f"p{n}", "version": f"{n}.0", "dependencies": [n // 2, n - 1, n // 3] if n else []}
        for n in range(60_000)
    ]
    store.run(create(uuid, tree={"root": 59_999, "nodes": nodes}))
    found = connection.execute(
        "SELECT uuid FROM submit WHERE tree_packages(tree) @> ARRAY['p777 777.0']"
    ).fetchall()
    assert found == [(uuid,)]
    assert store.run(submit.get(uuid)).tree["nodes"] == nodes
