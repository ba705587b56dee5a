"""Reports: the same rows through the library, psql and the command line, and what is refused."""

import asyncio
import inspect
import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime, timedelta
from itertools import combinations
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict
from uuid import UUID

import pytest
from click import Context
from commandline import Shell
from conftest import Postgres
from doors import Both, Connection
from filled import (
    BESIDE,
    DONE,
    NEXT,
    ODD,
    ONE_OF,
    PROGRAM,
    REPORTS,
    ROW_TYPES,
    RUNNING,
    SOURCE,
    SUBMIT,
)
from psycopg.adapt import Transformer
from psycopg.pq import Format
from samples import TIME, create, ended, finish, later, sha256, start

from butido_store import AsyncStore, Statement, Store, artifact, job, report, uuid7
from butido_store._query import query
from butido_store.artifact import Output
from butido_store.cli.main import main
from butido_store.cli.output import formats
from butido_store.errors import InvalidInput, NotFound

Ask = Callable[..., list[Any]]
Question = Callable[..., Statement[list[Any]]]


@pytest.fixture
def ask(dsn: str, schema: str) -> Iterator[Ask]:
    """Ask a report."""
    with Store.connect(dsn, schema=schema) as store:
        yield lambda question, *given, **named: store.run(question(*given, **named))


def choices() -> Iterator[Any]:
    """Yield each report with none, each and all of its optional parameters."""
    for name, sample in REPORTS.items():
        file = query(f"report/{name}")
        optional = [field for field in sample if field not in file.required]
        for chosen in dict.fromkeys([(), *((field,) for field in optional), tuple(optional)]):
            one_of, beside = ONE_OF.get(name, ()), BESIDE.get(name, {})
            chosen = (*dict.fromkeys([*(beside[f] for f in chosen if f in beside), *chosen]),)
            needed = one_of[:1] if {*one_of}.isdisjoint(chosen) else ()
            given = {field: sample[field] for field in (*file.required, *needed, *chosen)}
            yield pytest.param(name, given, id="+".join([name, *chosen][:3]))


def as_sha256sum(text: str) -> str:
    """Return a file as the program prints it: a path that it cannot show has escapes."""
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return f"\\{escaped}" if escaped != text else text


def as_option(name: str, given: Mapping[str, object]) -> list[str]:
    """Return the parameters of a report as somebody would type them."""
    file, words, arguments = query(f"report/{name}"), [], []
    first = next((f for f in (*file.notes, *file.types) if f in file.required), None)
    for field, value in given.items():
        match value:
            case True:
                texts = [""]
            case bytes():
                texts = [value.hex()]
            case datetime():
                texts = [value.isoformat()]
            case list():
                texts = [str(item) for item in value]
            case _:
                texts = [str(value)]
        if field == "inputs":
            texts = [as_sha256sum(text) for text in texts]
        if field == first:
            arguments = texts
        else:
            option = f"--{field.replace('_', '-')}"
            words += [option if value is True else f"{option}={text}" for text in texts]
    if "limit" in file.types and "limit" not in given:
        words.append("--limit=0")
    return [name.replace("_", "-"), *words, "--", *arguments]


def back(value: Any, like: object) -> object:
    """Return what JSON has for a value as that value again."""
    match like:
        case UUID():
            return UUID(value)
        case bytes():
            return bytes.fromhex(value)
        case datetime():
            assert value.endswith("Z")
            return datetime.fromisoformat(value)
        case timedelta():
            return timedelta(seconds=value)
        case list():
            return [back(item, other) for item, other in zip(value, like, strict=True)]
        case _:
            return value


def assert_holds(value: Any, kind: Any) -> None:
    """Assert that a value is of a type, to the last key of its documents."""
    parts = get_args(kind)
    if is_dataclass(kind):
        for name, field in get_type_hints(kind).items():
            assert_holds(getattr(value, name), field)
    elif is_typeddict(kind):
        hints = get_type_hints(kind)
        assert kind.__required_keys__ <= value.keys() <= hints.keys()
        for name, item in value.items():
            assert_holds(item, hints[name])
    elif get_origin(kind) in (Union, UnionType):
        (one,) = [part for part in parts if (part is NoneType) == (value is None)]
        assert_holds(value, one)
    elif get_origin(kind) is Literal:
        assert value in parts
    elif get_origin(kind) is list:
        for item in value:
            assert_holds(item, parts[0])
    elif get_origin(kind) is dict:
        for name, item in value.items():
            assert_holds(name, parts[0])
            # A whole number of JSON is an int, which is as good as a float.
            whole = parts[1] is float and type(item) is int
            assert_holds(float(item) if whole else item, parts[1])
    else:
        assert type(value) is kind


