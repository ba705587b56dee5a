"""What is said of bad input, to the letter: the field, what is wrong, and what it must be."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

import pytest
from samples import create, finish, start

from butido_store import Statement, Store, artifact, build, job, log, report
from butido_store.artifact import Output
from butido_store.errors import InvalidInput

U, DIGEST = UUID(int=1), bytes(32)
ZEROS = "00000000-0000-0000-0000-00000000000"


def reusable(*inputs: Any) -> object:
    build: dict[str, Any] = {"package": "a", "version": "1", "image": "i", "script": "s", "env": {}}
    return artifact.reusable(**build, inputs=inputs)


def node(name: Any = "a", **changes: Any) -> dict[str, Any]:
    return {"name": name, "version": "1", "dependencies": [], **changes}


def tree(*nodes: Any, **changes: Any) -> Statement[None]:
    return create(U, tree={"root": 0, "nodes": [*nodes], **changes})


def ring(length: int) -> Statement[None]:
    return tree(*(node(str(n), dependencies=[(n + 1) % length]) for n in range(length)))


def planned(number: int, *needs: Any, **changes: Any) -> dict[str, Any]:
    values = {"uuid": f"{ZEROS}{number}", "package": "a", "version": str(number)}
    return {**values, "needs": [f"{ZEROS}{n}" if n in range(9) else n for n in needs], **changes}


def plan(*jobs: Any) -> Statement[None]:
    return create(U, buildplan={"jobs": [*jobs]})


def nodes(*numbers: int) -> str:
    return " needs ".join(f"{n} 1 (node {n})" for n in numbers)


def connect(retry_for: Any) -> object:
    return Store.connect(retry_for=retry_for)


def building(**given: Any) -> object:
    said: dict[str, Any] = {"package": "a", "version": "1", "image": "i", "script": "s", "env": {}}
    return build(cast(Store, None), U, submit=U, endpoint="e", **said, **given)


INPUT = "must be an artifact, or a pair of its path and SHA-256"
DAY = timedelta(days=1)
SPAN = "it must be above 0, and at most 365000 days"
VARIABLE = "must be NAME=VALUE; it has no '=' after a name"
YEARS = "in UTC it must be in the years 1970 to 9998"
BIGINT, COUNT = "it must be from -2^63 to 2^63 - 1", "it must be from 0 to 2^63 - 1"
NO_NUMBER, NOT_FINITE = (
    "must be an int, a float or a Decimal, not",
    "must be finite, as double precision has numbers",
)
NODES, JOBS = "tree['nodes']", "buildplan['jobs']"
A = {"a": 1}
EARLY = datetime(1969, 12, 31, 23, 59, tzinfo=UTC)
FIRST = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: create(U, package=1), "package must be a str, not int"),
        (lambda: create(U, package="a\0\0"), "package has a NUL character at position 1"),
        (
            lambda: create(U, package="é\ud800"),
            "package is not valid Unicode at position 1, so it has no UTF-8 form",
        ),
        (lambda: create(U, package="x" * 256), "package has 256 characters; the limit is 255"),
        (lambda: create(U, image="x" * 513), "image has 513 characters; the limit is 512"),
        (lambda: create(U, package=""), "package is empty"),
        (lambda: create(U, env=[]), "env must be a mapping of names to values"),
        (lambda: create(U, env={"TOKEN=hunter2": ""}), "a name in env has a '=': TOKEN=…"),
        (lambda: building(once=5), "once must be a timedelta, not int"),
        (lambda: building(once=timedelta(0)), f"once is 0:00:00; {SPAN}"),
        (lambda: building(heartbeat=-DAY), f"heartbeat is -1 day, 0:00:00; {SPAN}"),
        (lambda: job.sweep(silent_for=timedelta.max), f"silent_for is {timedelta.max}; {SPAN}"),
        (lambda: report.jobs(env="hunter2"), f"env {VARIABLE}"),
        (lambda: report.jobs(env="=hunter2"), f"env {VARIABLE}"),
        (lambda: report.find_artifact("a", env=["A=b", "hunter2"]), f"env[1] {VARIABLE}"),
        (
            lambda: report.submits(label=["ci"]),
            "label[0] must be KEY=VALUE; it has no '=' after a name",
        ),
        (lambda: create(U, env={"": ""}), "a name in env is empty"),
        (lambda: create(U, env={"A": None}), "env['A'] must be a str, not NoneType"),
        (lambda: create("u"), "uuid must be a uuid.UUID, not str"),  # type: ignore[arg-type]
        (lambda: start(U, U, inputs="ab"), "inputs must be a list, not str"),
        (lambda: start(U, U, inputs=b"ab"), "inputs must be a list, not bytes"),
        (lambda: start(U, U, inputs=1), "inputs must be a list, not int"),
        (lambda: start(U, U, inputs=[U, "ab"]), "inputs[1] must be a UUID, not str"),
        (lambda: start(U, U, inputs=[UUID(int=2), U, U]), f"inputs has {U} twice"),
        (lambda: reusable(("a", DIGEST), ("b",)), f"inputs[1] {INPUT}"),
        (lambda: reusable("ab"), f"inputs[0] {INPUT}"),
        (lambda: log.LogBuffer(U, clock=A), "clock must be a function, not dict"),  # type: ignore[arg-type]
        (lambda: job.append_log(U, seq=0, data=A), "data must be bytes or str, not dict"),  # type: ignore[arg-type]
        (lambda: log.encode_log(A), "data must be bytes or str, not dict"),  # type: ignore[arg-type]
        (lambda: log.decode_log(b"a"), "text must be a str, not bytes"),  # type: ignore[arg-type]
        (
            lambda: Output("/a", DIGEST, 1),
            "path of an output is '/a'; it must be relative, to a store's root",
        ),
        (
            lambda: Output("a/../b", DIGEST, 1),
            "path of an output is 'a/../b'; it must not lead out of a store, by '..'",
        ),
        (lambda: create(U, timestamp="now"), "timestamp must be a datetime, not str"),
        (
            lambda: create(U, timestamp=datetime(2026, 1, 1)),
            "timestamp is a naive datetime; give it a time zone",
        ),
        (lambda: create(U, timestamp=EARLY), f"timestamp is 1969-12-31 23:59:00+00:00; {YEARS}"),
        (lambda: create(U, timestamp=FIRST), f"timestamp is 0001-01-01 00:00:00+01:00; {YEARS}"),
        (lambda: Output("a", "1", 1), "sha256 of output 'a' must be bytes, not str"),  # type: ignore[arg-type]
        (lambda: Output("a", b"1", 1), "sha256 of output 'a' has 1 bytes; a SHA-256 has 32"),
        (lambda: Output("a", DIGEST, True), "size of output 'a' must be an int, not bool"),
        (lambda: Output("a", DIGEST, -1), f"size of output 'a' is -1; {COUNT}"),
        (lambda: Output("a", DIGEST, 2**63), f"size of output 'a' is {2**63}; {COUNT}"),
        (lambda: finish(U, exit_code=True), "exit_code must be an int, not bool"),
        (lambda: finish(U, exit_code="1"), "exit_code must be an int, not str"),
        (lambda: finish(U, exit_code=2**63), f"exit_code is {2**63}; {BIGINT}"),
        (lambda: finish(U, exit_code=-(2**63) - 1), f"exit_code is {-(2**63) - 1}; {BIGINT}"),
        (
            lambda: finish(U, measurements=[]),
            "measurements must be a mapping of names to numbers",
        ),
        (lambda: finish(U, measurements={"": 1}), "a name in measurements is empty"),
        (lambda: finish(U, measurements={"a": "1"}), f"measurements['a'] {NO_NUMBER} str"),
        (lambda: finish(U, measurements={"a": True}), f"measurements['a'] {NO_NUMBER} bool"),
        (lambda: finish(U, measurements={"a": 1e999}), f"measurements['a'] {NOT_FINITE}"),
        (lambda: finish(U, measurements={"a": 10**400}), f"measurements['a'] {NOT_FINITE}"),
        (lambda: finish(U, measurements={"a": Decimal("sNaN")}), f"measurements['a'] {NOT_FINITE}"),
        (
            lambda: finish(U, measurements={"a": Decimal("1e-400")}),
            "measurements['a'] is so near to 0 that double precision makes it 0",
        ),
        (lambda: connect("1"), "retry_for must be a number of seconds, not str"),
        (lambda: connect(True), "retry_for must be a number of seconds, not bool"),
        (lambda: connect(-1), "retry_for is -1; it must be 0 or more seconds"),
        (lambda: connect(float("nan")), "retry_for is nan; it must be 0 or more seconds"),
        (lambda: create(U, repo_hash=1), "repo_hash must be a str, not int"),
        (
            lambda: create(U, repo_hash="abc"),
            "repo_hash must be 40 or 64 lower-case hexadecimal digits",
        ),
        (
            lambda: finish(U, state="done"),
            "state is 'done'; it must be one of success, error, lost",
        ),
        (lambda: create(U, tree=[]), "tree must be an object with a list 'nodes'"),
        (lambda: create(U, tree={"nodes": {}}), "tree must be an object with a list 'nodes'"),
        (lambda: tree(), "tree['root'] is 0, but there are 0 nodes"),
        (lambda: tree("a"), f"{NODES}[0] must be an object"),
        (lambda: tree(node(), node(name=None)), f"{NODES}[1]['name'] must be a str, not NoneType"),
        (lambda: tree(node(), node(version="")), f"{NODES}[1]['version'] is empty"),
        (
            lambda: tree(node(), node(dependencies={})),
            f"{NODES}[1]['dependencies'] must be a list",
        ),
        (
            lambda: tree(node(dependencies=[0.5])),
            f"{NODES}[0]['dependencies'] must be the number of a node",
        ),
        (
            lambda: tree(node(), node(dependencies=[True])),
            f"{NODES}[1]['dependencies'] must be the number of a node",
        ),
        (
            lambda: tree(node(), node(dependencies=[0, 2])),
            f"{NODES}[1]['dependencies'] is 2, but there are 2 nodes",
        ),
        (
            lambda: tree(node(), node(dependencies=[-1])),
            f"{NODES}[1]['dependencies'] is -1, but there are 2 nodes",
        ),
        (lambda: tree(node(), root=1), "tree['root'] is 1, but there are 1 nodes"),
        (lambda: tree(node(), root=None), "tree['root'] must be the number of a node"),
        (lambda: ring(9), f"tree has a circle: {nodes(*range(9), 0)}"),
        (
            lambda: ring(10),
            f"tree has a circle: {nodes(*range(5))} needs … 1 more … "
            f"needs {nodes(*range(6, 10), 0)}",
        ),
        (lambda: tree(node(), x=["\0"]), r"tree has a NUL character (\u0000) in a string"),
        (lambda: tree(node(), x={1: 2}), "tree has the key 1, which is not a str"),
        (
            lambda: tree(node(), x=({"a": [[{"b": 1, True: 2}]]}, 3)),
            "tree has the key True, which is not a str",
        ),
        (lambda: create(U, buildplan={}), "buildplan must be an object with a list 'jobs'"),
        (lambda: plan(1), f"{JOBS}[0] must be an object"),
        (lambda: plan(planned(1), planned(2, package="")), f"{JOBS}[1]['package'] is empty"),
        (
            lambda: plan(planned(1), planned(2, version=1)),
            f"{JOBS}[1]['version'] must be a str, not int",
        ),
        (lambda: plan(planned(1), planned(2, uuid=1)), f"{JOBS}[1]['uuid'] must be a str, not int"),
        (lambda: plan(planned(1), planned(2, uuid="x")), f"{JOBS}[1]['uuid'] is not a uuid: 'x'"),
        (
            lambda: plan(planned(1), planned(2, uuid=UUID(int=10).hex)),
            f"{JOBS}[1]['uuid'] must be written {ZEROS}a",
        ),
        (
            lambda: plan(planned(1), planned(2), planned(3, uuid=f"{ZEROS}2")),
            f"{JOBS}[2]['uuid'] is {ZEROS}2, which 1 has: a 3",
        ),
        (
            lambda: plan(planned(1), planned(2) | {"needs": "ab"}),
            f"{JOBS}[1]['needs'] must be a list",
        ),
        (
            lambda: plan(planned(1), planned(2, 1, 3)),
            f"{JOBS}[1]['needs'] has {ZEROS}3, which is no job of the plan: a 2 needs it",
        ),
        (
            lambda: plan(planned(1), planned(2, 1, None)),
            f"{JOBS}[1]['needs'] must be a str, not NoneType",
        ),
        (lambda: plan(planned(1), planned(2, 1, "x")), f"{JOBS}[1]['needs'] is not a uuid: 'x'"),
        (
            lambda: plan(planned(1), planned(2, 3), planned(3, 1, 2)),
            f"buildplan has a circle: a 2 (job {ZEROS}2) needs a 3 (job {ZEROS}3) "
            f"needs a 2 (job {ZEROS}2)",
        ),
    ],
)
def test_what_is_wrong_is_said(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        call()
    assert str(refused.value) == message


@pytest.mark.parametrize("value", [float("nan"), object()])
def test_what_is_no_json_is_said_in_the_words_of_python(value: object) -> None:
    with pytest.raises(InvalidInput, match=r"^tree has no JSON form: .*JSON"):
        tree(node(), x=value)


@pytest.mark.parametrize(
    "call",
    [
        lambda: create(U, package="x" * 255, version="é" * 255, image="x" * 512),
        lambda: create(U, timestamp=EARLY + timedelta(minutes=1)),
        lambda: create(U, timestamp=datetime(9998, 12, 31, 23, 59, tzinfo=UTC)),
        lambda: Output("..a/b..", DIGEST, 0),
        lambda: Output("a", DIGEST, 2**63 - 1),
        lambda: finish(U, exit_code=2**63 - 1),
        lambda: finish(U, exit_code=-(2**63), measurements={"a": 0, "b": Decimal(0), "c": 5e-324}),
        lambda: tree(node(dependencies=(1, 1)), node("b", version="2"), root=1),
        lambda: tree(node(dependencies=[1, 2]), node(dependencies=[2]), node(), x=[r"\u0000", A]),
        lambda: plan(planned(1, 2, 3), planned(2, 3), planned(3)),
    ],
)
def test_the_outermost_that_is_good_is_taken(call: Callable[[], object]) -> None:
    assert call()
