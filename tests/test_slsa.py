"""SLSA provenance has the published shape, whatever the names, and is printed as it is signed."""

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote
from uuid import UUID

import psycopg
import pytest
from commandline import Shell
from google.protobuf.json_format import ParseDict
from hypothesis import given
from hypothesis import strategies as st
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1.statement import Statement as InTotoStatement
from in_toto_attestation.v1.statement_pb2 import Statement as InTotoMessage
from samples import HASH, create, ended, is_path, sha256

from butido_store import Store, artifact, job, report, uuid7
from butido_store.artifact import Output
from butido_store.errors import InvalidInput

# RFC 3986, section 3: a scheme, and then only what may stand in a path or query.
URI = re.compile(r"[a-z][a-z0-9+.-]*:([A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-F]{2})+", re.ASCII)
URN = "urn:butido-store:endpoint:"


@pytest.fixture
def store(dsn: str, schema: str) -> Iterator[Store]:
    """A store on the test's database."""
    with Store.connect(dsn, schema=schema) as store:
        yield store


def recorded(store: Store, name: str, outputs: tuple[str, ...] = ("a",)) -> tuple[list[UUID], UUID]:
    """Record a job of which everything has that name, and return its outputs and its input."""
    of_submit, made = uuid7(), [Output(path, sha256(path), 1) for path in outputs]
    read = store.run(artifact.register(name, sha256=sha256("read"), size=1))
    names = {"package": name, "version": name, "image": name, "endpoint": name}
    store.run(create(of_submit))
    one = ended(uuid7(), of_submit, inputs=[read], outputs=made, env={"A": name}, **names)
    store.run(job.record(one))
    return [each.uuid for each in made], read.uuid


def checked(statement: Any) -> Provenance:
    """Assert that a statement has the shape of in-toto and SLSA, and return its predicate."""
    message = ParseDict(statement, InTotoMessage())
    InTotoStatement.copy_from_pb(message).validate()
    provenance = ParseDict(statement["predicate"], Provenance())
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    for resource in provenance.build_definition.resolved_dependencies:
        ResourceDescriptor.copy_from_pb(resource).validate()
        assert resource.digest or resource.uri
        assert not resource.uri or URI.fullmatch(resource.uri)
    assert URI.fullmatch(provenance.build_definition.build_type)
    assert URI.fullmatch(provenance.run_details.builder.id)
    UUID(provenance.run_details.metadata.invocation_id)
    return provenance


NAME = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
ODD = st.text("ü🐘 #?/%:~\n@[]", min_size=1, max_size=9)


@given(name=(NAME.map(lambda text: text[:255]) | ODD).filter(is_path))
def test_every_name_is_whole_in_a_valid_statement(store: Store, name: str) -> None:
    (made,), _ = recorded(store, name)
    (row,) = store.run(report.slsa(made))
    provenance = checked(row.statement)
    builder = provenance.run_details.builder.id
    assert unquote(builder.removeprefix(URN), errors="strict") == name
    assert "%2d" not in builder.lower()
    asked = provenance.build_definition.external_parameters
    assert [asked[field] for field in ("package", "version", "image")] == [name] * 3
    assert provenance.build_definition.resolved_dependencies[1].name == name


def test_a_builders_id_is_percent_encoded(store: Store) -> None:
    (made,), _ = recorded(store, "build host #1 ü")
    (row,) = store.run(report.slsa(made))
    assert row.statement["predicate"]["runDetails"]["builder"]["id"] == (
        f"{URN}build%20host%20%231%20%C3%BC"
    )


def test_all_that_a_job_made_are_the_subjects(store: Store) -> None:
    paths = ("lib/b", "lib/a", "ü #1")
    made, _ = recorded(store, "x", paths)
    recorded(store, "x", ("other",))
    statements = [store.run(report.slsa(uuid))[0].statement for uuid in made]
    assert statements[0] == statements[1] == statements[2]
    assert statements[0]["subject"] == [
        {"name": path, "digest": {"sha256": sha256(path).hex()}} for path in sorted(paths)
    ]


def test_what_is_not_known_is_not_told(store: Store, connection: psycopg.Connection[Any]) -> None:
    (known, unknown), read = recorded(store, "x", ("a", "b"))
    connection.execute(
        "UPDATE artifact SET sha256 = NULL, size = NULL WHERE uuid = ANY(%s)", [[unknown, read]]
    )
    (row,) = store.run(report.slsa(known))
    checked(row.statement)
    assert [subject["name"] for subject in row.statement["subject"]] == ["a"]
    commit, source = row.statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert commit["digest"] == {"gitCommit": HASH}
    assert source == {"name": "x", "uri": f"urn:uuid:{read}"}
    assert store.run(report.slsa(unknown)) == []


def test_the_statement_alone_is_printed(shell: Shell, store: Store) -> None:
    (made,), _ = recorded(store, "build host #1 ü\x1b")
    (row,) = store.run(report.slsa(made))
    for words in ([], ["--format=statement"]):
        done = shell("slsa", *words, str(made))
        assert json.loads(done.stdout) == row.statement
        checked(json.loads(done.stdout))
        assert "\x1b" not in done.stdout
    assert json.loads(shell("slsa", "--format=jsonl", str(made)).stdout) == {
        "statement": row.statement
    }


@pytest.mark.parametrize(
    "builder", ["", "builder", "build host", "urn:", "urn:a b", "urn:ü", "urn:%2", "a:#b#", "1:a"]
)
def test_a_builder_is_a_uri(shell: Shell, builder: str) -> None:
    with pytest.raises(InvalidInput, match=r"^builder is .*URI"):
        report.slsa(uuid7(), builder=builder)
    done = shell("slsa", f"--builder={builder}", str(uuid7()))
    assert (done.exit_code, "--builder is" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    "builder", ["https://[::1]:80/a?b=c#d", "urn:uuid:0", "mailto:a@b", "x-a+b.c:%C3%bc"]
)
def test_any_uri_is_a_builder(builder: str) -> None:
    report.slsa(uuid7(), builder=builder)
