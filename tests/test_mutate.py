"""Mutants of a query file: each is one small change, and all of them are made."""

from pathlib import Path

import pytest

from butido_store._query import names, query
from mutate.tokens import mutants

HEADER = "-- What is it?\n\n"


def of(sql: str) -> set[str]:
    """Return the mutants of a statement, with single spaces."""
    found = mutants(f"{HEADER}{sql};\n", "a/b", Path("a/b.sql"))
    return {" ".join(text.removeprefix(HEADER).split()).removesuffix(";").strip() for text in found}


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT a.b <= a.c", {"SELECT a.b < a.c", "SELECT a.b >= a.c"}),
        ("SELECT a.b -> 'x', a @> b", set()),
        ("SELECT a = b", {"SELECT a <> b"}),
        ("UPDATE a SET b = c WHERE d > 7 RETURNING b", {
            "UPDATE a SET b = c WHERE d >= 7 RETURNING b",
            "UPDATE a SET b = c WHERE d < 7 RETURNING b",
            "UPDATE a SET b = c WHERE d > 8 RETURNING b",
            "UPDATE a SET b = c WHERE d > 6 RETURNING b",
            "UPDATE a SET b = c WHERE TRUE RETURNING b",
        }),
        ("SELECT a ORDER BY b, c DESC LIMIT x", {
            "SELECT a ORDER BY b DESC, c DESC LIMIT x",
            "SELECT a ORDER BY b, c ASC LIMIT x",
        }),
        ("SELECT 1 FROM a JOIN b ON TRUE LEFT JOIN c ON TRUE", {
            "SELECT 1 FROM a LEFT JOIN b ON TRUE LEFT JOIN c ON TRUE",
            "SELECT 1 FROM a JOIN b ON TRUE JOIN c ON TRUE",
            "SELECT 1 FROM a JOIN b ON FALSE LEFT JOIN c ON TRUE",
            "SELECT 1 FROM a JOIN b ON TRUE LEFT JOIN c ON FALSE",
        }),
        # A foreign key, never NULL, says that the row is there.
        ("WITH a AS NOT MATERIALIZED (SELECT 1 FROM j JOIN i AS k ON k.id = j.i_id) SELECT 2", {
            "WITH a AS NOT MATERIALIZED (SELECT 1 FROM j JOIN i AS k ON TRUE) SELECT 2",
            "WITH a AS NOT MATERIALIZED (SELECT 1 FROM j JOIN i AS k ON k.id <> j.i_id) SELECT 2",
        }),
        # Sorted by what is the same in each row.
        ("SELECT a.b FROM a WHERE a.b = c AND d ORDER BY a.b LIMIT 1", {
            "SELECT a.b FROM a WHERE a.b <> c AND d ORDER BY a.b LIMIT 1",
            "SELECT a.b FROM a WHERE TRUE AND d ORDER BY a.b LIMIT 1",
            "SELECT a.b FROM a WHERE a.b = c OR d ORDER BY a.b LIMIT 1",
            "SELECT a.b FROM a WHERE a.b = c ORDER BY a.b LIMIT 1",
            "SELECT a.b FROM a WHERE a.b = c AND d ORDER BY a.b LIMIT 0",
        }),
        ("SELECT a.b FROM a WHERE a.b = c OR d ORDER BY a.b", {
            "SELECT a.b FROM a WHERE a.b <> c OR d ORDER BY a.b",
            "SELECT a.b FROM a WHERE TRUE OR d ORDER BY a.b",
            "SELECT a.b FROM a WHERE a.b = c AND d ORDER BY a.b",
            "SELECT a.b FROM a WHERE a.b = c OR d ORDER BY a.b DESC",
        }),
        ("SELECT a WHERE b(x, y) AND c OR d", {
            "SELECT a WHERE TRUE AND c OR d",
            "SELECT a WHERE b(x, y) OR d",
            "SELECT a WHERE b(x, y) OR c OR d",
            "SELECT a WHERE b(x, y) AND c AND d",
        }),
        ("SELECT greatest(a, b), min(c), coalesce(d, e)", {
            "SELECT least(a, b), min(c), coalesce(d, e)",
            "SELECT greatest(a, b), max(c), coalesce(d, e)",
            "SELECT greatest(a, b), min(c), (d)",
        }),
        ("SELECT NOT EXISTS(SELECT 1 WHERE TRUE), a IS NOT NULL", {
            "SELECT EXISTS(SELECT 1 WHERE TRUE), a IS NOT NULL",
            "SELECT NOT EXISTS(SELECT 1 WHERE FALSE), a IS NOT NULL",
            "SELECT NOT EXISTS(SELECT 1 WHERE TRUE), a IS NULL",
        }),
        ("SELECT a\n\\if :{?x}\nWHERE b\n\\endif\n", {
            "SELECT a \\if :{?x} \\endif",
            "SELECT a \\if :{?x} WHERE TRUE \\endif",
        }),
        # A condition among the columns, and one with a clause within.
        ("SELECT a AND b IS DISTINCT FROM c AS d FROM e", {
            "SELECT a OR b IS DISTINCT FROM c AS d FROM e",
            "SELECT a AS d FROM e",
            "SELECT a AND b IS NOT DISTINCT FROM c AS d FROM e",
        }),
        ("SELECT a WHERE b(\n\\if :{?x}\nc,\n\\endif\nd)", {
            "SELECT a WHERE b( \\if :{?x} \\endif d)",
            "SELECT a WHERE TRUE",
        }),
        ("INSERT INTO a SELECT b ORDER BY c ON CONFLICT (d) DO NOTHING", {
            "INSERT INTO a SELECT b ORDER BY c DESC ON CONFLICT (d) DO NOTHING",
        }),
        ("SELECT 'a < b', a BETWEEN b AND c", set()),
    ],
)  # fmt: skip
def test_each_kind_of_change_is_made(sql: str, expected: set[str]) -> None:
    assert of(sql) == expected


@pytest.mark.parametrize("name", ["job/sweep", "report/failures"])
def test_a_mutant_differs_in_one_place(name: str) -> None:
    path = query(name).path
    text = path.read_text()
    found = [*mutants(text, name, path)]
    assert len(found) > 20
    assert len({*found, text}) == len(found) + 1


def test_every_report_has_mutants() -> None:
    for name in names("report"):
        path = query(name).path
        assert next(mutants(path.read_text(), name, path), None), name
