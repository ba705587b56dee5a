"""Bad input is refused before anything is written, with one error that names the field."""

import asyncio
import inspect
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin, get_type_hints
from uuid import UUID, uuid4

import psycopg
import pytest
from conftest import AnyStore
from filled import REPORTS
from hypothesis import given
from hypothesis import strategies as st
from samples import HASH, TIME, buildplan, create, ended, finish, sha256, start, tree

from butido_store import (
    AsyncStore,
    Secrets,
    Store,
    artifact,
    job,
    log,
    open_schema,
    open_schema_async,
    release,
    report,
    submit,
    uuid7,
)
from butido_store._statement import Statement
from butido_store.admin import doctor, retention
from butido_store.admin.migrate import Migrator
from butido_store.artifact import Output
from butido_store.embedded import Server
from butido_store.errors import InvalidInput, NotFound

pytestmark = pytest.mark.any_server

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
        ("actor", lambda: create(uuid7(), actor="")),
        ("actor", lambda: create(uuid7(), actor="x" * 256)),
        ("labels", lambda: create(uuid7(), labels=["a=b"])),
        ("labels", lambda: create(uuid7(), labels=[])),
        ("name in labels", lambda: create(uuid7(), labels={"A=B": "x"})),
        ("labels", lambda: create(uuid7(), labels={"": "x"})),
        (r"labels\['A'\]", lambda: create(uuid7(), labels={"A": 1})),
        (r"labels\['A'\]", lambda: create(uuid7(), labels={"A": {"B": "C"}})),
        (r"labels\['A'\]", lambda: create(uuid7(), labels={"A": "x\0"})),
        (r"label\[1\]", lambda: report.submits(label=["a=", "KEY"])),
        (r"label\[0\]", lambda: report.submits(label=[""])),
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
            "tree.*circle: a 1 .node 0. needs a 1",
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
        (
            r"buildplan\['jobs'\]\[1\]\['uuid'\].*a 1",
            lambda: create(uuid7(), buildplan={"jobs": [PLANNED, PLANNED]}),
        ),
        (
            f"buildplan.*{UUID(int=5)}.*a 1 needs it",
            lambda: create(uuid7(), buildplan={"jobs": [PLANNED | {"needs": [str(UUID(int=5))]}]}),
        ),
        (
            "buildplan.*circle: a 1 .*needs a 1",
            lambda: create(uuid7(), buildplan={"jobs": [PLANNED | {"needs": [PLANNED["uuid"]]}]}),
        ),
        (
            "buildplan.*needs",
            lambda: create(uuid7(), buildplan={"jobs": [PLANNED | {"needs": [[]]}]}),
        ),
        ("buildplan.*NUL", lambda: create(uuid7(), buildplan={"jobs": [], "x": "\0"})),
        ("endpoint", lambda: start(uuid7(), uuid7(), endpoint="")),
        ("script", lambda: start(uuid7(), uuid7(), script="a\0")),
        ("script", lambda: start(uuid7(), uuid7(), script="\udcff")),
        ("started_at", lambda: start(uuid7(), uuid7(), started_at=NAIVE)),
        ("image_sha256", lambda: start(uuid7(), uuid7(), image_sha256=b"debian:12")),
        ("image_sha256", lambda: start(uuid7(), uuid7(), image_sha256="0" * 64)),
        ("container_hash", lambda: start(uuid7(), uuid7(), container_hash="")),
        ("inputs", lambda: start(uuid7(), uuid7(), inputs=["src"])),
        ("inputs", lambda: start(uuid7(), uuid7(), inputs=[UUID(int=1)] * 2)),
        ("finished_at", lambda: finish(uuid7(), finished_at=NAIVE)),
        ("state", lambda: finish(uuid7(), state="running")),
        ("state", lambda: finish(uuid7(), state="done")),
        ("outputs.*twice", lambda: finish(uuid7(), "a", "a")),
        ("path", lambda: finish(uuid7(), "")),
        ("path", lambda: finish(uuid7(), "a\0")),
        ("path", lambda: Output("\udcff", sha256("a"), 1)),
        ("path", lambda: Output(Path("a"), sha256("a"), 1)),  # type: ignore[arg-type]
        ("sha256.*'a'", lambda: Output("a", b"x" * 31, 1)),
        ("sha256", lambda: Output("a", "x" * 64, 1)),  # type: ignore[arg-type]
        ("size", lambda: Output("a", sha256("a"), -1)),
        ("size", lambda: replace(Output("a", sha256("a"), 1), size=2**63)),
        (r"outputs\[0\]", lambda: finish(uuid7(), outputs=["a"])),
        ("reason is empty", lambda: finish(uuid7(), reason="")),
        ("reason.*NUL", lambda: finish(uuid7(), reason="a\0")),
        ("reason", lambda: job.record(ended(uuid7(), uuid7(), reason=1))),
        ("exit_code", lambda: finish(uuid7(), exit_code=True)),
        ("exit_code", lambda: finish(uuid7(), exit_code=1.0)),
        ("exit_code", lambda: finish(uuid7(), exit_code=2**63)),
        ("exit_code", lambda: job.record_all([ended(uuid7(), uuid7(), exit_code="1")])),
        ("measurements", lambda: finish(uuid7(), measurements=[("a", 1)])),
        ("name in measurements", lambda: finish(uuid7(), measurements={"": 1})),
        ("name in measurements", lambda: finish(uuid7(), measurements={"a\0": 1})),
        ("name in measurements", lambda: finish(uuid7(), measurements={1: 1})),
        *(
            (r"measurements\['a'\]", partial(finish, uuid7(), measurements={"a": number}))
            for number in (
                *(True, None, "1", 1j, {"b": 1}, [1], float("nan"), float("-inf"), 10**309),
                *map(Decimal, ("NaN", "sNaN", "Infinity", "1e309", "-1e-400")),
            )
        ),
        ("inputs", lambda: start(uuid7(), uuid7(), inputs=uuid7())),
        ("env", lambda: create(uuid7(), env=[])),
        ("finished_at", lambda: job.record(ended(uuid7(), uuid7(), finished_at=NAIVE))),
        ("state", lambda: job.record(ended(uuid7(), uuid7(), state="running"))),
        ("jobs has .* twice", lambda: job.record_all([ended(UUID(int=1), uuid7())] * 2)),
        ("seq", lambda: job.append_log(uuid7(), seq=-1, data="")),
        ("sha256", lambda: artifact.register("p", sha256=b"", size=0)),
        ("path", lambda: artifact.register("", sha256=sha256(""), size=0)),
        *(
            ("path", partial(make, path))
            for path in ("/", "/etc/passwd", "..", "../a", "a/..", "a/../b", "a//../b")
            for make in (
                lambda path: artifact.register(path, sha256=sha256(""), size=0),
                lambda path: Output(path, sha256(""), 0),
                lambda path: Output.from_file(__file__, path),
            )
        ),
        ("data", lambda: job.append_log(uuid7(), seq=0, data=5)),  # type: ignore[arg-type]
        ("submit must be", lambda: release.create(uuid7(), submit="x", **OF_RELEASE)),  # type: ignore[arg-type]
        ("silent_for", lambda: job.sweep(silent_for=timedelta.max)),
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
        'SELECT uuid FROM submit WHERE tree_packages(tree) @> ARRAY[\'"p777" "777.0"\']'
    ).fetchall()
    assert found == [(uuid,)]
    assert store.run(submit.get(uuid)).tree["nodes"] == nodes


