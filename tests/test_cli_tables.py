"""Tables: that they fit the terminal, show what people look at first, and can be typed again."""

import csv
import json
import re
from dataclasses import fields
from uuid import UUID

import pytest
from commandline import Shell, Terminal
from filled import ROW_TYPES
from rich.cells import cell_len
from samples import HASH, TIME, create, ended, later, sha256, start

from butido_store import Store, artifact, job, release, uuid7
from butido_store.artifact import Output

pytestmark = pytest.mark.any_server

IMAGE = "registry.example.org/build/debian:12-2026-11-23"
ENDPOINT = "builder-1.build.example.org"
# Uuids of a builder that makes those of a submit at once: they differ from the 14th digit on.
SUBMIT = UUID("019aafa0-7000-7a00-8000-000000000001")
JOBS = [UUID(f"019aafa0-7001-7a0{digit}-8000-000000000001") for digit in "123"]
MADE = [UUID(f"019aafa0-7002-7a0{digit}-8000-000000000001") for digit in "123"]
PATHS = [
    "packages/libreoffice-24.8.3.2-linux-x86_64.tar.zst",
    "packages/漢字-1.0.tar.zst",
    "packages/zlib-1.3.1-linux-x86_64.tar.zst",
]
LINE = "In file included from /usr/include/x86_64-linux-gnu/sys/types.h:25, from error.c:1: 漢字"

REPORTS = {
    "artifacts": [],
    "durations": [],
    "endpoints": [],
    "envvars": [],
    "failures": [],
    "find-artifact": ["libreoffice"],
    "history": ["gcc"],
    "images": [],
    "impact": [f"--artifact={MADE[0]}"],
    "job": [str(JOBS[1])],
    "jobs": [],
    "measurements": [],
    "metrics": [],
    "packages": [],
    "provenance": [str(MADE[2])],
    "regressions": [],
    "releases": ["--history"],
    "search-log": ["--text=error"],
    "submit": [str(SUBMIT)],
    "submits": [],
}


@pytest.fixture(autouse=True)
def _store(dsn: str, schema: str) -> None:
    """Record three jobs that use each other's files, and one that failed."""
    with Store.connect(dsn, schema=schema) as store:
        where = {"image": IMAGE, "endpoint": ENDPOINT}
        env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        store.run(create(SUBMIT, package="libreoffice", version="24.8.3.2", image=IMAGE))
        for place, (one, name) in enumerate(
            zip(JOBS, ["libreoffice", "漢字", "zlib"], strict=True)
        ):
            made = Output(PATHS[place], sha256(name), 10**9, MADE[place])
            store.run(
                job.record(
                    ended(
                        one,
                        SUBMIT,
                        package=name,
                        version="24.8.3.2",
                        image_sha256=sha256(IMAGE),
                        container_hash=sha256("container").hex(),
                        env=env,
                        inputs=MADE[:place],
                        outputs=[made],
                        measurements={"cpu_seconds": 0.0004 + place},
                        started_at=later(place),
                        **where,
                    )
                )
            )
        failed = ended(uuid7(), SUBMIT, package="gcc", state="error", log=f"{LINE}\n", **where)
        store.run(job.record(failed))
        store.run(
            release.create(
                uuid7(), store="stable", timestamp=TIME, actor="jane.doe", artifacts=MADE
            )
        )


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_fits_the_terminal(terminal: Terminal, name: str) -> None:
    shown = terminal(name, *REPORTS[name])
    assert shown.code == 0
    assert len(shown.lines) > 1
    assert max(map(cell_len, shown.lines)) <= 80


@pytest.mark.parametrize("columns", [60, 80])
def test_what_is_beside_reports_fits_the_terminal(
    terminal: Terminal, dsn: str, schema: str, columns: int
) -> None:
    with Store.connect(dsn, schema=schema) as store:
        store.run(
            *(
                release.create(
                    uuid7(), store=name * 100, timestamp=TIME, actor="jane.doe", artifacts=[MADE[2]]
                )
                for name in "ab"
            )
        )
    for words in (["doctor"], ["impact", f"--artifact={MADE[0]}"], ["migrate", "status"]):
        shown = terminal(*words, columns=columns)
        # Below the table the doctor's advice is text, which a terminal breaks.
        table = [line for line in shown.lines if words != ["doctor"] or ": " not in line]
        assert len(table) > 1
        assert max(map(cell_len, table)) <= columns, words


@pytest.mark.parametrize("columns", [40, 80, 120, 200, 700])
def test_jobs_fit_any_terminal(terminal: Terminal, columns: int) -> None:
    shown = terminal("jobs", columns=columns)
    assert max(map(cell_len, shown.lines)) <= columns
    head = shown.lines[0].split()
    # What people look at first stays the longest, and what there is room for is shown.
    assert (head[0], "package" in head) == ("uuid", True)
    assert columns < 80 or {"version", "state", "started_at"} < {*head}
    assert (head == [field.name for field in fields(ROW_TYPES["jobs"])]) is (columns == 700)
    assert ("\nnot shown: " in shown.text) is (columns < 700)
    # Whole uuids need no more room, where there is some.
    assert (str(JOBS[0]) in shown.text) is (columns == 700)


