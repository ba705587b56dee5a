"""Lineage equals what networkx finds in the same graph; SLSA provenance has the published shape."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import networkx as nx
import psycopg
import pytest
from filled import FILE, IMAGE, LIBRARY, PROGRAM, SOURCE
from google.protobuf.json_format import ParseDict
from hypothesis import given
from hypothesis import strategies as st
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.v1.statement import Statement as InTotoStatement
from in_toto_attestation.v1.statement_pb2 import Statement as InTotoMessage
from samples import HASH, TIME, create, ended, sha256

from butido_store import Store, artifact, job, release, report, uuid7
from butido_store.artifact import Output


@pytest.fixture
def store(dsn: str, schema: str) -> Iterator[Store]:
    """A store on the test's database."""
    with Store.connect(dsn, schema=schema) as store:
        yield store


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[UUID], list[tuple[list[UUID], list[UUID]]]]:
    """Draw source files, and jobs that each read some of the files before and make some."""
    sources = [uuid7() for _ in range(draw(st.integers(1, 3)))]
    files, jobs = [*sources], []
    for _ in range(draw(st.integers(0, 12))):
        inputs = draw(st.lists(st.sampled_from(files), unique=True, max_size=5))
        outputs = [uuid7() for _ in range(draw(st.integers(0, 3)))]
        jobs.append((inputs, outputs))
        files += outputs
    return sources, jobs


def record(
    store: Store, sources: list[UUID], jobs: list[tuple[list[UUID], list[UUID]]]
) -> "nx.DiGraph[UUID]":
    """Record a graph, and return it."""
    graph: nx.DiGraph[UUID] = nx.DiGraph()
    graph.add_nodes_from(sources)
    of_submit = uuid7()
    done = []
    for inputs, outputs in jobs:
        graph.add_nodes_from(outputs)
        graph.add_edges_from((source, made) for source in inputs for made in outputs)
        made = [Output(str(uuid), sha256(str(uuid)), 1, uuid) for uuid in outputs]
        done.append(ended(uuid7(), of_submit, inputs=inputs, outputs=made))
    store.run(
        create(of_submit),
        *(artifact.register(str(u), sha256=sha256(str(u)), size=1, uuid=u) for u in sources),
        *([job.record_all(done)] if done else []),
    )
    return graph


@given(drawn=graphs())
def test_lineage_is_that_of_networkx(store: Store, drawn: Any) -> None:
    graph = record(store, *drawn)
    for uuid in graph:
        upward = [row.uuid for row in store.run(report.provenance(uuid))]
        downward = [row.uuid for row in store.run(report.impact(artifact=uuid, limit=None))]
        assert sorted(upward) == sorted({uuid} | nx.ancestors(graph, uuid))
        assert sorted(downward) == sorted({uuid} | nx.descendants(graph, uuid))
        assert upward[0] == uuid


@given(drawn=graphs(), data=st.data())
def test_the_functions_take_several_artifacts(
    store: Store,
    connection: psycopg.Connection[tuple[object, ...]],
    drawn: Any,
    data: st.DataObject,
) -> None:
    graph = record(store, *drawn)
    chosen = data.draw(st.lists(st.sampled_from(sorted(graph)), unique=True))
    for function, of_one in (
        ("artifact_ancestors", nx.ancestors),
        ("artifact_descendants", nx.descendants),
    ):
        rows = connection.execute(
            f"SELECT uuid FROM {function}(%s) AS t (uuid)".encode(), [chosen]
        ).fetchall()
        expected = set[UUID]().union(*(of_one(graph, uuid) for uuid in chosen))
        assert len(rows) == len(expected)
        assert {row[0] for row in rows} == expected


def test_a_diamond_with_shared_inputs_has_each_file_once(store: Store) -> None:
    top, left, right, bottom, shared = (uuid7() for _ in range(5))
    record(
        store,
        [top, shared],
        [([top, shared], [left]), ([top, shared], [right]), ([left, right, shared], [bottom])],
    )
    up = store.run(report.provenance(bottom))
    assert sorted(row.uuid for row in up) == sorted([top, left, right, bottom, shared])
    made_by = {row.uuid: row.job_uuid for row in up}
    assert made_by[top] is made_by[shared] is None
    assert len({made_by[uuid] for uuid in (left, right, bottom)}) == 3
    assert {row.uuid: sorted(row.inputs) for row in up}[bottom] == sorted([left, right, shared])


