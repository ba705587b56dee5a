"""What else records builds in PostgreSQL, each as its documentation recommends: ../PEERS.md."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import psycopg
from psycopg.conninfo import make_conninfo
from workload import Submit

from butido_store.job import EndedJob

HERE = Path(__file__).parent


class Peer(Protocol):
    """Something that records builds over a connection of its own."""

    #: The query that tells what is known of all submits and jobs, and the schema of its tables.
    facts: str
    schema: str

    def __init__(self, dsn: str) -> None:
        """Connect."""

    @classmethod
    def prepare(cls, dsn: str) -> None:
        """Make the tables that it needs beside the store's."""

    def create(self, submit: Submit) -> None:
        """Record a submit."""

    def known(self, jobs: Sequence[EndedJob]) -> Any:
        """Return the jobs with all that is taken for granted when they are recorded."""

    def record(self, known: Any) -> None:
        """Record what `known` returned, in one go."""

    def __enter__(self) -> Self:
        """Use it in a `with` block that ends its connection."""

    def __exit__(self, *_: object) -> None:
        """End its connection."""


def on_schema(dsn: str, schema: str) -> str:
    """Return the DSN of a session whose search path is this schema."""
    return make_conninfo(dsn, options=f"-c search_path={schema}")


class OnButidosTables:
    """Makes the tables of butido.sql."""

    facts = "facts_butido.sql"
    schema = "peer"

    @classmethod
    def prepare(cls, dsn: str) -> None:
        """Make the tables."""
        with psycopg.connect(on_schema(dsn, "peer")) as connection:
            connection.execute((HERE / "butido.sql").read_bytes())


def _peers() -> dict[str, type[Peer]]:
    from peers.floor import Copy, Prepared
    from peers.get_or_create import GetOrCreate
    from peers.sqlalchemy_core import Core
    from peers.sqlalchemy_orm import Orm
    from peers.store import Library

    return {
        "butido_store": Library,
        "get-or-create": GetOrCreate,
        "SQLAlchemy ORM": Orm,
        "SQLAlchemy Core": Core,
        "prepared, ids known": Prepared,
        "COPY, ids known": Copy,
    }


PEERS = _peers()
