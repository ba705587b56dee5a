"""The demonstration: real packages are built from source, remembered, and not built again."""

import os
import shutil
import subprocess
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import click
from rich.console import Console

from butido_store import job, report
from butido_store._query import directory
from butido_store._target import Target
from butido_store.cli import output
from butido_store.cli.reports import unique_lengths
from butido_store.cli.tables import Room, print_table, visible
from butido_store.embedded import data_directory
from butido_store.errors import StoreError
from butido_store.store import Store

_LOG_LINES = 12


def check_extra() -> None:
    """Refuse where what the wheelhouse example imports and runs is not installed.

    :raises StoreError: it names the extra
    """
    if missing := [name for name in ("packaging", "pip") if find_spec(name) is None]:
        raise StoreError(
            f"the demonstration needs {' and '.join(missing)}; "
            "run: pip install 'butido_store[demo]'"
        )


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
    program = "butido-store" if shutil.which("butido-store") else sys.argv[0]
    console.print(program, "psql", highlight=False)
    console.print(
        "    TABLE submit_overview;\n"
        "    SELECT package, version, state, duration, inputs, outputs FROM job_overview;\n"
        "    SELECT path, package, version, used_by FROM artifact_overview;",
        highlight=False,
    )


def _show(console: Console, store: Store) -> None:
    """Show the submits, their jobs, a log, and what went into one wheel."""
    console.rule("The submits")
    room = Room.here(partial(unique_lengths, store))
    submits = [
        page
        for one in store.run(report.submits(limit=2))
        for page in store.run(report.submit(one.uuid))
    ]
    print_table(
        ["submit", "made", "package", "image", "built", "reused", "seconds saved"],
        [
            [
                *(one.uuid, one.timestamp, f"{one.package} {one.version}", one.image),
                *(one.success, one.reused, one.seconds_saved),
            ]
            for one in submits
        ],
        room,
        spare=("image", "seconds saved"),
    )

    console.rule("The latest jobs")
    latest = store.run(report.jobs(limit=10))
    print_table(
        ["job", "package", "state", "took", "fingerprint"],
        [
            [
                one.uuid,
                f"{one.package} {one.version}",
                one.state,
                one.finished_at and one.finished_at - one.started_at,
                one.fingerprint,
            ]
            for one in latest
        ],
        room,
    )

    for one in latest:
        wheels = store.run(job.outputs(one.uuid))
        if one.package == submits[0].package and wheels:
            console.rule(f"The end of the log of {one.package} {one.version}")
            for line in store.run(job.log(one.uuid)).splitlines()[-_LOG_LINES:]:
                click.echo(visible(line, keep="\t"))
            console.rule(f"What went into {wheels[0].path}")
            ingredients = store.run(report.provenance(wheels[0].uuid))
            output.show(iter(ingredients), report.Ingredient, "tree", room=room)
            break
    console.rule("What the second run reused")
    rows = [
        [f"{one.package} {one.version}", file.path, one.uuid, one.finished_at - one.started_at]
        for one in store.run(report.jobs(of_submit=submits[0].uuid, limit=None))
        for file in store.run(job.outputs(one.uuid))
        if one.reused and one.finished_at
    ]
    print_table(["package", "wheel", "made by job", "saved"], rows, room)
