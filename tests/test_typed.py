"""Environments and inputs as they are typed: what is no variable or file is refused."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from commandline import Shell
from hypothesis import given
from hypothesis import strategies as st
from samples import create, ended, is_path, sha256
from test_report import as_sha256sum

from butido_store import Store, artifact, job, report, uuid7
from butido_store._query import query
from butido_store._statement import Step
from butido_store.artifact import Output
from butido_store.errors import InvalidInput

pytestmark = pytest.mark.any_server

DIGEST = sha256("a").hex()
WANTED: dict[str, Any] = {
    "package": "zlib",
    "version": "1.3",
    "image": "debian:12",
    "script": "#!/bin/sh\nmake\n",
}
ENV = {"LANG": "C.UTF-8", "CC": "gcc"}
VARIABLES = [f"{name}={value}" for name, value in ENV.items()]
MISS = ["explain-miss", "zlib", "--version=1.3", "--image=debian:12", "--script=make"]


@pytest.fixture
def store(dsn: str, schema: str) -> Iterator[Store]:
    """A store on the test's database."""
    with Store.connect(dsn, schema=schema) as store:
        yield store


ENVIRONMENT = [
    (report.find_artifact, {"package": "zlib"}),
    (report.explain_miss, {**WANTED, "inputs": []}),
]


@pytest.mark.parametrize(("question", "given_"), ENVIRONMENT)
@pytest.mark.parametrize(
    ("env", "says"),
    [
        (["DEBUG"], r"^env\[0\] must be NAME=VALUE"),
        (["A=b", "DEBUG"], r"^env\[1\] must be"),
        (["A=b", ""], r"^env\[1\] must be"),
        (["=b"], r"^env\[0\] must be"),
        (["A=b", "A=c"], r"^env\[1\] has 'A', which was given before"),
    ],
)
def test_a_variable_without_a_value_is_refused(
    question: Any, given_: dict[str, Any], env: list[str], says: str
) -> None:
    with pytest.raises(InvalidInput, match=says):
        question(**given_, env=env)


@pytest.mark.parametrize("words", [["jobs"], ["find-artifact", "zlib"], MISS])
@pytest.mark.parametrize("option", ["-E", "--env"])
def test_a_variable_without_a_value_is_a_usage_error(
    shell: Shell, words: list[str], option: str
) -> None:
    done = shell(*words, option, "hunter2")
    assert done.exit_code == 2
    assert "--env" in done.stderr.splitlines()[-1]
    assert "must be NAME=VALUE" in done.stderr.splitlines()[-1]
    assert "hunter2" not in done.stderr


def test_a_value_begins_after_the_first_sign(shell: Shell, store: Store) -> None:
    of_submit, one = uuid7(), uuid7()
    made = [Output("a", sha256("a"), 1)]
    store.run(create(of_submit))
    store.run(job.record(ended(one, of_submit, env={"A": "b=c"}, outputs=made)))
    for words in (["jobs"], ["find-artifact", "zlib"]):
        found = [
            *words,
            "--format=csv",
            "--columns=path" if words != ["jobs"] else "--columns=uuid",
        ]
        assert len(shell(*found, "-E", "A=b=c").stdout.splitlines()) == 2
        assert len(shell(*found, "-E", "A=b").stdout.splitlines()) == 1
    miss = [*MISS, "--script=#!/bin/sh\nmake\n", "--format=csv", "--columns=env"]
    assert '""old"": ""b=c""' in shell(*miss, "-E", "A=b").stdout
    assert "old" not in shell(*miss, "-E", "A=b=c").stdout


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("name", ["jobs", "submits", "find_artifact", "explain_miss"])
def test_psql_takes_no_variable_without_a_value(
    name: str, connection: psycopg.Connection[Any]
) -> None:
    asked: dict[str, dict[str, Any]] = {
        "jobs": {"env": "DEBUG"},
        "submits": {"label": ["DEBUG"]},
        "find_artifact": {"package": "zlib", "env": ["DEBUG"]},
        "explain_miss": {**WANTED, "env": ["DEBUG"], "inputs": []},
    }
    step = Step(query(f"report/{name}"), asked[name])
    with pytest.raises(psycopg.errors.SubstringError):
        psycopg.RawCursor(connection).execute(*step.rendered())


@pytest.mark.usefixtures("filled")
def test_psql_takes_no_input_with_one_space(connection: psycopg.Connection[Any]) -> None:
    asked = {**WANTED, "env": [], "inputs": [f"{DIGEST} src"]}
    step = Step(query("report/explain_miss"), asked)
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        psycopg.RawCursor(connection).execute(*step.rendered())