def test_the_columns_are_aligned(terminal: Terminal) -> None:
    """Characters of two columns count as two."""
    head, *lines = terminal("jobs", "--columns=package,version").lines
    at = head.index("version")
    for line in lines:
        name = line.split()[0]
        assert line.index(line.split()[1]) + cell_len(name) - len(name) == at


def test_numbers_end_below_each_other(terminal: Terminal) -> None:
    head, *lines = terminal("search-log", "--text=error", "--columns=line_number,package").lines
    assert (head, *lines) == ("line_number  package", "          1  gcc")


@pytest.mark.parametrize("name", ["jobs", "artifacts", "submits", "releases"])
def test_a_shortened_uuid_is_that_of_one_record(
    terminal: Terminal, shell: Shell, dsn: str, schema: str, name: str
) -> None:
    """Of one in the whole store, also where no other is shown that begins so."""
    with Store.connect(dsn, schema=schema) as store:
        # A close one in another table.
        near = UUID(int=(MADE[0] if name in ("artifacts", "releases") else SUBMIT).int ^ 1 << 40)
        if name in ("jobs", "artifacts"):
            store.run(start(near, SUBMIT, started_at=later(100)))
        else:
            store.run(artifact.register("near", sha256=sha256(""), size=0, uuid=near))
    whole = {
        uuid
        for kind in ("jobs", "artifacts", "submits", "releases")
        for uuid in re.findall(
            r"[0-9a-f]{8}(?:-[0-9a-f]{4,12}){4}", shell(kind, "--format=json", "--limit=0").stdout
        )
    }
    shown = terminal(name, columns=100).text
    assert not any(uuid in shown for uuid in whole)
    beginnings = set(re.findall(r"\b01[0-9a-f]{6}(?:-[0-9a-f-]*[0-9a-f])?\b", shown))
    assert beginnings
    for text in beginnings:
        assert len([uuid for uuid in whole if uuid.startswith(text)]) == 1
    if name == "jobs":
        (one,) = [text for text in beginnings if str(JOBS[1]).startswith(text)]
        assert str(JOBS[1]) in shell("job", one).stdout


@pytest.mark.parametrize("words", [["--wide"], ["--wide", "--columns=uuid,container_hash"]])
def test_wide_is_what_goes_to_a_program(terminal: Terminal, shell: Shell, words: list[str]) -> None:
    shown = terminal("jobs", *words)
    assert shown.text == shell("jobs", *words).stdout == shell("jobs", *words[1:]).stdout
    assert str(JOBS[0]) in shown.text
    assert sha256("container").hex() in shown.text
    assert "not shown" not in shown.text
    assert "…" not in shown.text
    lineage = ["provenance", str(MADE[2])]
    assert terminal(*lineage, "--wide").text == shell(*lineage).stdout


@pytest.mark.parametrize("format_", ["table", "csv", "json", "jsonl"])
def test_columns_are_those_that_are_named(shell: Shell, format_: str) -> None:
    words = ["jobs", "--limit=1", "--package=zlib", "--columns", "state, package,uuid"]
    text = shell(*words, f"--format={format_}").stdout
    values = ["success", "zlib", str(JOBS[2])]
    if format_ == "table":
        assert [line.split() for line in text.splitlines()] == [
            ["state", "package", "uuid"],
            values,
        ]
    elif format_ == "csv":
        assert [*csv.reader(text.splitlines())] == [["state", "package", "uuid"], values]
    else:
        (found,) = json.loads(text) if format_ == "json" else [json.loads(text)]
        assert [*found.items()] == [*zip(["state", "package", "uuid"], values, strict=True)]


def test_columns_choose_what_is_told_of_a_record(shell: Shell) -> None:
    shown = shell("job", "--columns=version,outputs", str(JOBS[2])).stdout.splitlines()
    assert shown[:3] == ["version  24.8.3.2", "", "outputs"]
    assert PATHS[2] in shown[4]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["jobs", "--columns=uuid,nonsense"], "'nonsense' is not one of uuid, submit_uuid, "),
        (["jobs", "--columns="], "'' is not one of"),
        (["provenance", "--columns=path", "019a"], "--format table, csv, json, jsonl"),
        (["metrics", "--columns=value", "--format=prometheus"], "prometheus has no columns"),
    ],
)
def test_columns_that_are_not_there_are_a_usage_error(
    shell: Shell, words: list[str], says: str
) -> None:
    failed = shell(*words)
    assert failed.exit_code == 2
    assert says in failed.stderr


def test_a_commit_and_an_empty_answer_are_said_shortly(terminal: Terminal, shell: Shell) -> None:
    assert f"{HASH[:12]}…" in terminal("submits", columns=130).text
    assert terminal("jobs", "--package=none").text == "no rows\n"
    assert shell("jobs", "--package=none").stdout == ""


def test_the_migrations_are_a_table_as_all_others(terminal: Terminal) -> None:
    head, first = terminal("migrate", "status").lines
    assert head.split() == ["migration", "phase", "state", "applied", "took"]
    assert first.split()[:3] == ["0001.initial", "pre", "applied"]