# Values of any type, in each parameter of each public function -----------------------------------

LINE = "#BUTIDO:STATE:OK"
OUTPUT: dict[str, Any] = {"path": "a", "sha256": sha256("a"), "size": 1, "uuid": UUID(int=1)}
STARTED: dict[str, Any] = {
    "uuid": UUID(int=1),
    "submit": UUID(int=2),
    "package": "zlib",
    "version": "1.3",
    "image": "debian:12",
    "endpoint": "builder-1",
    "started_at": TIME,
    "script": "make",
    "env": {"LANG": "C"},
    "inputs": [UUID(int=3)],
    "image_sha256": sha256("debian:12"),
    "container_hash": "c0ffee",
}
OF_JOB: dict[str, Any] = {"uuid": UUID(int=1)}
OF_RELEASE: dict[str, Any] = {"store": "stable", "actor": "jane", "timestamp": TIME}


class _Lends:
    """A pool, as far as one can see, that nothing is lent from."""

    def connection(self) -> object:
        return self


_ASKED = Store(_Lends())  # type: ignore[arg-type]
# What each public function takes. Of stores and connections, only what is not yet connected.
TAKEN: Mapping[str, dict[str, Any]] = {
    "artifact.Output": OUTPUT,
    "artifact.get": OF_JOB,
    "artifact.register": OUTPUT,
    "artifact.reusable": {
        **{name: STARTED[name] for name in ("package", "version", "image", "script", "env")},
        "image_sha256": STARTED["image_sha256"],
        "inputs": [("src", sha256("src"))],
    },
    "job.append_log": {**OF_JOB, "seq": 0, "data": b"x"},
    "job.env": OF_JOB,
    "job.finish": {
        **OF_JOB,
        "state": "lost",
        "finished_at": TIME,
        "outputs": [Output(**OUTPUT)],
        "reason": "timeout",
        "exit_code": -9,
        "measurements": {"cpu_seconds": 1.5},
    },
    "job.get": OF_JOB,
    "job.heartbeat": OF_JOB,
    "job.inputs": OF_JOB,
    "job.log": OF_JOB,
    "job.log_after": {**OF_JOB, "after": 0, "characters": 1},
    "job.once": {
        "start": job.start(**STARTED),
        "silent_for": timedelta(1),
        "besides": [UUID(int=3)],
    },
    "job.outputs": OF_JOB,
    "job.record": {"ended": ended(UUID(int=1), UUID(int=2))},
    "job.record_all": {"jobs": [ended(UUID(int=1), UUID(int=2))]},
    "job.script": OF_JOB,
    "job.set_container": {**OF_JOB, "container_hash": "c0ffee"},
    "job.start": STARTED,
    "job.refresh_failures": {"before": uuid7(), "limit": 1},
    "job.sweep": {**OF_JOB, "silent_for": timedelta(1), "endpoint": "builder-1", "limit": 1},
    "log.LogBuffer": {"job_uuid": UUID(int=1), "seq": 0, "clock": lambda: 0.0},
    "log.decode_log": {"text": "x"},
    "log.encode_log": {"data": "x"},
    "log.follow": {"store": _ASKED, **OF_JOB, "every": 1.0, "wait": True},
    "log.read_outcome": {"lines": [LINE]},
    "release.create": {"uuid": UUID(int=1), "artifacts": [UUID(int=3)], **OF_RELEASE},
    "release.withdraw": {"artifact": UUID(int=3), "reason": "it leaks", **OF_RELEASE},
    "submit.create": {
        **{name: STARTED[name] for name in ("uuid", "package", "version", "image", "env")},
        "timestamp": TIME,
        "repo_hash": HASH,
        "tree": tree("zlib", "gcc"),
        "buildplan": buildplan(UUID(int=1)),
        "actor": "jane",
        "labels": {"ci": "nightly"},
    },
    "submit.env": OF_JOB,
    "submit.get": OF_JOB,
    "submit.reuse": {"uuid": UUID(int=1), "jobs": [UUID(int=3)], "timestamp": TIME},
    **{f"report.{name}": dict(values) for name, values in REPORTS.items()},
}
MODULES: Mapping[str, Any] = {
    module.__name__.rpartition(".")[2]: module
    for module in (artifact, job, log, release, report, submit)
}