@dataclass(frozen=True)
class Doors:
    """The library, psql and the command line, on one store."""

    both: Both
    connection: Connection
    ask: Ask
    shell: Shell


@pytest.fixture
def doors(
    postgres: Postgres,
    filled: str,
    schema: str,
    connection: Connection,
    ask: Ask,
    shell: Shell,
    tmp_path: Path,
) -> Doors:
    """The doors to the store that is filled."""
    return Doors(Both(postgres, filled, schema, schema, tmp_path), connection, ask, shell)


def through_each_door(name: str, given: Mapping[str, object], doors: Doors) -> list[Any]:
    """Return the rows of a report, which are the same through each door."""
    both, connection, ask, shell = doors.both, doors.connection, doors.ask, doors.shell
    row_type = ROW_TYPES[name]
    everything = {"limit": None} if "limit" in REPORTS[name] else {}
    rows = ask(getattr(report, name), **{**everything, **given})
    assert_holds(rows, list[row_type])  # type: ignore[valid-type]

    found = both.by_library(query(f"report/{name}"), given)
    assert both.by_psql(query(f"report/{name}"), given) == found
    assert found.columns == tuple(field.name for field in fields(row_type))
    load = [Transformer(connection).get_loader(code, Format.TEXT).load for code in found.types]
    assert rows == [
        row_type(
            *(None if c is None else to(c.encode()) for to, c in zip(load, cells, strict=True))
        )
        for cells in found.rows
    ]

    shown = shell(*as_option(name, given)[:1], "--format=json", *as_option(name, given)[1:])
    assert shown.exit_code == 0, shown.output
    by_json = json.loads(shown.stdout)
    assert [list(record) for record in by_json] == [list(found.columns)] * len(rows)
    assert rows == [
        row_type(**{key: back(value, getattr(row, key)) for key, value in record.items()})
        for row, record in zip(rows, by_json, strict=True)
    ]
    return rows


@pytest.mark.parametrize(("name", "given"), [*choices()])
def test_a_report_gives_the_same_through_each_door(
    name: str, given: dict[str, object], doors: Doors
) -> None:
    assert through_each_door(name, given, doors)


def forgotten(value: Any) -> Any:
    """Return rows as they are of a store that knows no file's content."""
    if isinstance(value, list):
        return [forgotten(item) for item in value]
    if isinstance(value, dict):
        return {
            key: None
            if key in ("sha256", "size")
            else "unknown"
            if "path" in value and key in ("old", "new")
            else forgotten(item)
            for key, item in value.items()
        }
    names = {field.name for field in fields(value)} if is_dataclass(value) else set()
    unknown = {name: None for name in ("sha256", "size", "fingerprint") if name in names}
    others = {name: forgotten(getattr(value, name)) for name in names - unknown.keys()}
    return type(value)(**unknown, **others) if names else value


@pytest.mark.any_server
@pytest.mark.parametrize("name", REPORTS)
def test_a_report_tells_unknown_contents_and_drops_no_row(name: str, doors: Doors) -> None:
    sample = REPORTS[name]
    needed = (*query(f"report/{name}").required, *ONE_OF.get(name, ())[:1])
    given = {field: sample[field] for field in needed}
    before = through_each_door(name, given, doors)
    doors.connection.execute("UPDATE artifact SET sha256 = NULL, size = NULL")
    doors.connection.execute("UPDATE job SET fingerprint = NULL")
    doors.connection.execute("ANALYZE")
    if name == "slsa":
        refused = doors.shell(*as_option(name, given))
        assert refused.exit_code == 1
        assert doors.ask(report.slsa, *given.values()) == []
        return
    after = through_each_door(name, given, doors)
    if name == "irreproducible":
        assert after == []
        return
    assert after
    if name not in ("explain_miss", "metrics"):
        assert after == forgotten(before)
    option = as_option(name, given)
    has_unknown = after != before and name != "metrics"
    for format_ in formats(ROW_TYPES[name]):
        done = doors.shell(*option[:1], f"--format={format_}", *option[1:])
        assert done.exit_code == 0, done.output
        said = {"json": "null", "jsonl": "null", "csv": ","}.get(format_, "unknown")
        # In a difference it is a word: what is not there has no key.
        said = "unknown" if name in ("explain_miss", "history") else said
        assert not has_unknown or said in done.stdout


