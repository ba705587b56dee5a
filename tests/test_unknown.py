"""Files whose content nobody knows, as a record from another store has them: they match nothing."""

import re
from typing import Any
from uuid import UUID

import psycopg
import pytest
from commandline import Shell, Terminal
from conftest import AnyStore
from samples import create, ended, later, sha256, start

from butido_store import Store, artifact, build, job, report, uuid7
from butido_store.artifact import Artifact, Output
from butido_store.errors import Conflict, InvalidInput, NotFound

Connection = psycopg.Connection[tuple[object, ...]]
SUBMIT, OLD, MADE, SOURCE, NEW = (UUID(int=n) for n in range(1, 6))
KNOWN = ("known", sha256("known"))
ASKED: dict[str, Any] = {
    "package": "zlib",
    "version": "1.3",
    "image": "debian:12",
    "script": "#!/bin/sh\nmake\n",
    "env": {"LANG": "C.UTF-8", "CC": "gcc"},
}


@pytest.fixture(autouse=True)
def _imported(store: AnyStore, connection: Connection) -> None:
    """A source file and an output that an importer has written, who had no more of them."""
    store.run(create(SUBMIT), job.record(ended(OLD, SUBMIT)))
    connection.execute(
        "INSERT INTO artifact (uuid, job_uuid, path) VALUES (%s, %s, 'lib.a'), (%s, NULL, 'src')",
        [MADE, OLD, SOURCE],
    )


def known(store: AnyStore) -> Artifact:
    """Register a file whose content is known."""
    return store.run(artifact.register(KNOWN[0], sha256=KNOWN[1], size=5))


@pytest.mark.parametrize("unknown", [SOURCE, MADE])
def test_a_job_that_reads_one_has_no_fingerprint(store: AnyStore, unknown: UUID) -> None:
    inputs = [known(store), unknown]
    for statement in (
        start(uuid7(), SUBMIT, inputs=inputs),
        job.record(ended(uuid7(), SUBMIT, inputs=inputs)),
    ):
        # A repeated one finds the same.
        assert [store.run(statement), store.run(statement)] == [None, None]
    of_another = Output("made", sha256("made"), 1)
    jobs = [
        ended(uuid7(), SUBMIT, inputs=inputs, outputs=[of_another]),
        ended(uuid7(), SUBMIT, inputs=[of_another.uuid, unknown]),
        ended(uuid7(), SUBMIT, inputs=[of_another.uuid, inputs[0]]),
    ]
    assert [one is None for one in store.run(job.record_all(jobs))] == [True, True, False]
    assert [one is None for one in store.run(job.record_all(jobs))] == [True, True, False]
    assert {one.uuid for one in store.run(job.inputs(jobs[1].uuid))} == {unknown, of_another.uuid}
    assert store.run(job.get(jobs[1].uuid)).fingerprint is None
    with pytest.raises(Conflict, match="script"):
        store.run(job.record(ended(jobs[1].uuid, SUBMIT, inputs=jobs[1].inputs, script="other")))


def test_one_that_is_missing_is_told_from_one_that_is_unknown(store: AnyStore) -> None:
    missing = uuid7()
    for statement in (
        start(NEW, SUBMIT, inputs=[SOURCE, missing]),
        job.record(ended(NEW, SUBMIT, inputs=[SOURCE, missing])),
        job.record_all([ended(uuid7(), SUBMIT), ended(NEW, SUBMIT, inputs=[SOURCE, missing])]),
    ):
        with pytest.raises(NotFound, match=f"there is no artifact {missing} in"):
            store.run(statement)
    assert [one.uuid for one in store.run(report.jobs())] == [OLD]


@pytest.mark.parametrize("unknown", [SOURCE, MADE])
def test_what_was_built_from_one_is_not_reused(
    store: AnyStore, unknown: UUID, dsn: str, schema: str
) -> None:
    file = store.run(artifact.get(unknown))
    assert (file.sha256, file.size) == (None, None)
    inputs = [known(store), file]
    store.run(job.record(ended(NEW, SUBMIT, inputs=inputs)))
    assert store.run(artifact.reusable(inputs=inputs, **ASKED)) is None
    with Store.connect(dsn, schema=schema) as own:
        todo = build(own, uuid7(), submit=SUBMIT, endpoint="e", inputs=inputs, **ASKED)
        assert own.run(todo.reusable()) is None
    with pytest.raises(InvalidInput, match=r"inputs\['src'\]"):
        artifact.reusable(inputs=[("src", None)], **ASKED)  # type: ignore[list-item]
    # What was made is reused all the same, though not all is known of it.
    found = store.run(artifact.reusable(inputs=[], **ASKED))
    assert found
    assert found.outputs == (Artifact(MADE, "lib.a", None, None, OLD),)