def test_impact_starts_at_packages_commits_images_and_endpoints(store: Store) -> None:
    first, of_other = uuid7(), uuid7()
    library, program, other = uuid7(), uuid7(), uuid7()

    def output(uuid: UUID) -> list[Output]:
        return [Output(str(uuid), sha256(str(uuid)), 1, uuid)]

    store.run(
        create(first),
        create(of_other, repo_hash="d" * 40),
        job.record_all(
            [
                ended(
                    uuid7(), first, version="1", image="a", endpoint="x", outputs=output(library)
                ),
                ended(
                    uuid7(),
                    of_other,
                    package="app",
                    image="b",
                    endpoint="y",
                    inputs=[library],
                    outputs=output(program),
                ),
                ended(
                    uuid7(), of_other, version="2", image="b", endpoint="y", outputs=output(other)
                ),
            ]
        ),
        release.create(uuid7(), store="stable", timestamp=TIME, actor="me", artifacts=[program]),
    )

    def impact(**origin: Any) -> set[UUID]:
        return {row.uuid for row in store.run(report.impact(**origin))}

    assert impact(package="zlib") == {library, program, other}
    assert impact(package="zlib", version="1") == {library, program}
    assert impact(package="zlib", version="2") == impact(package="zlib", version="2", limit=9)
    assert impact(package="zlib", version="2") == {other}
    assert impact(package="zli") == impact(package="zlib 1") == set()
    assert impact(commit=HASH) == impact(image="a") == impact(endpoint="x") == {library, program}
    assert impact(commit="d" * 40) == impact(image="b") == {program, other}
    released = {row.uuid: row.released for row in store.run(report.impact(artifact=library))}
    assert released == {library: [], program: ["stable"]}


def test_slsa_names_the_commit_of_its_own_submit(store: Store) -> None:
    commits = {uuid7(): digit * 40 for digit in "ab"}
    for made, commit in commits.items():
        of_submit, output = uuid7(), Output(str(made), sha256("x"), 1, made)
        store.run(create(of_submit, repo_hash=commit))
        store.run(job.record(ended(uuid7(), of_submit, outputs=[output])))
    for made, commit in commits.items():
        (row,) = store.run(report.slsa(made))
        dependencies = row.statement["predicate"]["buildDefinition"]["resolvedDependencies"]
        assert dependencies[0]["digest"] == {"gitCommit": commit}


@pytest.mark.usefixtures("filled")
def test_slsa_provenance_is_valid(store: Store) -> None:
    builder = "https://example.org/builder"
    (row,) = store.run(report.slsa(PROGRAM, builder=builder))
    message = ParseDict(row.statement, InTotoMessage())
    InTotoStatement.copy_from_pb(message).validate()
    provenance = ParseDict(row.statement["predicate"], Provenance())
    assert message.predicate_type == "https://slsa.dev/provenance/v1"
    definition, details = provenance.build_definition, provenance.run_details
    assert details.builder.id == builder
    assert definition.build_type
    assert definition.external_parameters["package"] == "zlib"
    digests = [dict(dependency.digest) for dependency in definition.resolved_dependencies]
    program, *others = store.run(report.provenance(PROGRAM))
    assert digests[:2] == [{"gitCommit": HASH}, {"sha256": IMAGE.hex()}]
    assert definition.resolved_dependencies[1].name == program.image
    assert program.image_sha256 == IMAGE
    assert len(digests) == 2 + len(program.inputs)
    assert all(len(bytes.fromhex(digest["sha256"])) == 32 for digest in digests[2:])
    # Nobody said which image made the library.
    (library,) = [row for row in others if row.uuid == LIBRARY]
    assert library.image_sha256 is None
    (known,) = store.run(report.slsa(LIBRARY))
    dependencies = known.statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert [one["name"] for one in dependencies] == ["package repository", FILE[0]]
    assert details.metadata.started_on.ToDatetime() < details.metadata.finished_on.ToDatetime()
    assert store.run(report.slsa(SOURCE)) == []
