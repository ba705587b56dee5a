"""The command that removes what the rules of retention name."""

from dataclasses import asdict
from typing import TYPE_CHECKING
from uuid import UUID

import click

from butido_store import artifact
from butido_store.cli.admin import Command, Database
from butido_store.cli.completion import uuids
from butido_store.errors import NotFound
from butido_store.store import Store

if TYPE_CHECKING:
    from butido_store.admin.retention import Batch, Removed

_BECAUSE = {
    "running": "running",
    "no rule": "no rule fits",
    "rule": "its rule keeps it for ever",
    "age": "too young for its rule",
    "last success": "last success",
    "newest": "among the newest that its rule keeps",
    "released": "a file of it was released",
    "read": "another that stays was made from it",
    "circle": "submits reused jobs of each other",
    "reused": "a submit that stays reused it",
}


@click.command(cls=Command)
@click.option("--dry-run", is_flag=True, help="Remove nothing; say what would go, and what stays.")
@click.option(
    "--why",
    metavar="JOB|ARTIFACT",
    shell_complete=uuids("job"),
    help="Remove nothing; say why this job stays, or the one that made this artifact.",
)
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Jobs that a statement removes at most; fewer where that would take long.",
)
@click.option(
    "--pause",
    type=click.FloatRange(min=0),
    default=0.05,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait after each statement.",
)
@click.pass_obj
def prune(database: Database, dry_run: bool, why: str | None, batch: int, pause: float) -> None:
    """Remove the logs and records that the rules in the table retention_rule let go.

    Without a rule nothing is removed. What runs, what was released with all that it was made from,
    and what a submit that stays reused is kept, whatever the rules say. It may be broken off.
    """
    if dry_run and why is not None:
        raise click.UsageError("either --dry-run or --why")
    with database.store() as store:
        if why is not None:
            _explain(store, why)
        elif dry_run:
            _survey(store)
        else:
            _prune(store, batch, pause)


def _prune(store: Store, batch: int, pause: float) -> None:
    """Remove, and tell how far it is."""
    from butido_store.admin import retention

    total = retention.Removed()

    def told(_: str, done: "Batch", __: float) -> None:
        nonlocal total
        if done.removed:
            total += done.removed
            line = f"removed so far: {total.logs} logs, {total.jobs} jobs, {total.submits} submits"
            click.echo(line, err=True)

    _print(retention.prune(store, batch=batch, pause=pause, told=told))


def _survey(store: Store) -> None:
    """Print what would be removed, and why the rest stays."""
    from butido_store.admin import retention
    from butido_store.cli.tables import print_table

    plan = retention.plan(store)
    _print(plan.removed)
    rows = [(what, _BECAUSE[why], count) for (what, why), count in sorted(plan.stays.items())]
    if rows:
        print_table(["stays", "since", "count"], rows)


def _print(removed: "Removed") -> None:
    """Print how much of each kind goes."""
    from butido_store.cli.tables import print_table

    rows = [(name.replace("_", " "), count) for name, count in asdict(removed).items()]
    print_table(["goes", "count"], rows)


def _explain(store: Store, text: str) -> None:
    """Print why a job stays, or the job that made an artifact."""
    from butido_store.admin import retention
    from butido_store.cli.reports import resolve

    uuid = resolve(store, text, "why")
    reasons = retention.why(store, uuid)
    if not reasons:
        made_by = _maker(store, uuid)
        if made_by is None:
            click.echo(f"artifact {uuid} stays: no job made it")
            return
        uuid, reasons = made_by, retention.why(store, made_by)
    for reason in reasons:
        rule = "no rule" if reason.position is None else f"rule {reason.position}"
        click.echo(f"{reason.what} of job {uuid}: {rule}; {_verdict(reason.because)}")
        for held_by in reason.by:
            click.echo(f"  as long as job {held_by} has its {reason.what}")


def _verdict(because: str | None) -> str:
    if because is None or because == "removed":
        return because or "goes"
    return f"stays: {_BECAUSE.get(because, because)}"


def _maker(store: Store, uuid: UUID) -> UUID | None:
    """Return the job that made an artifact, None where no job did."""
    try:
        return store.run(artifact.get(uuid)).job_uuid
    except NotFound as error:
        raise NotFound(f"there is no job or artifact {uuid} in the store") from error