def test_every_report_has_a_file_a_function_a_command_and_sample_parameters() -> None:
    files = {path.stem for path in query("report/jobs").path.parent.glob("*.sql")}
    functions = {
        name
        for name, function in inspect.getmembers(report, inspect.isfunction)
        if function.__module__ == report.__name__ and not name.startswith("_")
    }
    assert files == functions == set(REPORTS)
    assert {name.replace("_", "-") for name in files} <= set(main.list_commands(Context(main)))


# What has choices, which the header of a file lists.
CHOICES = (job.State, report.Period)
# What each cast of a file is in Python; a text may be one of some.
TYPES: dict[str, tuple[Any, ...]] = {
    "bigint": (int,),
    "boolean": (bool,),
    "bytea": (bytes,),
    "text": (str, report.Variable, report.Uri, *CHOICES),
    "text[]": (report.Texts, report.Variables, report.Labels, report.Files),
    "timestamptz": (datetime,),
    "uuid": (UUID,),
}


@pytest.mark.parametrize("name", REPORTS)
def test_a_function_has_the_parameters_of_its_file(name: str) -> None:
    file, function = query(f"report/{name}"), getattr(report, name)
    parameters = inspect.signature(function).parameters
    assert list(parameters) == list(file.notes)
    assert parameters.keys() == file.types.keys()
    assert {n for n, p in parameters.items() if p.default is p.empty} == file.required
    for field, parameter in parameters.items():
        kinds = TYPES[file.types[field]]
        if parameter.default is None or field == "limit":
            kinds = tuple(kind | None for kind in kinds)
        assert parameter.annotation in kinds
        choices = [kind for kind in CHOICES if parameter.annotation in (kind, kind | None)]
        assert [file.notes[field].choices or ()] == [*map(get_args, choices), ()][:1]
    if "limit" in parameters:
        assert parameters["limit"].default == 50


def test_the_default_limit_is_the_same_in_python_and_on_the_shell(
    ask: Ask, shell: Shell, dsn: str, schema: str
) -> None:
    of_submit = uuid7()
    with Store.connect(dsn, schema=schema) as store:
        store.run(create(of_submit), job.record_all(ended(uuid7(), of_submit) for _ in range(60)))
    for given, words, count in (
        ({}, [], 50),
        ({"limit": 7}, ["--limit=7"], 7),
        ({"limit": None}, ["--limit=0"], 60),
    ):
        assert len(ask(report.jobs, **given)) == count
        assert len(shell("jobs", "--format=jsonl", *words).stdout.splitlines()) == count


@pytest.mark.parametrize(
    ("question", "given", "says"),
    [
        (report.images, {"limit": -1}, "limit"),
        (report.images, {"limit": True}, "limit"),
        (report.images, {"limit": "5"}, "limit"),
        (report.submit, {"submit": None}, "submit"),
        (report.submit, {"submit": "5"}, "submit"),
        (report.history, {"package": None}, "package"),
        (report.jobs, {"before": artifact.Artifact(DONE, "p", b"", 0, None)}, "before"),
        (report.jobs, {"of_submit": ""}, "of_submit"),
        (report.jobs, {"state": "done"}, "state is 'done'"),
        (report.jobs, {"newer_than": 0}, "newer_than"),
        (report.jobs, {"newer_than": datetime(2026, 11, 23)}, "newer_than"),
        (report.jobs, {"package": "z\0"}, "package"),
        (report.jobs, {"env": "AB"}, "env must be NAME=VALUE"),
        (report.artifacts, {"sha256": b"short"}, "sha256"),
        (report.find_artifact, {"package": "zlib", "env": "A=b"}, "env must be a list"),
        (report.find_artifact, {"package": "zlib", "env": [1]}, r"env\[0\]"),
        (report.job, {"job": DONE, "log": "yes"}, "log"),
        (report.impact, {}, "one of artifact, package, commit, image, endpoint must be given"),
        (report.impact, {"artifact": SOURCE, "version": "1"}, "version"),
        (report.search_log, {"package": "zlib"}, "one of text, regex must be given"),
        (report.submits, {"with_version": "1"}, "with_version says more of with_pkg"),
        (report.jobs, {"before_at": TIME}, "before_at says more of before, and no before is"),
        (report.submits, {"before_at": TIME}, "before_at says more of before, and no before is"),
    ],
)
def test_a_bad_question_is_refused_at_once(
    question: Question, given: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidInput, match=says):
        question(**given)


