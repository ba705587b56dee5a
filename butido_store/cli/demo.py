"""The demonstration: real packages are built from source, remembered, and not built again."""

import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from butido_store import job, report, submit
from butido_store._query import directory
from butido_store._target import Target
from butido_store.cli import output
from butido_store.embedded import data_directory
from butido_store.errors import StoreError
from butido_store.store import Store

_LOG_LINES = 12


def run(target: Target, schema: str, requirement: str, kept: Path | None) -> None:
    """Build a requirement twice with the wheelhouse example, then show what the store knows.

    :param target: the database, entered and migrated
    :param schema: the schema that holds the store
    :param requirement: what to build, as pip takes it
    :param kept: where sources and wheels are kept
    :raises StoreError: a build failed
    """
    console = Console()
    where = kept or data_directory() / "wheelhouse"
    for heading in ("First run: what is not known yet is built", "Second run: nothing is built"):
        console.rule(heading)
        command = [
            *(sys.executable, str(directory("examples") / "wheelhouse"), requirement),
            *("--directory", str(where), "--schema", schema),
        ]
        # Other users can read a command line, and the password in it, but not an environment.
        environment = {**os.environ, "BUTIDO_STORE_DSN": target.dsn}
        if subprocess.call(command, env=environment):  # noqa: S603 - the example of this package
            raise StoreError("the wheelhouse builder failed; what it says is above")
    with Store.connect(target.dsn, schema=schema) as store:
        _show(console, store)
    console.rule("Now look yourself")
    console.print(
        "butido-store psql\n"
        "    TABLE submit_overview;\n"
        "    SELECT package, version, state, duration, inputs, outputs FROM job_overview;\n"
        "    SELECT path, package, version, used_by FROM artifact_overview;",
        highlight=False,
    )


def _show(console: Console, store: Store) -> None:
    """Show the submits, their jobs, a log, and what went into one wheel."""
    console.rule("The submits")
    table = Table("submit", "made", "package", "image", "jobs")
    submits = store.run(report.submits(limit=2))
    for found in submits:
        jobs = store.run(report.jobs(of_submit=found.uuid, limit=None))
        table.add_row(
            str(found.uuid),
            f"{found.timestamp:%Y-%m-%d %H:%M:%S}",
            f"{found.package} {found.version}",
            found.image,
            str(len(jobs)),
        )
    console.print(table)

    console.rule("The latest jobs")
    table = Table("job", "package", "state", "seconds", "fingerprint")
    latest = store.run(report.jobs(limit=10))
    for one in latest:
        took = (one.finished_at - one.started_at).total_seconds() if one.finished_at else None
        table.add_row(
            str(one.uuid),
            f"{one.package} {one.version}",
            one.state,
            "" if took is None else f"{took:.1f}",
            one.fingerprint.hex()[:12],
        )
    console.print(table)

    for one in latest:
        wheels = store.run(job.outputs(one.uuid))
        if one.package == submits[0].package and wheels:
            console.rule(f"The end of the log of {one.package} {one.version}")
            for line in store.run(job.log(one.uuid)).splitlines()[-_LOG_LINES:]:
                console.print(line, markup=False, highlight=False)
            console.rule(f"What went into {wheels[0].path}")
            ingredients = store.run(report.provenance(wheels[0].uuid))
            output.show(iter(ingredients), report.Ingredient, "tree")
            break
    _reuse(console, store, submits[0])


def _reuse(console: Console, store: Store, last: submit.Submit) -> None:
    """Tell for each package of the last submit which job made what is used."""
    console.rule("What the second run reused")
    table = Table("package", "wheel", "made by job")
    for node in store.run(submit.get(last.uuid)).tree["nodes"]:
        for one in store.run(
            report.jobs(package=node["name"], version=node["version"], state="success", limit=1)
        ):
            for file in store.run(job.outputs(one.uuid)):
                table.add_row(f"{one.package} {one.version}", file.path, str(one.uuid))
    console.print(table)