def test_a_size_that_is_unknown_differs_from_none(store: AnyStore, connection: Connection) -> None:
    connection.execute("UPDATE artifact SET sha256 = %s WHERE uuid = %s", [sha256("src"), SOURCE])
    found = store.run(artifact.register("src", sha256=sha256("src"), size=3))
    assert found == Artifact(SOURCE, "src", sha256("src"), None, None)


def test_what_is_unknown_neither_equals_nor_differs(
    store: AnyStore, connection: Connection
) -> None:
    def record(content: str, at: int, **changes: Any) -> UUID:
        uuid = uuid7()
        made = Output("lib.a", sha256(content), 1)
        one = ended(uuid, SUBMIT, started_at=later(at), outputs=[made], **changes)
        store.run(job.record(one))
        return uuid

    # Jobs that read what is unknown are not known to have done the same.
    record("a", 2, inputs=[SOURCE])
    record("b", 3, inputs=[SOURCE])
    one = record("a", 4)
    # The imported one has done this, and made nobody knows what.
    assert store.run(report.irreproducible()) == []
    other = record("b", 5)
    (found,) = store.run(report.irreproducible())
    assert found.contents == 2
    assert found.jobs == [
        {"job": str(uuid), "sha256": sha256(content).hex()}
        for uuid, content in ((one, "a"), (other, "b"))
    ]


def test_a_miss_says_that_a_content_is_unknown(store: AnyStore) -> None:
    store.run(job.record(ended(NEW, SUBMIT, inputs=[SOURCE])))
    asked = {**ASKED, "env": ["LANG=C.UTF-8", "CC=gcc"], "package": "zlib"}
    wanted = f"{sha256('src').hex()}  src"
    found = {
        miss.job_uuid: miss for miss in store.run(report.explain_miss(inputs=[wanted], **asked))
    }
    assert found[NEW].inputs == [{"path": "src", "old": "unknown", "new": sha256("src").hex()}]
    assert (found[NEW].env, found[NEW].script) == (None, None)


def test_a_miss_counts_each_unknown_content(store: AnyStore, connection: Connection) -> None:
    other = uuid7()
    connection.execute(
        "INSERT INTO artifact (uuid, job_uuid, path) VALUES (%s, %s, 'src')", [other, OLD]
    )
    store.run(job.record(ended(NEW, SUBMIT, inputs=[SOURCE, other])))
    asked = {**ASKED, "env": ["LANG=C.UTF-8", "CC=gcc"]}
    found = {miss.job_uuid: miss for miss in store.run(report.explain_miss(inputs=[], **asked))}
    assert found[NEW].inputs == 2 * [{"path": "src", "old": "unknown"}]


def test_provenance_names_what_has_no_digest(store: AnyStore) -> None:
    output = Output("app", sha256("app"), 3)
    inputs = [known(store).uuid, MADE, SOURCE]
    store.run(job.record(ended(NEW, SUBMIT, inputs=inputs, outputs=[output])))
    found = store.run(report.provenance(output.uuid))
    assert {one.uuid for one in found} == {output.uuid, *inputs}
    (slsa,) = store.run(report.slsa(output.uuid))
    about = slsa.statement["predicate"]["buildDefinition"]
    assert "fingerprint" not in about["internalParameters"]
    assert about["resolvedDependencies"][1:] == [
        {"name": "known", "digest": {"sha256": KNOWN[1].hex()}},
        {"name": "lib.a", "uri": f"urn:uuid:{MADE}"},
        {"name": "src", "uri": f"urn:uuid:{SOURCE}"},
    ]
    # The subject of a statement has a digest.
    assert store.run(report.slsa(MADE)) == []


def test_a_statement_about_what_is_unknown_is_refused(shell: Shell) -> None:
    refused = shell("slsa", str(MADE))
    assert refused.exit_code == 1
    assert f"there is no artifact {MADE} that a job made, with content that" in refused.output


def test_a_table_tells_unknown_from_none(store: AnyStore, shell: Shell, terminal: Terminal) -> None:
    store.run(start(NEW, SUBMIT, inputs=[known(store), SOURCE]))
    assert shell("artifacts", "--columns=path,sha256,size,job_uuid").stdout.splitlines()[1:] == [
        f"known  {KNOWN[1].hex()}{5:9}",
        *(f"src{'':4}unknown{'':59}unknown", f"lib.a  unknown{'':59}unknown  {OLD}"),
    ]
    shown = shell("job", str(NEW)).stdout
    assert re.search(r"^fingerprint +unknown$", shown, re.MULTILINE)
    assert "finished_at" not in shown
    assert "src" in shown
    assert "unknown" in terminal("artifacts", columns=250).text