def test_a_parameter_that_is_none_is_as_good_as_not_given() -> None:
    assert report.jobs(package=None).steps[0].parameters == {"limit": 50}
    assert report.jobs(limit=None).steps[0].parameters == {}
    assert report.job(DONE, log=False).steps[0].parameters == {"job": DONE}


@pytest.mark.parametrize(("name", "time"), [("jobs", "started_at"), ("submits", "timestamp")])
def test_a_page_after_a_row_that_was_removed_is_no_last_page(
    name: str, time: str, doors: Doors, dsn: str, schema: str
) -> None:
    removed, of_submit, gone = name.removesuffix("s"), uuid7(), uuid7()
    with Store.connect(dsn, schema=schema) as store:
        store.run(create(of_submit), create(gone), start(gone, of_submit))
    every = doors.ask(getattr(report, name), limit=None)
    (row,) = (row for row in every if row.uuid == gone)
    doors.connection.execute("DELETE FROM job WHERE uuid = %s", [gone])
    doors.connection.execute("DELETE FROM submit WHERE uuid = %s", [gone])
    given = {"before": gone}
    says = f"before: there is no {removed} {gone}"
    with pytest.raises(NotFound, match=f"^{says}; if it was removed since, give its time as"):
        doors.ask(getattr(report, name), **given)
    refused = doors.shell(*as_option(name, given))
    assert (refused.exit_code, says in refused.output) == (1, True)
    with pytest.raises(AssertionError, match=f'ERROR: .*"{says}"'):
        doors.both.by_psql(query(f"report/{name}"), given)
    given["before_at"] = getattr(row, time)
    assert through_each_door(name, given, doors) == every[every.index(row) + 1 :]


@pytest.mark.parametrize("newest_first", [True, False], ids=["all", "by package"])
def test_pages_follow_each_other(ask: Ask, dsn: str, schema: str, newest_first: bool) -> None:
    of_submit = uuid7()
    # Three start at the same time: only their uuids tell which is the newer one.
    starts = [0, 1, 1, 1, 2, 3, 4]
    with Store.connect(dsn, schema=schema) as store:
        store.run(
            create(of_submit),
            *(start(uuid7(), of_submit, started_at=later(second)) for second in starts),
        )
    given = {} if newest_first else {"package": "zlib"}
    every = [row.uuid for row in ask(report.jobs, limit=None, **given)]
    paged: list[UUID] = []
    while page := ask(report.jobs, limit=2, before=paged[-1] if paged else None, **given):
        paged += [row.uuid for row in page]
    assert (paged, len(every)) == (every, len(starts))


def test_filters_together_give_what_each_leaves_of_the_others(dsn: str, schema: str) -> None:
    """Whichever index finds them: of a package's versions, or of environments with a variable."""
    choose = random.Random(1)
    jobs = [
        ended(
            uuid7(),
            UUID(int=1),
            package=choose.choice(["a", "b"]),
            version=choose.choice("123"),
            endpoint=choose.choice(["x", "y"]),
            state=choose.choice(["success", "error"]),
            env={"ALL": "", "V": choose.choice("12"), "W": str(choose.randrange(9))},
            started_at=later(choose.randrange(20)),
        )
        for _ in range(90)
    ]
    jobs.sort(key=lambda one: (one.started_at, one.uuid), reverse=True)
    filters: dict[str, tuple[Any, Callable[[job.EndedJob], bool]]] = {
        "package": ("a", lambda one: one.package == "a"),
        "version": ("2", lambda one: one.version == "2"),
        "endpoint": ("x", lambda one: one.endpoint == "x"),
        "state": ("error", lambda one: one.state == "error"),
        "env": ("V=2", lambda one: one.env["V"] == "2"),
        "older_than": (later(15), lambda one: one.started_at < later(15)),
    }
    with Store.connect(dsn, schema=schema) as store:
        store.run(create(UUID(int=1)), job.record_all(jobs))
        for count in range(len(filters) + 1):
            for names in combinations(filters, count):
                given = {name: filters[name][0] for name in names}
                wanted = [one.uuid for one in jobs if all(filters[n][1](one) for n in names)]
                paged: list[UUID] = []
                while page := store.run(
                    report.jobs(limit=20, before=paged[-1] if paged else None, **given)
                ):
                    paged += [row.uuid for row in page]
                assert paged == wanted
                found = store.run(report.jobs(limit=None, **given))
                assert [row.uuid for row in found] == wanted


