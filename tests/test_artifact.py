"""Artifacts: identified by path and content, and offered for reuse only when that is right."""

from typing import Any
from uuid import UUID

import psycopg
import pytest
from conftest import AnyStore
from samples import create, ended, finish, later, sha256, start

from butido_store import artifact, job, report, uuid7
from butido_store.artifact import Output, Reuse
from butido_store.errors import Conflict, NotFound

ASKED: dict[str, Any] = {
    "package": "zlib",
    "version": "1.3",
    "image": "debian:12",
    "script": "#!/bin/sh\nmake\n",
    "env": {"CC": "gcc", "LANG": "C.UTF-8"},
    "inputs": [("src", sha256("src"))],
}


@pytest.fixture
def of_submit(store: AnyStore) -> UUID:
    """The uuid of a submit that is there."""
    uuid = uuid7()
    store.run(create(uuid))
    return uuid


def register(store: AnyStore, path: str, content: str) -> UUID:
    """Register a file and return its uuid."""
    return store.run(artifact.register(path, sha256=sha256(content), size=len(content))).uuid


def test_a_file_is_one_artifact_per_path_and_content(store: AnyStore) -> None:
    first = register(store, "src", "a")
    assert register(store, "src", "a") == first
    assert register(store, "src", "b") != first
    assert register(store, "other", "a") != first
    with pytest.raises(Conflict, match="1 bytes, not 2"):
        store.run(artifact.register("src", sha256=sha256("a"), size=2))


def test_what_a_job_made_is_no_file_from_outside(store: AnyStore, of_submit: UUID) -> None:
    made = Output("src", sha256("a"), 1)
    store.run(job.record(ended(uuid7(), of_submit, outputs=[made])))
    outside = register(store, "src", "a")
    assert outside != made.uuid
    assert register(store, "src", "a") == outside


def test_every_job_keeps_pointing_at_what_it_read(store: AnyStore, of_submit: UUID) -> None:
    before, after = uuid7(), uuid7()
    store.run(start(before, of_submit, inputs=[register(store, "src", "old")]))
    store.run(start(after, of_submit, inputs=[register(store, "src", "new")]))
    assert [a.sha256 for a in store.run(job.inputs(before))] == [sha256("old")]
    assert [a.sha256 for a in store.run(job.inputs(after))] == [sha256("new")]


def test_the_same_path_is_built_again(store: AnyStore, of_submit: UUID) -> None:
    made = []
    for _ in range(2):
        uuid = uuid7()
        store.run(start(uuid, of_submit))
        (built,) = store.run(finish(uuid, "zlib.tar"))
        made.append(built.uuid)
    assert len(set(made)) == 2
    assert [a.uuid for a in store.run(report.artifacts(path="zlib.tar"))] == made[::-1]


def test_find_by_path_and_content(store: AnyStore) -> None:
    a, b, c = (
        register(store, "p", "1"),
        register(store, "p", "2"),
        register(store, "q", "1"),
    )
    assert [x.uuid for x in store.run(report.artifacts(path="p"))] == [b, a]
    assert [x.uuid for x in store.run(report.artifacts(sha256=sha256("1")))] == [c, a]
    assert [x.uuid for x in store.run(report.artifacts(path="p", sha256=sha256("1")))] == [a]
    first = store.run(report.artifacts(limit=1))[0]
    assert [x.uuid for x in store.run(report.artifacts(before=first.uuid))] == [b, a]
    assert store.run(artifact.get(a)).path == "p"
    with pytest.raises(NotFound):
        store.run(artifact.get(uuid7()))


def test_only_a_successful_job_is_offered_with_all_its_outputs(
    store: AnyStore, of_submit: UUID
) -> None:
    inputs = [register(store, "src", "src")]
    for state in ("running", "error", "lost"):
        uuid = uuid7()
        store.run(start(uuid, of_submit, inputs=inputs))
        if state != "running":
            store.run(finish(uuid, "half", state=state))
        assert store.run(artifact.reusable(**ASKED)) is None
    uuid = uuid7()
    store.run(start(uuid, of_submit, inputs=inputs))
    store.run(finish(uuid, "b", "a"))
    found = store.run(artifact.reusable(**ASKED))
    assert found is not None
    assert (found.job_uuid, [a.path for a in found.outputs]) == (uuid, ["a", "b"])
    assert found.outputs == tuple(store.run(job.outputs(uuid)))


def test_the_newest_of_several_is_offered_even_without_outputs(
    store: AnyStore, of_submit: UUID
) -> None:
    inputs = [register(store, "src", "src")]
    newest = uuid7()
    store.run(job.record(ended(newest, of_submit, inputs=inputs, started_at=later(9))))
    store.run(job.record(ended(uuid7(), of_submit, inputs=inputs, started_at=later(8))))
    assert store.run(artifact.reusable(**ASKED)) == Reuse(newest, later(60), ())
    # Of those that started together the last one by uuid, whichever was recorded last.
    last = uuid7()
    for uuid in (last, UUID(int=1)):
        store.run(job.record(ended(uuid, of_submit, inputs=inputs, started_at=later(9))))
    assert store.run(artifact.reusable(**ASKED)) == Reuse(last, later(60), ())


