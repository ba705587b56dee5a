"""What README.md and docs/ show is so."""

import html
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest
from click import Context
from conftest import Postgres
from pictures import BLOCK, DEMO, PAGES, REPOSITORY, Stage, two_runs, typed
from psycopg.conninfo import make_conninfo
from samples import create, start
from test_wheelhouse import Index, index

from butido_store import Store, job, uuid7
from butido_store.cli.main import main

__all__ = ["index"]

# What needs a network, or a server of somebody's.
NOT_RUN = [
    "createdb builds",
    "psql -d builds -c \"ALTER DATABASE builds SET default_toast_compression = 'lz4'\"",
    "butido-store --dsn 'host=db dbname=builds user=owner' migrate apply",
    "butido-store refresh-failures",
    "butido-store prune --dry-run",
    "butido-store prune --why 01a21783",
    "butido-store prune",
    # tests/test_retention.py runs it.
    "export PGOPTIONS='-c search_path=butido'",
    "psql -d builds -f schema/roles.sql",
    "psql -d builds -c 'CREATE ROLE ci LOGIN IN ROLE butido_builder'",
    "psql -d builds -c 'CREATE ROLE alice LOGIN IN ROLE butido_reader'",
    "butido-store migrate apply --role butido_owner    # from then on",
]
# The picture's text, and what differs from run to run.
TEXT = re.compile(r"<text class=\"demo-r\d+\"[^>]*? y=\"([\d.]+)\"[^>]*>(.*?)</text>")
CHANGES = {
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}": "UUID",
    r"\b(\w+-)*\w+ +\d+(\.\d+)+(?=:| )": "PACKAGE",
    r"\d+\.\d": "SECONDS",
    "─+": "─",
    " +": " ",
}


@pytest.fixture(scope="module")
def stage(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    dsn = make_conninfo(host=postgres.host, port=postgres.port, user=postgres.user)
    dsn = make_conninfo(dsn, dbname=postgres.maintenance_dbname)
    return Stage(dsn, Path(postgres.psql).parent, tmp_path_factory.mktemp("pages"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_shows_what_is_printed(page: Path, stage: Stage) -> None:
    text = page.read_text(encoding="utf-8")
    assert stage.shown(text) == text


def blocks(kind: str) -> list[str]:
    """Return the blocks of this kind, of all pages."""
    found = [one for page in PAGES for one in BLOCK.findall(page.read_text(encoding="utf-8"))]
    return [text for name, text in found if name == kind]


def readme() -> str:
    return (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_all_blocks_are_of_a_kind_that_is_run() -> None:
    kinds = {kind for page in PAGES for kind, _ in BLOCK.findall(page.read_text(encoding="utf-8"))}
    assert kinds <= {"console", "python", "text", "sh", "sql"}
    usage = subprocess.run([REPOSITORY / "dev"], stdout=subprocess.PIPE, text=True).stdout
    for block in blocks("sh"):
        # A whole script, which the tests of retention run.
        if block.startswith("set -e\n"):
            continue
        for line in block.replace("\\\n", "").splitlines():
            if line.startswith("./dev "):
                assert " ".join(shlex.split(line, comments=True)[:2]) in usage
            elif not line.startswith("butido-store psql -1 "):
                assert line in NOT_RUN


def test_blocks_fit_a_terminal_of_80_columns() -> None:
    given = [*blocks("console"), *blocks("text"), *blocks("python"), *blocks("sh"), *blocks("sql")]
    assert [line for block in given for line in block.splitlines() if len(line) > 80] == []


def test_the_whole_builder_is_the_example() -> None:
    example = (REPOSITORY / "examples" / "first.py").read_text(encoding="utf-8")
    assert f"```python\n{example}```\n" in readme()


def test_the_tables_are_drawn_as_in_the_schema() -> None:
    opening = (REPOSITORY / "schema" / "schema.sql").read_text(encoding="utf-8").split("\n\n")[0]
    drawn = "\n".join(f"--   {line}" for line in blocks("text")[1].splitlines())
    assert "submit --->" in drawn
    assert drawn in opening


def test_a_write_by_psql_is_the_librarys(dsn: str, schema: str, postgres: Postgres) -> None:
    (block,) = [one for one in blocks("sh") if one.startswith("butido-store psql -1 ")]
    arguments = shlex.split(block)[1:]
    uuid = UUID(next(text for text in arguments if text.startswith("job=")).removeprefix("job="))
    path = f"{Path(postgres.psql).parent}{os.pathsep}{os.environ['PATH']}"
    of_submit = uuid7()
    with Store.connect(dsn, schema=schema) as store:
        store.run(create(of_submit), start(uuid, of_submit))
        subprocess.run(
            [sys.executable, "-m", "butido_store", "--dsn", dsn, "--schema", schema, *arguments],
            cwd=REPOSITORY,
            env={**os.environ, "PATH": path},
            check=True,
        )
        assert store.run(job.log(uuid)) == "by hand"
        # Said again by the library, it is the same piece.
        store.run(job.append_log(uuid, seq=0, data="by hand"))


def stripped(lines: list[str]) -> list[str]:
    """Return each line once, without what differs from run to run."""
    for pattern, instead in CHANGES.items():
        lines = [re.sub(pattern, instead, line).strip() for line in lines]
    return [*dict.fromkeys(lines)]


@pytest.mark.any_server
def test_the_picture_is_of_the_demonstration(
    dsn: str, schema: str, index: Index, tmp_path: Path
) -> None:
    drawn: dict[float, str] = {}
    for y, text in TEXT.findall(DEMO.read_text(encoding="utf-8")):
        drawn[float(y)] = drawn.get(float(y), "") + html.unescape(text).replace("\xa0", " ")
    index.add("rich")
    words = ["-m", "butido_store", "--dsn", dsn, "--schema", schema, "demo"]
    command = shlex.join([sys.executable, *words, "--directory", str(tmp_path / "kept")])
    path = os.pathsep.join([str(REPOSITORY), *filter(None, sys.path)])
    shown = typed(command, {**os.environ, "TERM": "dumb", "PYTHONPATH": path}, tmp_path)
    lines = [text for _, text in sorted(drawn.items())]
    assert len(stripped(lines)) > 8
    assert stripped(lines) == stripped(two_runs(shown).splitlines())


def test_the_reports_in_its_table_are_commands() -> None:
    rows = re.findall(r"^\| .*\? \| (`.*`) \|$", readme(), re.MULTILINE)
    named = {name.strip("`") for row in rows for name in row.split(", ")}
    assert len(named) > 8
    assert named <= {*main.list_commands(Context(main))}


@pytest.mark.parametrize(
    "page",
    [
        *PAGES,
        *(REPOSITORY / name for name in ("CONTRIBUTING.md", "examples/README.md")),
        *(REPOSITORY / name for name in ("schema/README.md", "bench/README.md")),
    ],
    ids=lambda page: str(page.relative_to(REPOSITORY)),
)
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name, anchor in re.findall(r"\]\((?!http)([^)#]*)(?:#([^)]+))?\)", text):
        target = page.parent / name if name else page
        assert target.exists(), name
        headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE) if anchor else []
        assert not anchor or anchor in [one.lower().replace(" ", "-") for one in headings]
    for name in re.findall(r"`((?:tests|sql|bench|docs|examples)/[^\s`<]+\.\w+)`", text):
        assert (REPOSITORY / name).exists(), name