def test_an_environment_is_shown_by_name(dsn: str, schema: str) -> None:
    of_submit, uuid, env = uuid7(), uuid7(), {"Z": "1", "A": "1"}
    with Store.connect(dsn, schema=schema) as store:
        # Stored first, it would come first.
        store.run(create(uuid7(), env={"Z": "1"}))
        store.run(create(of_submit, env=env), start(uuid, of_submit, env=env))
        (asked,), (ran,) = store.run(report.submit(of_submit), report.job(uuid, env=True))
    assert [*asked.env] == [*(ran.env or {})] == ["A", "Z"]


def test_a_variable_that_no_new_job_has_is_found(dsn: str, schema: str) -> None:
    """Behind more jobs without it than a page looks at."""
    of_submit = uuid7()
    old = [
        ended(
            uuid7(),
            of_submit,
            version=str(number % 2),
            env={"OLD": "yes", "N": str(number % 7)},
            started_at=later(number // 3),
        )
        for number in range(40)
    ]
    old.sort(key=lambda one: (one.started_at, one.uuid), reverse=True)
    new = [ended(uuid7(), of_submit, started_at=later(100)) for _ in range(1100)]
    with Store.connect(dsn, schema=schema) as store:
        store.run(create(of_submit), job.record_all([*old, *new]))
        for given in ({}, {"version": "1"}, {"package": "zlib"}, {"of_submit": of_submit}):
            wanted = [one.uuid for one in old if one.version == given.get("version", one.version)]
            paged: list[UUID] = []
            while page := store.run(
                report.jobs(env="OLD=yes", limit=3, before=paged[-1] if paged else None, **given)
            ):
                paged += [row.uuid for row in page]
            assert paged == wanted
            every = store.run(report.jobs(env="OLD=yes", limit=None, **given))
            assert [row.uuid for row in every] == wanted


def test_the_limit_counts_jobs_not_their_versions(ask: Ask, dsn: str, schema: str) -> None:
    of_submit = uuid7()
    with Store.connect(dsn, schema=schema) as store:
        store.run(
            create(of_submit),
            *(
                start(uuid7(), of_submit, version=version, started_at=later(second))
                for second, version in enumerate(["1", "2", "1", "3", "2", "1"])
            ),
        )
    assert [row.version for row in ask(report.jobs, package="zlib", limit=4)] == [
        "1",
        "2",
        "3",
        "1",
    ]


def test_both_stores_stream(dsn: str, schema: str) -> None:
    of_submit = uuid7()
    with Store.connect(dsn, schema=schema) as store:
        store.run(create(of_submit))
        store.run(job.record_all(ended(uuid7(), of_submit) for _ in range(2500)))
        every = [row.uuid for row in store.run(report.jobs(limit=None))]
        assert [row.uuid for row in store.stream(report.jobs(limit=None))] == every
        # One that is left early gives its connection back.
        rows = store.stream(report.jobs(limit=None))
        assert next(rows).uuid == every[0]
        rows.close()
        assert len(store.run(report.jobs(limit=1))) == 1

    async def stream() -> list[UUID]:
        async with await AsyncStore.connect(dsn, schema=schema) as store:
            return [row.uuid async for row in store.stream(report.jobs(limit=None))]

    assert asyncio.run(stream()) == every
    assert len(every) == 2500


# Answers --------------------------------------------------------------------------------------


def test_explain_miss_says_what_differs(ask: Ask, dsn: str, schema: str) -> None:
    of_submit, maker, before, source, made = (uuid7() for _ in range(5))
    with Store.connect(dsn, schema=schema) as store:
        store.run(
            create(of_submit),
            artifact.register("src", sha256=sha256("old"), size=1, uuid=source),
            start(before, of_submit, env={"A": "1", "B": "1"}, script="x\ny\n", inputs=[source]),
            finish(before),
            start(maker, of_submit, package="gen"),
            finish(maker, outputs=[Output("src", sha256("new"), 1, made)]),
        )
    wanted = {"package": "zlib", "version": "1.3", "image": "debian:12", "script": "x\nz\n"}
    env, inputs = ["A=2", "C=1"], [f"{sha256('new').hex()}  src"]
    (miss,) = ask(report.explain_miss, **wanted, env=env, inputs=inputs)
    assert (miss.job_uuid, miss.version, miss.image) == (before, None, None)
    assert miss.env == [
        {"name": "A", "old": "1", "new": "2"},
        {"name": "B", "old": "1"},
        {"name": "C", "new": "1"},
    ]
    old, new = sha256("old").hex(), sha256("new").hex()
    assert miss.inputs == [{"path": "src", "old": old, "new": new, "job": str(maker)}]
    assert miss.script_diff(wanted["script"]).splitlines()[-3:] == [" x", "-y", "+z"]
    same = ask(
        report.explain_miss,
        **(wanted | {"script": "x\ny\n"}),
        env=["A=1", "B=1"],
        inputs=[f"{sha256('old').hex()}  src"],
    )
    assert (same[0].env, same[0].inputs, same[0].script) == (None, None, None)
    assert same[0].script_diff("x\ny\n") is None


@pytest.mark.parametrize("was", [sha256("before"), None], ids=["known", "unknown"])
@pytest.mark.parametrize("now", [sha256("after"), sha256("before"), None])
def test_explain_miss_says_that_an_image_has_moved(
    ask: Ask, shell: Shell, dsn: str, schema: str, was: bytes | None, now: bytes | None
) -> None:
    of_submit, one, other = uuid7(), uuid7(), uuid7()
    values: dict[str, Any] = {"script": "x", "image_sha256": was, "env": {}}
    with Store.connect(dsn, schema=schema) as store:
        store.run(
            create(of_submit),
            job.record(ended(one, of_submit, **values)),
            # Newer, and one difference away.
            job.record(
                ended(
                    other,
                    of_submit,
                    **values | {"script": "y", "image_sha256": now, "started_at": later(2)},
                )
            ),
        )
    wanted = {"version": "1.3", "image": "debian:12", "script": "x"}
    found = ask(report.explain_miss, "zlib", **wanted, image_sha256=now, env=[], inputs=[])
    assert [row.job_uuid for row in found] == ([one, other] if was == now else [other, one])
    (miss,) = [row for row in found if row.job_uuid == one]
    old, new = (digest and digest.hex() for digest in (was, now))
    assert miss.image_sha256 == (None if was == now else {"old": old, "new": new})
    assert (miss.version, miss.image, miss.script, miss.env, miss.inputs) == (None,) * 5
    words = [f"--{name}={value}" for name, value in wanted.items()]
    words += [f"--image-sha256=sha256:{new}"] if new else []
    shown = shell("explain-miss", "zlib", *words).stdout
    moved = f"old={old or 'unknown'}" in shown and f"new={new or 'unknown'}" in shown
    assert moved == (was != now)


def test_history_shows_which_image_each_job_had(ask: Ask, dsn: str, schema: str) -> None:
    of_submit = uuid7()
    with Store.connect(dsn, schema=schema) as store:
        store.run(
            create(of_submit),
            job.record(ended(uuid7(), of_submit, image_sha256=sha256("before"))),
            job.record(
                ended(uuid7(), of_submit, state="error", started_at=later(2), image_sha256=None)
            ),
        )
    (history,) = ask(report.history, "zlib")
    assert (history.good_image_sha256, history.bad_image_sha256) == (sha256("before"), None)


def test_history_and_regressions_tell_how_a_package_fares(ask: Ask, dsn: str, schema: str) -> None:
    good, bad = uuid7(), uuid7()
    commits = {good: "a" * 40, bad: "b" * 40}
    states = {
        "fixed": ["error", "success"],
        "new failure": ["success", "error"],
        "still failing": ["error", "error"],
        "fine": ["success", "success"],
    }
    with Store.connect(dsn, schema=schema) as store:
        store.run(*(create(uuid, repo_hash=commit) for uuid, commit in commits.items()))
        for package, (first, second) in states.items():
            for of_submit, state, at in ((good, first, 1), (bad, second, 100)):
                one = ended(
                    uuid7(),
                    of_submit,
                    package=package,
                    state=state,
                    started_at=later(at),
                    finished_at=later(at + 10),
                )
                store.run(job.record(one))
    found = {row.package: row.status for row in ask(report.regressions)}
    assert found == {name: name for name in ("fixed", "new failure", "still failing")}
    (history,) = ask(report.history, package="new failure")
    assert (history.good_commit, history.bad_commit) == ("a" * 40, "b" * 40)
    (durations,) = ask(report.durations, package="new failure")
    assert (durations.jobs, durations.failed, durations.failure_rate) == (2, 1, 0.5)


def test_the_same_failure_is_one_whatever_its_numbers(ask: Ask, dsn: str, schema: str) -> None:
    of_submit = uuid7()
    logs = [f"cc -c a.c\n/tmp/build-{n}/a.c:{n}: error: no member 0x{n:x}\n" for n in range(10, 24)]
    with Store.connect(dsn, schema=schema) as store:
        store.run(create(of_submit))
        for log in (*logs, "error: another\n"):
            store.run(job.record(ended(uuid7(), of_submit, state="error", log=log)))
    found = ask(report.failures)
    assert sorted(row.jobs for row in found) == [1, len(logs)]


def test_search_log_counts_lines_as_the_log_has_them(ask: Ask, dsn: str, schema: str) -> None:
    of_submit = uuid7()
    with Store.connect(dsn, schema=schema) as store:
        store.run(create(of_submit))
        store.run(job.record(ended(uuid7(), of_submit, log="a\nB needle\n\nneedle 2\n")))
    hits = ask(report.search_log, text="needle")
    assert [(hit.line_number, hit.line) for hit in hits] == [(2, "B needle"), (4, "needle 2")]
    assert [hit.line_number for hit in ask(report.search_log, regex="^needle [0-9]$")] == [4]
    assert [hit.line_number for hit in ask(report.search_log, text="needle", limit=1)] == [2]


# The command line -----------------------------------------------------------------------------


@pytest.mark.usefixtures("filled")
def test_a_uuid_may_be_its_unique_beginning(shell: Shell, dsn: str, schema: str) -> None:
    one = UUID("abcdef12-0000-7000-8000-000000000001")
    two = UUID("abcdef12-ffff-7000-8000-000000000002")
    with Store.connect(dsn, schema=schema) as store:
        store.run(start(one, SUBMIT), start(two, SUBMIT))
    for text in ("abcdef12-0", "ABCDEF120", str(one), one.hex):
        shown = shell("job", "--format=jsonl", text)
        assert json.loads(shown.stdout)["uuid"] == str(one)
    for text, says, code in (
        ("abcdef", "more than one uuid begins with abcdef", 2),
        ("99", "there is no job whose uuid begins with 99", 1),
        ("xyz", "'xyz' is not a uuid", 2),
        ("", "'' is not a uuid", 2),
        (str(uuid7()), "there is no job", 1),
    ):
        failed = shell("job", text)
        assert failed.exit_code == code
        assert says in failed.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["jobs", "--newer-than", "yesterday"], "'yesterday' is not a time"),
        (["jobs", "--newer-than", "2026-11-23T12:00:00"], "is not a time"),
        (["jobs", "--newer-than", "2026-13-01"], "is not a time"),
        (["jobs", "--newer-than", "999999999d"], "is not a time"),
        (["jobs", "--state", "done"], "'done' is not one of"),
        (["jobs", "--limit", "-1"], "-1"),
        (["artifacts", "--sha256", "c0ffee"], "is not a SHA-256"),
        (["jobs", "--format", "yaml"], "'yaml' is not one of"),
        (["find-artifact", "zlib", "--script", "@/nowhere"], "/nowhere cannot be read"),
        (["nonsense"], "No such command"),
    ],
)
def test_what_cannot_be_asked_is_a_usage_error(
    shell: Shell, arguments: list[str], says: str
) -> None:
    failed = shell(*arguments)
    assert failed.exit_code == 2
    assert says in failed.stderr
    assert "Traceback" not in failed.output


