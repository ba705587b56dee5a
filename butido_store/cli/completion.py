"""What a shell offers for an argument that names something of the store: a uuid, a package.

Somebody waits with a finger on the Tab key: few rows, a short time, and no word about a failure.
"""

import os
import re
from collections.abc import Callable
from threading import Timer
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import click

from butido_store._statement import Rows, read
from butido_store._target import DEFAULT_SCHEMA

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Completer = Callable[[click.Context, click.Parameter, str], list["CompletionItem"]]

_SECONDS = 2.0
_UUIDS, _PACKAGES = 50, 1000
_LABEL = 60
_HEX = re.compile(r"[0-9a-f]{0,32}")
# bash puts what is offered on its command line as it is, where it would run a `$(…)`.
_SAFE = re.compile(r"\w[\w.+:@/=~^-]*", re.ASCII)


def uuids(kind: str) -> Completer:
    """Return what completes a uuid, the newest first.

    :param kind: `job`, `submit` or `artifact`
    """

    def complete(
        ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list["CompletionItem"]:
        digits = incomplete.replace("-", "").lower()
        if not _HEX.fullmatch(digits):
            return []
        ends = {"first": UUID(digits.ljust(32, "0")), "last": UUID(digits.ljust(32, "f"))}
        rows = _asked(ctx, "store/complete_uuid", kind=kind, limit=_UUIDS, **ends)
        return _items([(str(uuid), str(label)) for uuid, label in rows])

    return complete


def packages(ctx: click.Context, param: click.Parameter, incomplete: str) -> list["CompletionItem"]:
    """Complete the name of a package."""
    rows = _asked(ctx, "store/complete_package", begin=incomplete, limit=_PACKAGES)
    return _items([(str(name), "") for (name,) in rows if _SAFE.fullmatch(str(name))])


def _items(found: list[tuple[str, str]]) -> list["CompletionItem"]:
    """Return values and their labels as click has them, each label a short line."""
    from click.shell_completion import CompletionItem

    def line(label: str) -> str:
        return "".join(c if c.isprintable() else "?" for c in label[:_LABEL])

    return [CompletionItem(value, help=line(label) or None) for value, label in found]


def _asked(ctx: click.Context, name: str, **parameters: Any) -> Rows:
    """Ask the store that the command line names so far, and return no rows where that fails."""
    from butido_store.cli.admin import Database

    given = ctx.find_root().params
    # The process serves this one question, and its caller waits: it ends in time, in whatever call.
    timer = Timer(_SECONDS, os._exit, [0])
    timer.daemon = True
    timer.start()
    try:
        database = Database(given.get("dsn"), given.get("schema") or DEFAULT_SCHEMA)
        server = database.target.server
        if server and not server.status().running:
            return []  # nothing is started for a Tab
        # The server would go on with what nobody waits for.
        limit = read("store/limit_time", {"milliseconds": int(_SECONDS * 1000)}, list)
        with database.store() as store:
            return cast(Rows, store.run(limit, read(name, parameters, list))[1])
    except Exception:
        return []
    finally:
        timer.cancel()