@pytest.mark.parametrize(
    "change",
    [
        {"package": "zlib2"},
        {"version": "1.3.1"},
        {"image": "debian:13"},
        {"script": "make"},
        {"env": {"CC": "gcc"}},
        {"env": {"CC": "gcc", "LANG": "C"}},
        {"env": {"CC": "gcc", "LANG": "C.UTF-8", "MORE": ""}},
        {"inputs": []},
        {"inputs": [("src", sha256("other"))]},
        {"inputs": [("other", sha256("src"))]},
        {"inputs": [("src", sha256("src")), ("more", sha256("more"))]},
    ],
    ids=str,
)
def test_whatever_differs_is_no_reuse(
    store: AnyStore, of_submit: UUID, change: dict[str, Any]
) -> None:
    inputs = [register(store, "src", "src")]
    store.run(job.record(ended(uuid7(), of_submit, inputs=inputs)))
    assert store.run(artifact.reusable(**ASKED)) is not None
    assert store.run(artifact.reusable(**ASKED | change)) is None


@pytest.mark.parametrize("stored", [sha256("image"), None], ids=["known", "unknown"])
def test_only_an_equal_digest_of_the_image_is_reuse(
    store: AnyStore, of_submit: UUID, stored: bytes | None
) -> None:
    inputs = [register(store, "src", "src")]
    store.run(job.record(ended(uuid7(), of_submit, inputs=inputs, image_sha256=stored)))
    for asked in (sha256("image"), sha256("moved"), None):
        found = store.run(artifact.reusable(**ASKED, image_sha256=asked))
        assert (found is not None) == (asked == stored)


def test_a_rebuilt_dependency_is_no_reuse_but_the_same_content_is(
    store: AnyStore, of_submit: UUID
) -> None:
    made = Output("src", sha256("src"), 3)
    store.run(
        job.record_all(
            [
                ended(uuid7(), of_submit, package="dependency", outputs=[made]),
                ended(uuid7(), of_submit, inputs=[made.uuid]),
            ]
        )
    )
    # From outside or made by a job: what counts is path and content.
    assert store.run(artifact.reusable(**ASKED)) is not None
    rebuilt = ASKED | {"inputs": [("src", sha256("rebuilt"))]}
    assert store.run(artifact.reusable(**rebuilt)) is None


def test_provenance_goes_down_to_the_sources_each_once(store: AnyStore, of_submit: UUID) -> None:
    source = register(store, "src", "src")
    base, left, right, top = (Output(name, sha256(name), 1) for name in ("base", "l", "r", "top"))
    # A diamond: both sides need the base, the top needs both, and the source too.
    needs = [
        (base, [source]),
        (left, [base.uuid]),
        (right, [base.uuid]),
        (top, [left.uuid, right.uuid, source]),
    ]
    store.run(
        job.record_all(
            ended(uuid7(), of_submit, package=output.path, inputs=inputs, outputs=[output])
            for output, inputs in needs
        )
    )
    found = store.run(report.provenance(top.uuid))
    assert [a.path for a in found] == ["top", "base", "l", "r", "src"]
    assert sorted(found[0].inputs) == sorted([left.uuid, right.uuid, source])
    (alone,) = store.run(report.provenance(source))
    assert (alone.uuid, alone.inputs, alone.package) == (source, [], None)


@pytest.mark.parametrize("values", ["'', '{NULL}'", "'', '{a,NULL}'", "'', NULL", "NULL, '{}'"])
def test_with_something_unknown_there_is_no_fingerprint(
    connection: psycopg.Connection[tuple[object, ...]], values: str
) -> None:
    call = f"SELECT job_fingerprint('p', '1', 'i', NULL, 's', {values})"
    assert connection.execute(call.encode()).fetchone() == (None,)


@pytest.mark.parametrize("swapped", [False, True])
def test_files_are_told_apart_by_path_and_content(
    connection: psycopg.Connection[tuple[object, ...]], swapped: bool
) -> None:
    """Two files of one path, in any order; and which content has which path."""
    call = "SELECT job_fingerprint('p', '1', 'i', NULL, 's', '', %s)"

    def fingerprint(*files: str) -> object:
        return connection.execute(call, [[*reversed(files)] if swapped else [*files]]).fetchone()

    prints = [fingerprint(*files) for files in (("1  a",), ("2  a",), ("1  a", "2  a"))]
    prints += [fingerprint("1  a", "2  b"), fingerprint("2  a", "1  b"), fingerprint()]
    assert len(set(prints)) == len(prints)
    assert fingerprint("1  a", "2  b") == fingerprint("2  b", "1  a")