@pytest.mark.usefixtures("filled")
def test_a_time_is_a_moment_a_day_or_how_long_ago(shell: Shell) -> None:
    def count(*arguments: str) -> int:
        return len(json.loads(shell("jobs", "--format=json", *arguments).stdout))

    every = count()
    assert count(f"--newer-than={later(75).isoformat()}") < every
    assert count(f"--older-than={TIME:%Y-%m-%d}") == 0
    assert count("--newer-than=36500d") == every
    assert count("--older-than=876000h") == 0


@pytest.mark.usefixtures("filled")
def test_formats(shell: Shell) -> None:
    csv_ = shell("jobs", "--format=csv", "--limit=1", "--state=success").stdout.splitlines()
    assert csv_[0].startswith("uuid,submit_uuid,package,version,image,endpoint,state,started_at")
    assert "2026-11-23T12:01:12.000000Z" in csv_[1]
    assert len(shell("jobs", "--format=jsonl", "--limit=0").stdout.splitlines()) == 6
    assert json.loads(shell("jobs", "--format=json", "--package=none").stdout) == []
    table = shell("jobs").stdout
    assert (table.count("\n"), "\x1b" in table) == (7, False)
    assert "# TYPE butido_jobs gauge\n" in shell("metrics", "--format=prometheus").stdout
    # What is in a cell stays in its line.
    assert shell("envvars").stdout.count("\n") == 1 + len(
        json.loads(shell("envvars", "--format=json").stdout)
    )


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("words", "way"),
    [
        (["jobs"], "run"),
        (["jobs", "--limit=1000000"], "run"),
        (["jobs", "--limit=0"], "stream"),
        (["search-log", "--text=error", "--limit=0"], "stream"),
        (["provenance", str(PROGRAM)], "run"),
        (["metrics"], "run"),
    ],
)
def test_only_what_has_no_limit_is_streamed(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, words: list[str], way: str
) -> None:
    """Any number of rows takes the same memory, and a page is known to the server as its query."""
    used = []

    def noting(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*given: Any, **named: Any) -> Any:
            used.append(name)
            return call(*given, **named)

        return noted

    for name in ("run", "stream"):
        monkeypatch.setattr(Store, name, noting(name, getattr(Store, name)))
    assert shell(*words, "--format=jsonl").exit_code == 0
    assert used == [way]


