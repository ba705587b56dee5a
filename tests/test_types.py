"""Type checkers refuse what a caller gets wrong, and nothing else.

mypy and pyright, as basedpyright, which brings its own Node.js, check the same callers, each in its
strict mode. A line is to be refused where it says so.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WRONG = "# wrong"
CALLERS = """
from datetime import UTC, datetime
from typing import TypedDict
from uuid import UUID

from butido_store import AsyncStore, Statement, Store, artifact, build, job, log, report, submit
from butido_store.job import State

ONE = UUID(int=1)
NOW = datetime.now(UTC)


class Said(TypedDict):
    package: str
    version: str
    image: str
    script: str


def listings(store: Store) -> None:
    for job in store.run(report.jobs(package="zlib", state="error", newer_than=NOW, limit=None)):
        state: State = job.state
        finished: datetime | None = job.finished_at
        print(state, finished, job.fingerprint and job.fingerprint.hex())
        job.finished_at.isoformat()  # wrong
        job.finished  # wrong
        job.state = "lost"  # wrong
        job.state == "done"  # wrong
    last = store.run(report.jobs())[-1]
    store.run(report.jobs(before=last.uuid))
    store.run(report.jobs(before=last))  # wrong
    store.run(report.jobs(pakage="zlib"))  # wrong
    store.run(report.jobs("zlib"))  # wrong
    store.run(report.jobs(package=5))  # wrong
    store.run(report.jobs(state="done"))  # wrong
    store.run(report.jobs(env=("NAME", "value")))  # wrong
    store.run(report.jobs(newer_than="yesterday"))  # wrong
    store.run(report.jobs(limit="5"))  # wrong
    store.run(report.submits(for_pkg="zlib", commit="c0ffee"))
    store.run(report.submits(package="zlib"))  # wrong
    store.run(report.artifacts(sha256="c0ffee"))  # wrong
    store.run(report.nonsense())  # wrong


def needed(store: Store) -> None:
    store.run(report.find_artifact("zlib", env=["A=b"], allow_image=("a", "b")))
    store.run(report.find_artifact("zlib", "1.3"))  # wrong
    store.run(report.find_artifact("zlib", env="A=b"))  # wrong
    store.run(report.find_artifact())  # wrong
    store.run(report.job(ONE, log=True))
    store.run(report.job(str(ONE)))  # wrong
    store.run(report.job(ONE, log="yes"))  # wrong
    store.run(report.slsa())  # wrong


def documents(store: Store) -> None:
    (of_submit,) = store.run(report.submit(ONE))
    name: str = of_submit.jobs[0]["package"]
    print(name, of_submit.jobs[0]["state"].upper(), of_submit.env["LANG"].upper())
    of_submit.jobs[0]["pakage"]  # wrong
    of_submit.jobs[0]["started_at"].year  # wrong
    (one,) = store.run(report.job(ONE))
    size: int = (one.inputs[0]["size"] or 0) + (one.outputs[0]["size"] or 0)
    print(size, one.inputs[0]["job_uuid"])
    one.outputs[0]["job_uuid"]  # wrong
    for miss in store.run(
        report.explain_miss("a", version="1", image="i", script="s", env=[], inputs=[])
    ):
        print([(changed["name"], changed.get("old")) for changed in miss.env or []])
        print([(changed["path"], changed.get("job")) for changed in miss.inputs or []])
        print([changed["path"] for changed in miss.env or []])  # wrong
        print([changed for changed in miss.env])  # wrong
    (statement,) = [row.statement for row in store.run(report.slsa(ONE))]
    script: str = statement["predicate"]["buildDefinition"]["externalParameters"]["script"]
    print(script, statement["subject"][0]["digest"]["sha256"])
    statement["predicate"]["builder"]  # wrong
    (twice,) = store.run(report.irreproducible(limit=1))
    print(twice.jobs[0]["sha256"], [row.labels["state"] for row in store.run(report.metrics())])
    twice.jobs[0]["digest"]  # wrong
    (since,) = store.run(report.history("zlib"))
    print([changed["path"] for changed in since.inputs])
    detail = store.run(submit.get(ONE))
    print(detail.tree["nodes"][detail.tree["root"]]["name"], detail.buildplan["jobs"][0]["needs"])
    detail.tree["nodes"][0]["needs"]  # wrong
    detail.buildplan["jobs"]["uuid"]  # wrong


def several(store: Store, statements: list[Statement[bytes | None]]) -> None:
    six = store.run(
        report.images(), job.log(ONE), job.env(ONE), job.outputs(ONE), job.get(ONE), job.log(ONE)
    )
    print(six[0][0].name, six[1].upper(), six[2]["LANG"].upper(), six[3][0].path, six[4].endpoint)
    six[1].name  # wrong
    six[4].upper()  # wrong
    eight = store.run(
        job.heartbeat(ONE),
        job.log(ONE),
        job.env(ONE),
        job.inputs(ONE),
        job.outputs(ONE),
        job.get(ONE),
        job.script(ONE),
        submit.get(ONE),
    )
    print(eight[1].upper(), eight[5].state, eight[6].upper(), eight[7].tree["root"])
    eight[7].state  # wrong
    eight[8]  # wrong
    for fingerprint in store.run(*statements):
        print(fingerprint and fingerprint.hex())
        fingerprint.name  # wrong
    store.run(statements)  # wrong
    store.run(*statements, "job")  # wrong