def public(name: str) -> Callable[..., object]:
    """Return a public function by its module and name."""
    module, function = name.split(".")
    found: Callable[..., object] = getattr(MODULES[module], function)
    return found


def test_every_public_function_has_values_that_it_takes() -> None:
    named = {
        f"{name}.{function}"
        for name, module in MODULES.items()
        for function, found in vars(module).items()
        if inspect.isfunction(found)
        and found.__module__ == module.__name__
        and not function.startswith("_")
    }
    # What fills in a form, and what only makes values.
    assert named - TAKEN.keys() == set()
    for name, values in TAKEN.items():
        public(name)(**values)
        assert inspect.signature(public(name)).parameters.keys() - values.keys() <= {"submit"}


def fits(kind: Any, value: Any) -> bool:
    """Tell whether a value is of an annotated type, as far as it can be asked."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return any(fits(one, value) for one in arguments)
    if origin is Literal:
        return value in arguments
    if origin is Annotated:
        return fits(arguments[0], value)
    if origin is tuple and arguments[-1] is not ...:
        return isinstance(value, tuple) and all(map(fits, arguments, value))
    if isinstance(origin, type) and issubclass(origin, Iterable):
        if isinstance(value, Iterator):
            return True
        return (
            isinstance(value, origin)
            and not isinstance(value, str | bytes)
            and (issubclass(origin, Mapping) or all(fits(arguments[0], one) for one in value))
        )
    if kind in (int, float) and isinstance(value, bool):
        return False
    if kind is float and isinstance(value, int):
        return True
    return isinstance(value, origin or kind or types.NoneType)


TYPES: list[object] = [None, True, 0, -1, 2**64, 1.5, float("nan"), 1j, ..., str, len, object()]
TYPES += ["", "text", "a\0", "a\ud800", "x" * 1000, b"", b"bytes", bytearray(b"x"), Path("a")]
TYPES += [UUID(int=1), str(UUID(int=1)), TIME, NAIVE, date(2026, 1, 1), timedelta(1), timedelta(0)]
TYPES += [Output(**OUTPUT), job.get(UUID(int=1)), ValueError()]
ANYTHING = st.recursive(
    st.sampled_from(TYPES),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.tuples(inner, inner)
        | st.dictionaries(st.sampled_from(["root", "nodes", "jobs", 1, None]), inner, max_size=2)
    ),
    max_leaves=4,
)


class _Text(str, Enum):  # noqa: UP042 - of a StrEnum, str() gives the content
    FAILED = "error"
    TOKEN = "s3cr3t"


class _Number(int, Enum):
    FOUND_NOT = 127


def test_a_text_and_a_number_of_an_enum_are_their_content(dsn: str, schema: str) -> None:
    of_submit, one, other = uuid7(), uuid7(), uuid7()
    plain, of_an_enum = ({"API_TOKEN": token} for token in ("s3cr3t", _Text.TOKEN))
    with Store.connect(dsn, schema=schema, secrets=Secrets(bytes(16))) as store:
        said = ended(
            one, of_submit, state=_Text.FAILED, exit_code=_Number.FOUND_NOT, env=of_an_enum
        )
        _, first = store.run(create(of_submit), job.record(said))
        assert store.run(job.record(ended(other, of_submit, env=plain))) == first
        asked = report.jobs(state=cast(job.State, _Text.FAILED))
        (found,) = store.run(asked)
        assert (found.uuid, found.state, found.exit_code) == (one, "error", 127)
        assert [*store.stream(asked)] == [found]


@given(value=ANYTHING, once=st.booleans())
def test_a_value_of_another_type_is_refused_at_once(value: Any, once: bool) -> None:
    for name, values in TAKEN.items():
        function = public(name)
        hints = get_type_hints(function.__init__ if isinstance(function, type) else function)  # type: ignore[misc]
        for field in values:
            said = iter(value) if once and isinstance(value, list) else value
            refused = ""
            try:
                made = function(**{**values, field: said})
            except InvalidInput as error:
                refused = str(error)
            if refused:
                assert re.search(rf"(?<!\w){field}(?!\w)", refused), f"{name}: {refused}"
                continue
            assert fits(hints[field], said), f"{name}({field}={value!r})"
            # What is made of it later raises nothing else, either.
            if isinstance(made, Statement):
                for step in made.steps:
                    step.rendered()
                made.shared()
                if made.why:
                    made.why()
            elif isinstance(made, log.LogBuffer):
                made.flush()


class _LendsAwaited(_Lends):
    async def __aenter__(self) -> None:
        """Be entered by `async with` alone, as a pool of the other kind is."""


@given(value=ANYTHING)
def test_a_store_takes_nothing_of_another_type(value: Any) -> None:
    for store in (Store(_Lends()), AsyncStore(_Lends())):  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match="statement"):
            store.stream(value)
    wrong: Any
    for wrong in (value, _LendsAwaited()):
        with pytest.raises(InvalidInput, match=r"Store takes no .*, that blocks"):
            Store(wrong)
    with pytest.raises(InvalidInput, match=r"AsyncStore takes no .*, that is awaited"):
        AsyncStore(value)
    for field, kind in [("retry_for", float), ("schema", str), ("prepare_threshold", int | None)]:
        if not fits(kind, value) and not (field == "retry_for" and fits(int, value)):
            for connect in (Store.connect, lambda **given: ran(AsyncStore.connect(**given))):
                with pytest.raises(InvalidInput, match=field):
                    connect(**{field: value})
    if not fits(str | None, value):
        with pytest.raises(InvalidInput, match="dsn"):
            Store.connect(value)
    for opening in (open_schema, lambda given: ran(open_schema_async(given))):
        with pytest.raises(InvalidInput, match="connection"):
            opening(value)


def ran(coroutine: Any) -> object:
    """Run a coroutine that is done before it waits."""
    return asyncio.run(coroutine)


def test_what_is_run_is_a_statement(store: AnyStore) -> None:
    for value in ([job.get(uuid7())], job.get, None, "job", job.get(uuid7()).steps):
        with pytest.raises(InvalidInput, match="statement"):
            store.run(value)  # type: ignore[call-overload]
        with pytest.raises(InvalidInput, match="statement"):
            store.run(job.get(uuid7()), value)  # type: ignore[call-overload]
    with pytest.raises(InvalidInput, match="writes"):
        Store(_Lends()).stream(job.heartbeat(uuid7()))  # type: ignore[arg-type]
    assert store.run() == ()


@pytest.mark.parametrize(
    "statement",
    [
        job.get(UUID(int=1)),
        job.log(UUID(int=1)),
        job.log_after(UUID(int=1)),
        job.env(UUID(int=1)),
        artifact.reusable(**TAKEN["artifact.reusable"]),
    ],
)
def test_what_gives_no_list_is_not_streamed(statement: Any) -> None:
    with pytest.raises(InvalidInput, match="statement gives one value"):
        _ASKED.stream(statement)
    listings: list[Any] = [job.outputs(UUID(int=1)), report.metrics(), doctor.check("settings")]
    for rows in listings:
        _ASKED.stream(rows)


@pytest.mark.parametrize("value", [-5, b"x", ["x"], {5: "x"}, {"a": 5}, object()])
def test_what_a_dba_runs_takes_nothing_of_another_type(
    value: Any, connection: psycopg.Connection[Any]
) -> None:
    calls: list[tuple[str, Callable[[], object]]] = [
        ("directory", lambda: Server(value)),
        ("settings", lambda: Server(settings=value)),
        ("connection", lambda: Migrator(value)),
        ("schema", lambda: Migrator(connection, schema=value)),
        ("lock_wait", lambda: Migrator(connection, lock_wait=[value])),  # type: ignore[arg-type]
        ("phase", lambda: Migrator(connection).apply(phase=value)),
        ("directory", lambda: Migrator(connection, directory=value)),
        ("tell", lambda: Migrator(connection, tell=value)),
        ("store", lambda: retention.prune(value)),
        ("batch", lambda: retention.prune(_ASKED, batch=value)),
        ("batch", lambda: retention.prune(_ASKED, batch=0)),
        ("told", lambda: retention.prune(_ASKED, told=value)),
        ("store", lambda: retention.plan(value)),
        ("store", lambda: retention.why(value, uuid7())),
        ("store", lambda: doctor.examine(value)),
    ]
    for field, call in calls:
        with pytest.raises(InvalidInput, match=field):
            call()