@pytest.mark.parametrize(
    "line",
    [
        f"{DIGEST} src",
        f"{DIGEST}\tsrc",
        f"{DIGEST}",
        f"{DIGEST}  ",
        f"{DIGEST[1:]}  src",
        f"{DIGEST.upper()}  src",
        f" {DIGEST}  src",
        f"SHA256 (src) = {DIGEST}",
        f"\\{DIGEST}  a\\tb",
        f"\\{DIGEST}  a\\",
        f"{DIGEST}  src\r",
        "",
    ],
)
def test_a_line_that_sha256sum_does_not_print_is_refused(
    shell: Shell, tmp_path: Path, line: str
) -> None:
    file = tmp_path / "sums"
    file.write_bytes(f"{DIGEST}  fine\n{line}\n{DIGEST}  fine\n".encode())
    for value, where in ((f"{DIGEST}  fine\n{line}\n", "line 2: "), (f"@{file}", "sums, line 2: ")):
        done = shell(*MISS, f"--inputs={value}")
        assert done.exit_code == 2
        assert "--inputs" in done.stderr
        assert where in done.stderr


@pytest.mark.parametrize("name", ["none", "."])
def test_a_file_of_inputs_that_cannot_be_read_is_named(
    shell: Shell, tmp_path: Path, name: str
) -> None:
    done = shell(*MISS, f"--inputs=@{tmp_path / name}")
    assert (done.exit_code, "--inputs" in done.stderr, "cannot be read" in done.stderr) == (2, 1, 1)


@pytest.mark.parametrize(
    "inputs", [[f"{DIGEST} src"], [f"{DIGEST}  "], [f"{DIGEST} *src"], ["src"], [f"\\{DIGEST}  a"]]
)
def test_an_input_has_two_spaces_before_its_path(inputs: list[str]) -> None:
    with pytest.raises(InvalidInput, match=r"^inputs\[0\] is .*two spaces"):
        report.explain_miss(**WANTED, env=[], inputs=inputs)


PATH = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1
).filter(is_path)


@given(paths=st.lists(st.text("\\\nnr\r *aü@ ", min_size=1) | PATH, unique=True, max_size=4))
def test_every_path_is_taken_as_sha256sum_prints_it(
    shell: Shell, store: Store, paths: list[str]
) -> None:
    of_submit = uuid7()
    files = [artifact.register(path, sha256=sha256("a"), size=1) for path in paths]
    package = str(uuid7())
    store.run(create(of_submit))
    known = [store.run(one) for one in files]
    store.run(job.record(ended(uuid7(), of_submit, package=package, inputs=known)))
    lines = [as_sha256sum(f"{DIGEST}  {path}") for path in paths]
    # What binary mode prints.
    lines[1:] = [line.replace("  ", " *", 1) for line in lines[1:]]
    env = [f"--env={variable}" for variable in VARIABLES]
    words = ["explain-miss", "--version=1.3", "--image=debian:12", "--script=x", *env]
    for inputs in (["\n".join(lines)], lines):
        options = [f"--inputs={value}" for value in inputs]
        done = shell(*words, *options, "--format=csv", "--columns=inputs", "--", package)
        assert (done.exit_code, done.stdout.splitlines()[1:]) == (0, ['""'])


def test_what_the_program_prints_is_taken(shell: Shell, store: Store, tmp_path: Path) -> None:
    if shutil.which("sha256sum") is None:
        pytest.skip("there is no sha256sum")
    paths = [" a", "*b", "c\\d", "e\nf", "\\", "ü  ", "g\n"]
    for path in paths:
        (tmp_path / path).write_text("a")
    of_submit = uuid7()
    store.run(create(of_submit))
    known = [
        store.run(artifact.register(path, sha256=sha256("a"), size=1)) for path in sorted(paths)
    ]
    store.run(job.record(ended(uuid7(), of_submit, inputs=known)))
    for mode in ("--text", "--binary"):
        printed = subprocess.run(
            ["sha256sum", mode, "--", *paths],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            check=True,
            env=os.environ | {"LC_ALL": "C.UTF-8"},
        ).stdout
        sums = tmp_path / "sums"
        sums.write_bytes(printed)
        for value in (f"@{sums}", printed.decode()):
            done = shell(*MISS, f"--inputs={value}", "--format=csv", "--columns=inputs")
            assert (done.exit_code, done.stdout.splitlines()[1:]) == (0, ['""'])
