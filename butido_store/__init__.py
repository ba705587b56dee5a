"""The memory of a package build system, in plain PostgreSQL.

Functions of the modules `submit`, `job`, `artifact`, `release` and `report` return statements; a
`Store` or an `AsyncStore` runs them. `build` records a job while it runs.
"""

from butido_store import artifact, errors, job, log, release, report, submit
from butido_store._check import uuid7
from butido_store._statement import Statement
from butido_store.building import build
from butido_store.store import AsyncStore, Store, open_schema, open_schema_async

__all__ = [
    "AsyncStore",
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
