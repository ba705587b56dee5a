"""Listings come out in the same order, whatever the locale of the database."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from uuid import UUID

import psycopg
import pytest
from conftest import Postgres
from psycopg.conninfo import make_conninfo
from samples import TIME, create, finish, sha256, start

from butido_store import Store, artifact, release
from butido_store._query import names, query
from butido_store.admin.migrate import Migrator
from butido_store.artifact import Output

# In the order of their bytes; in most locales another.
NAMES = ["-y", "A", "Z", "_x", "a", "a b", "ab", "z", "ä", "é"]
SUBMIT, JOB = UUID(int=1), UUID(int=2)
LARGE = 2**100


@pytest.fixture
def icu_dsn(postgres: Postgres, database_dsn: str) -> Iterator[str]:
    """DSN of an empty database whose texts are sorted as in English."""
    with psycopg.connect(database_dsn, autocommit=True) as connection:
        name = f"{connection.info.dbname}_icu"
        try:
            connection.execute(
                f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'"
                " LOCALE_PROVIDER icu ICU_LOCALE 'en-US'"
            )
        except psycopg.errors.FeatureNotSupported:
            pytest.skip("this server is built without ICU")
        yield make_conninfo(database_dsn, dbname=name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def fill(dsn: str, schema: str) -> None:
    """Write rows that only their names put into an order."""
    with psycopg.connect(dsn) as connection:
        Migrator(connection, schema=schema).apply()
    with Store.connect(dsn, schema=schema) as store:
        store.run(create(SUBMIT, env=dict.fromkeys(NAMES, "")))
        for number, name in enumerate(reversed(NAMES), 1):
            store.run(
                artifact.register(name, sha256=sha256(name), size=1, uuid=UUID(int=LARGE + number))
            )
        inputs = [UUID(int=LARGE + number) for number in range(1, len(NAMES) + 1)]
        for number, name in enumerate(reversed(NAMES)):
            uuid = UUID(int=JOB.int + number)
            called = dict.fromkeys(("endpoint", "package", "version", "image"), name)
            env = dict.fromkeys(NAMES, name)
            store.run(start(uuid, SUBMIT, inputs=inputs, env=env, script="", **called))
            outputs = [
                Output(path, sha256(path), 1, UUID(int=LARGE * (number + 2) + place))
                for place, path in enumerate(reversed(NAMES))
            ]
            store.run(finish(uuid, outputs=outputs))
            store.run(
                release.create(
                    UUID(int=LARGE * 99 + number),
                    store=name,
                    timestamp=TIME,
                    actor="a",
                    artifacts=[output.uuid for output in outputs],
                )
            )


# Of each query, what it cannot do without.
GIVEN: dict[str, object] = {
    "submit": SUBMIT,
    "job": JOB,
    "artifact": UUID(int=LARGE * 2),
    "package": "a",
    "version": "a",
    "image": "a",
    "script": "",
    "env": ["b=", "B=", "_=", "A=1"],
    "inputs": [f"{sha256(path).hex()}  {path}" for path in ("b", "B", "_")],
}
LISTINGS = [
    *(name for name in names() if name.startswith("report/")),
    *("job/env", "job/inputs", "job/outputs", "submit/env"),
]


def listed(dsn: str, schema: str) -> dict[str, list[list[object]]]:
    """Return the rows of every listing, without times and measures."""
    found: dict[str, list[list[object]]] = {}
    with psycopg.connect(dsn) as connection:
        connection.execute("SELECT set_config('search_path', quote_ident(%s), false)", [schema])
        for name in LISTINGS:
            needed = query(name).required
            text, values = query(name).render(needed).bind({key: GIVEN[key] for key in needed})
            with psycopg.RawCursor(connection) as cursor:
                rows = cursor.execute(text, values).fetchall()
            # A metric's value may be a size or the time of a heartbeat.
            other = (datetime, timedelta, *([float] if name == "report/metrics" else []))
            found[name] = [[value for value in row if not isinstance(value, other)] for row in rows]
    return found


def test_listings_have_the_same_order_in_another_locale(
    database_dsn: str, icu_dsn: str, schema: str
) -> None:
    with psycopg.connect(icu_dsn) as connection:
        assert connection.execute(
            "SELECT array_agg(name ORDER BY name) FROM unnest(%s::text[]) AS t (name)", [NAMES]
        ).fetchone() != (NAMES,)
    fill(database_dsn, schema)
    fill(icu_dsn, schema)
    here, there = listed(database_dsn, schema), listed(icu_dsn, schema)
    assert [name for name, _ in here["job/env"]] == NAMES
    assert {name for name in LISTINGS if here[name] != there[name]} == set()
