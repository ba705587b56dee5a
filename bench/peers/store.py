"""The library, as its README uses it."""

from collections.abc import Sequence
from typing import Self

from workload import Submit

from butido_store import Store, job
from butido_store.job import EndedJob


class Library:
    """One statement for a submit, one for its jobs."""

    facts = "facts_store.sql"
    schema = "butido"

    def __init__(self, dsn: str) -> None:
        """Connect."""
        self._store = Store.connect(dsn)

    @classmethod
    def prepare(cls, dsn: str) -> None:
        """Need nothing beside the store's tables."""

    def create(self, one: Submit) -> None:
        """Record a submit."""
        self._store.run(one.created())

    def known(self, jobs: Sequence[EndedJob]) -> Sequence[EndedJob]:
        """Take nothing for granted."""
        return jobs

    def record(self, known: Sequence[EndedJob]) -> None:
        """Record jobs."""
        self._store.run(job.record(known[0]) if len(known) == 1 else job.record_all(known))

    def __enter__(self) -> Self:
        """Use it in a `with` block."""
        return self

    def __exit__(self, *_: object) -> None:
        """End its connection."""
        self._store.close()
