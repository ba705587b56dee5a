"""Files as values: outputs made from files, and artifacts that go on from one job to the next."""

import hashlib
import os
import tracemalloc
from pathlib import Path
from uuid import UUID

import pytest
from conftest import AnyStore
from samples import TIME, create, ended, sha256, start

from butido_store import artifact, job, release, uuid7
from butido_store.artifact import Output
from butido_store.errors import InvalidInput


@pytest.fixture
def of_submit(store: AnyStore) -> UUID:
    """The uuid of a submit that is there."""
    uuid = uuid7()
    store.run(create(uuid))
    return uuid


def test_an_output_is_what_the_file_holds(tmp_path: Path) -> None:
    file = tmp_path / "built"
    for content in (b"", b"\0\xff" * 300_000):
        file.write_bytes(content)
        made = Output.from_file(file, "lib/built")
        digest = hashlib.sha256(content).digest()
        assert made == Output("lib/built", digest, len(content), made.uuid)
        assert Output.from_file(str(file), "lib/built").uuid != made.uuid


def test_the_size_is_of_what_was_read() -> None:
    """A file that tells another size, as one does that grows meanwhile."""
    file = Path("/proc/version")
    if not file.exists():
        pytest.skip("no file here tells a wrong size")
    assert file.stat().st_size == 0
    assert Output.from_file(file, "version").size == len(file.read_bytes())


def test_a_large_file_takes_little_memory(tmp_path: Path) -> None:
    file = tmp_path / "large"
    with open(file, "wb") as sink:
        os.truncate(sink.fileno(), 64 << 20)
    tracemalloc.start()
    try:
        assert Output.from_file(file, "large").size == 64 << 20
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_path_or_file_that_is_none_is_refused(tmp_path: Path) -> None:
    for path in ("", "a\0b"):
        with pytest.raises(InvalidInput, match="path"):
            Output.from_file(__file__, path)
    with pytest.raises(FileNotFoundError):
        Output.from_file(tmp_path / "none", "none")


def test_an_artifact_is_an_input_as_its_uuid_is(store: AnyStore, of_submit: UUID) -> None:
    one, two = (
        store.run(artifact.register(path, sha256=sha256(path), size=3)) for path in ("one", "two")
    )
    by_uuid, started, recorded, many = (uuid7() for _ in range(4))
    print_of = store.run(start(by_uuid, of_submit, inputs=[one.uuid, two.uuid]))
    assert store.run(start(started, of_submit, inputs=[one, two.uuid])) == print_of
    assert store.run(job.record(ended(recorded, of_submit, inputs=(two, one)))) == print_of
    assert store.run(job.record_all([ended(many, of_submit, inputs=[one, two])])) == [print_of]
    for uuid in (by_uuid, started, recorded, many):
        assert store.run(job.inputs(uuid)) == [one, two]


def test_the_artifact_that_a_job_made_is_what_reuse_gives(store: AnyStore, of_submit: UUID) -> None:
    source = store.run(artifact.register("src", sha256=sha256("src"), size=3))
    uuid = uuid7()
    store.run(start(uuid, of_submit, inputs=[source]))
    outputs = [Output(path, sha256(path), 1) for path in ("b", "é", "a", "😀", "Z")]
    end = job.finish(uuid, state="success", finished_at=TIME, outputs=outputs)
    made = store.run(end)
    assert {each.uuid for each in made} == {each.uuid for each in outputs}
    # The second time it says what is there.
    assert store.run(end) == made
    for inputs in ([source], [("src", sha256("src"))]):
        found = store.run(
            artifact.reusable(
                package="zlib",
                version="1.3",
                image="debian:12",
                script="#!/bin/sh\nmake\n",
                env={"CC": "gcc", "LANG": "C.UTF-8"},
                inputs=inputs,
            )
        )
        assert found is not None
        assert (found.job_uuid, found.outputs) == (uuid, made)
    assert store.run(job.outputs(uuid)) == [*made]


def test_an_artifact_is_released_as_its_uuid_is(store: AnyStore) -> None:
    one, two = (
        store.run(artifact.register(path, sha256=sha256(path), size=3)) for path in ("one", "two")
    )
    act = release.create(
        uuid7(), store="stable", timestamp=TIME, actor="me", artifacts=[one, two.uuid]
    )
    assert {*store.run(act)} == {one.uuid, two.uuid}


@pytest.mark.parametrize("wrong", ["str", "artifact", "uuid", "twice"])
def test_what_is_no_list_of_inputs_is_refused_at_once(wrong: str) -> None:
    one = artifact.Artifact(uuid7(), "a", sha256("a"), 1, None)
    inputs = {"str": ["a"], "artifact": one, "uuid": one.uuid, "twice": [one, one.uuid]}[wrong]
    with pytest.raises(InvalidInput, match=r"^inputs"):
        start(uuid7(), uuid7(), inputs=inputs)
    with pytest.raises(InvalidInput, match=r"^inputs"):
        job.record(ended(uuid7(), uuid7(), inputs=inputs))
