"""The least that can be sent: rows whose keys and fingerprints are all known before."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Self, TypeVar

import aiosql
import psycopg
from workload import Submit

from butido_store import job as library_job
from butido_store._connection import at_once, converse
from butido_store._conversation import Conversation, _ask_why, _intern
from butido_store._statement import Statement
from butido_store.job import EndedJob
from peers import HERE, on_schema
from peers.store import Library

T = TypeVar("T")

_QUERIES = aiosql.from_path(HERE / "floor.sql", "psycopg", mandatory_parameters=False)
Rows = tuple[list[list[object]], list[list[object]], list[list[object]]]

_TYPES = (
    ["uuid", "uuid", *["int8"] * 4, "text", *["timestamptz"] * 3, "bytea", *["text"] * 3, "int8"],
    ["uuid", "uuid", "text", "bytea", "int8"],
    ["uuid", "uuid"],
)


def _text(name: str) -> bytes:
    return str(getattr(_QUERIES, name).sql).rstrip(";\n ").encode()


def _netstring(data: bytes) -> bytes:
    return b"%d:%s," % (len(data), data)


def _object(value: Mapping[str, str]) -> bytes:
    """Return an object as jsonb writes it: shorter names first."""
    pairs = sorted(value.items(), key=lambda pair: (len(pair[0].encode()), pair[0].encode()))
    return json.dumps(dict(pairs), ensure_ascii=False).encode()


def _environment(env: Mapping[str, str]) -> bytes:
    return hashlib.sha256(_object(env)).digest()


def _interned(statement: Statement[object]) -> Conversation[None]:
    """Add the shared values that a statement needs."""
    _, missing = yield from _ask_why([statement])
    if missing:
        yield _intern(missing)


class _Floor:
    """Knows what the store has, and the artifacts that it made itself."""

    facts = "facts_store.sql"
    schema = "butido"
    _INSERTS = (_text("add_job"), _text("add_output"), _text("add_input"))
    _COPIES = (_text("copy_jobs"), _text("copy_outputs"), _text("copy_inputs"))

    def __init__(self, dsn: str) -> None:
        """Connect, and read the keys of all shared values."""
        self._library = Library(dsn)
        self._connection = psycopg.connect(
            on_schema(dsn, self.schema), autocommit=True, prepare_threshold=0
        )
        self._files: dict[object, str] = {}
        self._read()

    def _read(self) -> None:
        def rows(name: str) -> list[Any]:
            return self._connection.execute(_text(name)).fetchall()

        self._environments: dict[bytes, int] = dict(rows("environments"))
        self._packages = {(name, version): id_ for name, version, id_ in rows("packages")}
        self._images: dict[str, int] = dict(rows("images"))
        self._endpoints: dict[str, int] = dict(rows("endpoints"))

    @classmethod
    def prepare(cls, dsn: str) -> None:
        """Need nothing beside the store's tables."""

    def create(self, one: Submit) -> None:
        """Record a submit with the library, and have its jobs' shared values in the store."""
        self._library.create(one)
        missing = [job for job in one.jobs if None in self._keys(job)]
        if missing:
            at_once(converse(self._connection, _interned(library_job.record_all(missing))))
            self._read()

    def _keys(self, job: EndedJob) -> list[object]:
        return [
            self._endpoints.get(job.endpoint),
            self._packages.get((job.package, job.version)),
            self._images.get(job.image),
            self._environments.get(_environment(job.env)),
        ]

    def known(self, jobs: Sequence[EndedJob]) -> Rows:
        """Return the rows of the three tables."""
        found: Rows = ([], [], [])
        for job in jobs:
            files = {self._files[uuid] for uuid in job.inputs}
            parts = [
                *(text.encode() for text in (job.package, job.version, job.image, "", job.script)),
                _environment(job.env).hex().encode(),
                _object({file: file for file in files}),
            ]
            fingerprint = hashlib.sha256(b"".join(map(_netstring, parts))).digest()
            found[0].append(
                [
                    *(job.uuid, job.submit, *self._keys(job), job.state, job.started_at),
                    *(job.finished_at, job.finished_at, fingerprint),
                    # The workload's logs are ASCII.
                    *(job.container_hash, job.script, job.log, len(job.log)),
                ]
            )
            for output in job.outputs:
                self._files[output.uuid] = f"{output.sha256.hex()}  {output.path}"
                found[1].append([output.uuid, job.uuid, output.path, output.sha256, output.size])
            found[2].extend([job.uuid, uuid] for uuid in job.inputs)
        return found

    def __enter__(self) -> Self:
        """Use it in a `with` block."""
        return self

    def __exit__(self, *_: object) -> None:
        """End its connections."""
        self._connection.close()
        self._library.__exit__()


class Prepared(_Floor):
    """A prepared INSERT for each row, all in one pipeline: one transaction and one round trip."""

    def __init__(self, dsn: str) -> None:
        """Connect, and keep a cursor for each statement, with what it knows of its types."""
        super().__init__(dsn)
        self._cursors = [psycopg.RawCursor(self._connection) for _ in self._INSERTS]

    def record(self, known: Rows) -> None:
        """Record jobs."""
        with self._connection.pipeline():
            for cursor, text, rows in zip(self._cursors, self._INSERTS, known, strict=True):
                for row in rows:
                    cursor.execute(text, row)


class Copy(_Floor):
    """A binary COPY for each table, in one transaction."""

    def record(self, known: Rows) -> None:
        """Record jobs."""
        with self._connection.transaction(), self._connection.cursor() as cursor:
            for text, types, rows in zip(self._COPIES, _TYPES, known, strict=True):
                with cursor.copy(text) as copy:
                    copy.set_types(types)
                    for row in rows:
                        copy.write_row(row)
