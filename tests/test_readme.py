"""What the README shows works."""

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
from pictures import draw
from psycopg.conninfo import conninfo_to_dict
from samples import create, start

from butido_store import Store, job, report, uuid7
from butido_store.cli.main import main

README = Path(__file__).parent.parent / "README.md"


def test_the_examples_run(
    dsn: str, schema: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = README.read_text(encoding="utf-8")
    (records, asks) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    for key, value in conninfo_to_dict(dsn).items():
        monkeypatch.setenv({"dbname": "PGDATABASE"}.get(key, f"PG{key.upper()}"), str(value))
    code = records.replace("Store.connect()", f"Store.connect(schema={schema!r})")
    of_submit = uuid7()
    with Store.connect(dsn, schema=schema) as store:
        store.run(create(of_submit))
        exec(compile(code, str(README), "exec"), {"submit": of_submit})
        found = store.run(report.jobs())
        assert [(one.package, one.state) for one in found] == [("zlib", "running")]
        store.run(job.finish(found[0].uuid, state="error", finished_at=found[0].started_at))
        exec(compile(asks, str(README), "exec"), {"store": store})
    assert capsys.readouterr().out == f"{found[0].uuid} builder-1\n"


def test_its_write_by_psql_is_the_librarys(dsn: str, schema: str, postgres: Postgres) -> None:
    (block,) = re.findall(
        r"```sh\nbutido-store (psql -1 .*?)```", README.read_text(encoding="utf-8"), re.DOTALL
    )
    arguments = shlex.split(block)
    uuid = UUID(next(text for text in arguments if text.startswith("job=")).removeprefix("job="))
    path = f"{Path(postgres.psql).parent}{os.pathsep}{os.environ['PATH']}"
    of_submit = uuid7()
    with Store.connect(dsn, schema=schema) as store:
        store.run(create(of_submit), start(uuid, of_submit))
        subprocess.run(
            [sys.executable, "-m", "butido_store", "--dsn", dsn, "--schema", schema, *arguments],
            cwd=README.parent,
            env={**os.environ, "PATH": path},
            check=True,
        )
        assert store.run(job.log(uuid)) == "by hand"
        # Said again by the library, it is the same piece.
        store.run(job.append_log(uuid, seq=0, data="by hand"))


def test_its_pictures_are_what_the_commands_print(dsn: str, schema: str) -> None:
    assert draw(dsn, schema) in README.read_text(encoding="utf-8")


def test_the_reports_in_its_table_are_commands() -> None:
    text = README.read_text(encoding="utf-8")
    rows = re.findall(r"^\| .*\? \| (`.*`) \|$", text, re.MULTILINE)
    named = {name.strip("`") for row in rows for name in row.split(", ")}
    assert len(named) > 8
    assert named <= {*main.list_commands(Context(main))}


def test_the_files_it_names_are_there() -> None:
    text = README.read_text(encoding="utf-8")
    for name in re.findall(r"\]\((?!http)([^)#]+)\)|`(tests/\S+|sql/\S+|bench/\S+)`", text):
        assert (README.parent / (name[0] or name[1])).exists(), name
