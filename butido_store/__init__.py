"""The memory of a package build system, in plain PostgreSQL.

Functions of the modules `submit`, `job`, `artifact`, `release` and `report` return statements; a
`Store` or an `AsyncStore` runs them. `build` records a job while it runs.
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from butido_store import artifact, errors, job, log, release, submit
from butido_store._check import uuid7
from butido_store._secrets import Secrets
from butido_store._statement import Statement
from butido_store.building import build
from butido_store.store import AsyncStore, Store, open_schema, open_schema_async

if TYPE_CHECKING:
    from butido_store import report

__all__ = [
    "AsyncStore",
    "Secrets",
    "Statement",
    "Store",
    "artifact",
    "build",
    "errors",
    "job",
    "log",
    "open_schema",
    "open_schema_async",
    "release",
    "report",
    "submit",
    "uuid7",
]


def __getattr__(name: str) -> ModuleType:
    """Import `report` when it is asked for: its row types take a third of the package's time."""
    if name == "report":
        return import_module("butido_store.report")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Name `report`, too, before it is asked for."""
    return [*{*globals(), *__all__}]
