"""Which inputs of two jobs differ."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import create, ended, sha256

from butido_store import Store, artifact, job, report, uuid7
from butido_store.artifact import Output

WANTED: dict[str, Any] = {
    "package": "zlib",
    "version": "1.3",
    "image": "debian:12",
    "script": "#!/bin/sh\nmake\n",
}
ENV = {"LANG": "C.UTF-8", "CC": "gcc"}
VARIABLES = [f"{name}={value}" for name, value in ENV.items()]

# An input: its path, its content, and which of the jobs that made just this it is from.
INPUT = st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.sampled_from((0, 1)))
FILES = st.frozensets(INPUT, max_size=8)


@pytest.fixture
def store(dsn: str, schema: str) -> Iterator[Store]:
    """A store on the test's database."""
    with Store.connect(dsn, schema=schema) as store:
        yield store


@pytest.fixture
def makers(store: Store) -> tuple[UUID, dict[tuple[str, str, int], UUID], dict[str, str]]:
    """A submit, an artifact for each input, and which job made each."""
    of_submit, made, by = uuid7(), {}, {}
    jobs = []
    for path in "ab":
        for content in "xyz":
            for which in (0, 1):
                one, uuid = uuid7(), uuid7()
                made[path, content, which], by[str(uuid)] = uuid, str(one)
                output = Output(path, sha256(content), 1, uuid)
                jobs.append(ended(one, of_submit, package="gen", outputs=[output]))
    store.run(create(of_submit), job.record_all(jobs))
    return of_submit, made, by


def differences(old: frozenset[Any], new: frozenset[Any]) -> list[tuple[Any, ...]]:
    """Return path, old and new digest of what differs between two jobs' inputs."""
    found = []
    for path in "ab":
        before, after = (
            {sha256(content).hex() for one, content, _ in files if one == path}
            for files in (old, new)
        )
        gone, come = sorted(before - after), sorted(after - before)
        for place in range(max(len(gone), len(come))):
            found.append((path, *(dict(enumerate(side)).get(place) for side in (gone, come))))
    return found


def shown(files: list[report.ChangedFile]) -> list[tuple[Any, ...]]:
    return [(file["path"], file.get("old"), file.get("new")) for file in files]


@given(old=FILES, new=FILES)
def test_what_differs_is_what_one_job_read_and_the_other_did_not(
    store: Store, makers: Any, old: frozenset[Any], new: frozenset[Any]
) -> None:
    of_submit, made, by = makers
    package = str(uuid7())
    good, bad = (
        ended(
            uuid7(),
            of_submit,
            package=package,
            state=state,
            inputs=[made[file] for file in sorted(files)],
        )
        for state, files in (("success", old), ("error", new))
    )
    wanted = {**WANTED, "package": package}
    files = sorted({(path, sha256(content)) for path, content, _ in new})
    lines = [f"{digest.hex()}  {path}" for path, digest in files]
    reused, misses, history = (
        store.run(job.record(good), job.record(bad)),
        store.run(report.explain_miss(**wanted, env=VARIABLES, inputs=lines)),
        store.run(report.history(package)),
    )
    expected = differences(old, new)
    (miss,) = [one for one in misses if one.job_uuid == good.uuid]
    assert shown(miss.inputs or []) == expected
    assert shown(history[0].inputs) == expected
    # Jobs that are equal, and only these, have no difference.
    assert (miss.inputs is None) == (reused[0] == reused[1])
    found = store.run(artifact.reusable(**wanted, env=ENV, inputs=files))
    assert (found is not None) == (miss.inputs is None)
    for changed in history[0].inputs:
        if "new" in changed:
            content = next(c for c in "xyz" if sha256(c).hex() == changed["new"])
            read = {made[f] for f in new if f[:2] == (changed["path"], content)}
            assert changed["job"] in {by[str(uuid)] for uuid in read}