@pytest.mark.usefixtures("filled")
def test_lineage_is_drawn(shell: Shell) -> None:
    tree = shell("provenance", str(PROGRAM)).stdout.splitlines()
    assert tree[0].startswith("it's \\\"odd".replace("\\", ""))
    assert [line[:4] for line in tree[1:]] == ["├── ", "│   ", "└── "]
    assert tree[1].startswith("├── lib/libz.a")
    below = shell("impact", "--artifact", str(SOURCE)).stdout
    assert below.startswith("src/zlib.tar.gz")
    assert "released to stable" in below
    dot = shell("provenance", "--format=dot", str(PROGRAM)).stdout
    assert f'"{SOURCE}" -> "{PROGRAM}";' in dot
    mermaid = shell("provenance", "--format=mermaid", str(PROGRAM)).stdout
    assert (mermaid.splitlines()[0], mermaid.count("-->")) == ("flowchart LR", 3)


@pytest.mark.usefixtures("filled")
def test_the_parts_of_a_job_are_shown_on_demand(shell: Shell) -> None:
    short = shell("job", str(NEXT)).stdout
    assert ODD.splitlines()[0] not in short.replace(ODD, "") or "script" not in short
    long = shell("job", "-L", "-s", "-E", str(DONE)).stdout
    assert "\nscript\n" in long
    assert "\nlog\n" in long
    assert "LANG=C.UTF-8" in long
    assert shell("log-of", str(RUNNING)).stdout == ODD


def test_completion_is_offered(shell: Shell) -> None:
    for shell_name in ("bash", "zsh", "fish"):
        try:
            done = shell("completion", shell_name)
        except OSError:
            pytest.skip(f"{shell_name} is not there")
        assert "BUTIDO_STORE_COMPLETE" in done.stdout, done.output
    offered = shell(
        env={
            "_BUTIDO_STORE_COMPLETE": "bash_complete",
            "COMP_WORDS": "butido-store find",
            "COMP_CWORD": "1",
        }
    )
    assert offered.exit_code in (0, 2)