async def several_awaited(waiting: AsyncStore, statements: list[Statement[bytes | None]]) -> None:
    four = await waiting.run(job.log(ONE), job.env(ONE), job.get(ONE), report.images())
    print(four[0].upper(), four[1]["LANG"].upper(), four[2].state, four[3][0].name)
    four[2].upper()  # wrong
    for fingerprint in await waiting.run(*statements):
        print(fingerprint and fingerprint.hex())
        fingerprint.name  # wrong
    await waiting.run(statements)  # wrong


async def streams(store: Store, waiting: AsyncStore) -> None:
    for line in store.stream(report.search_log(text="error", limit=None)):
        print(line.line_number + 1)
        line.number  # wrong
    async for found in waiting.stream(report.failures(limit=None)):
        print(found.packages[0].upper(), found.lines)
        found.lines[0].jobs  # wrong
    (first, second) = await waiting.run(report.images(), report.endpoints())
    print(first[0].last_started_at, second[0].name)
    second[0].image  # wrong
    for regression in await waiting.run(report.regressions()):
        print(regression.status == "fixed")
        print(regression.status == "broken")  # wrong


async def opened() -> None:
    for text in log.follow(Store.pooled(max_size=3), ONE):
        print(text.upper())
    async with AsyncStore.connect() as store, AsyncStore.pooled(min_size=2) as pooled:
        print(await store.run(job.log(ONE)), await pooled.run(job.log(ONE)))
        async for text in log.follow(store, ONE):
            print(text.upper())
            text.seq  # wrong
        for _ in log.follow(store, ONE):  # wrong
            pass
        async for _ in log.follow(Store.connect(), ONE):  # wrong
            pass
    waiting = await AsyncStore.connect(schema="other")
    await waiting.close()
    with AsyncStore.connect():  # wrong
        pass
    AsyncStore.connect().run(job.log(ONE))  # wrong
    Store.connect("dbname=a", "butido")  # wrong
    Store.connect(schemas="butido")  # wrong
    AsyncStore.pooled(max_size="3")  # wrong


async def files(store: Store, waiting: AsyncStore) -> None:
    made = artifact.Output.from_file("a", "lib/a")
    (kept,) = store.run(job.finish(ONE, state="success", finished_at=NOW, outputs=[made]))
    print(kept.job_uuid, kept.sha256 and kept.sha256.hex())
    said: Said = {"package": "a", "version": "1", "image": "i", "script": "s"}
    found = store.run(artifact.reusable(**said, env={}, inputs=[kept, ("a", bytes(32))]))
    print(found and found.outputs[0].path == kept.path)
    store.run(artifact.reusable(**said, env={}, inputs=[ONE]))  # wrong
    store.run(job.finish(ONE, state="success", finished_at=NOW, outputs=[kept]))  # wrong
    store.run(
        job.start(
            ONE, submit=ONE, started_at=NOW, endpoint="e", env={}, **said, inputs=[kept, ONE]
        )
    )
    with build(
        store, ONE, submit=ONE, endpoint="e", env={}, inputs=[kept],
        package="a", version="1", image="i", script="s",
    ) as running:
        running.log(b"")
        running.log(5)  # wrong
        running.finish("done")  # wrong
        print(running.finish("success", [made])[0].sha256)
        print(running.fingerprint and running.fingerprint.hex())
    with build(store, ONE):  # wrong
        pass
    waits = build(
        waiting, ONE, submit=ONE, endpoint="e", env={},
        package="a", version="1", image="i", script="s",
    )
    with waits:  # wrong
        pass
    async with waits as awaited:
        await awaited.log("")
        (first,) = await awaited.finish("success", [made])
        print(first.path)
        (await awaited.finish("success"))["a"]  # wrong
    artifact.Output.from_file("a")  # wrong
    artifact.Output.from_file(5, "a")  # wrong
"""


def by_mypy(directory: Path, cache: Path) -> set[int]:
    """Return the lines that mypy refuses."""
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(cache), "callers.py"],
        cwd=directory,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return {int(line) for line in re.findall(r"^callers\.py:(\d+): error:", done.stdout, re.M)}


def by_pyright(directory: Path, _: Path) -> set[int]:
    """Return the lines that pyright refuses."""
    settings = {
        "typeCheckingMode": "strict",
        "extraPaths": [str(ROOT)],
        # The callers' lines are what they are for.
        "reportUnusedExpression": False,
    }
    (directory / "pyrightconfig.json").write_text(json.dumps(settings))
    program = [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable]
    done = subprocess.run(
        [*program, "--outputjson", "callers.py"], cwd=directory, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stdout + done.stderr
    found = json.loads(done.stdout)["generalDiagnostics"]
    return {one["range"]["start"]["line"] + 1 for one in found if one["severity"] == "error"}


@pytest.mark.parametrize("check", [by_mypy, by_pyright])
def test_a_caller_is_refused_where_it_is_wrong_and_only_there(
    check: Callable[[Path, Path], set[int]], tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    (tmp_path / "callers.py").write_text(CALLERS)
    lines = CALLERS.splitlines()
    refused = check(tmp_path, pytestconfig.cache.mkdir("mypy"))
    wrong = {number for number, line in enumerate(lines, 1) if line.endswith(WRONG)}
    assert len(wrong) > 30
    assert [lines[number - 1] for number in sorted(refused ^ wrong)] == []
