"""What is given to a query file stays a value, through the library and through psql."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
from conftest import Postgres
from doors import Both, Result
from test_psql import BEFORE, SAMPLES, STORES

from butido_store._check import json_text
from butido_store._query import Query, names, query
from butido_store._statement import Step

# What ends a text, a comment, a statement or an array, begins a parameter or a psql command, or
# is shown from right to left. The last is no noncharacter: of those psql shows nothing.
HOSTILE = (
    "x'; DROP TABLE job CASCADE; -- x\"); /* */ \\' \\ \\\\'' "
    ":'job' :job :\"job\" :{?job} $1 %s %(job)s $$ $a$ ${HOME} `false` {NULL,} E'\\x27' "
    "\\gexec\n\\i /dev/null\n\\! false\n\\q\n\\if :{?job}\n\\endif "
    "\x01\x7f\u202e\u2028\ufeff\U0010fffd"
)
JSON = ("jsonb", "jsonb[]")
TEXTS = ("text", "text[]", *JSON)
FILES = [query(name) for name in names() if query(name).types]
# Texts that are not taken whatever they are.
NARROW = {
    "job/end": {"exit_code", "state"},
    "job/insert": {"exit_code", "state"},
    "migration/limit_wait": {"lock_timeout"},
    "migration/log": {"hash", "operation"},
    "migration/mark": {"hash", "phase"},
    "migration/set": {*query("migration/set").types},
    "migration/set_role": {"role"},
    "report/search_log": {"regex"},
    "retention/begin": {"what"},
}


def hostile(value: Any) -> Any:
    """Return a value with hostile text in place of each of its texts, and as one more key."""
    if isinstance(value, list | tuple):
        return [hostile(one) for one in value]
    if isinstance(value, dict) and value:
        changed = {key: hostile(one) for key, one in value.items()}
        changed[HOSTILE] = next(iter(changed.values()))
        return changed
    # What is a digest, a uuid or a time has to stay one.
    if not isinstance(value, str) or re.fullmatch(r"[0-9a-f-]{32,}|\d{4}-\d\d-.*", value):
        return value
    # A variable with its value stays that, too.
    return f"{HOSTILE}={HOSTILE}" if re.match(r"\w+=", value) else HOSTILE


def hostile_json(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [hostile_json(one) for one in value]
    return json_text(hostile(json.loads(value)))


def sample(file: Query, schema: str) -> dict[str, Any]:
    # Those of a check of the doctor, which has no others, are limits.
    found = SAMPLES.get(file.name, dict.fromkeys(file.types, 1))
    return {name: schema if one is STORES else one for name, one in found.items()}


def before(file: Query, given: Mapping[str, Any]) -> list[Step]:
    """Return what a file's statement runs before it, with the same parameters, as in psql."""
    return [
        Step(step.query, {name: given.get(name, one) for name, one in step.parameters.items()})
        for step in BEFORE.get(file.name, ())
    ]


def by_library(both: Both, file: Query, given: Mapping[str, Any]) -> Result | str | None:
    """Return what a file gives and leaves, or the SQLSTATE that it is refused with."""
    try:
        return both.by_library(file, given, before(file, given))
    except psycopg.Error as error:
        return error.sqlstate


def by_psql(both: Both, file: Query, given: Mapping[str, Any]) -> Result | str | None:
    """Return the same of psql."""
    try:
        return both.by_psql(file, {**given, "VERBOSITY": "sqlstate"}, before(file, given))
    except AssertionError as error:
        found = re.search(r"ERROR:  (\w{5})$", str(error), re.MULTILINE)
        return found and found[1]


@pytest.fixture
def both(postgres: Postgres, filled: str, schema: str, tmp_path: Path) -> Both:
    """One database for all files: each runs in a transaction that is undone."""
    return Both(postgres, filled, schema, schema, tmp_path)


def test_a_hostile_text_stays_a_value(both: Both, schema: str) -> None:
    for file in FILES:
        values = sample(file, schema)
        # What is narrower has a test of its own.
        texts = {
            name: (hostile_json if file.types[name] in JSON else hostile)(values[name])
            for name in file.types.keys() - file._written.keys() - NARROW.get(file.name, set())
            if file.types[name] in TEXTS
        }
        if texts:
            given = {**values, **texts}
            library = by_library(both, file, given)
            assert isinstance(library, Result), (file.name, library)
            assert by_psql(both, file, given) == library, file.name


def is_refused(state: Result | str | None) -> bool:
    """Whether data was refused: by a cast or a constraint, and not for an error of syntax."""
    return isinstance(state, str) and state.startswith(("22", "23"))


def test_a_hostile_text_is_refused_as_a_value(both: Both, schema: str) -> None:
    for file, name in [(query(file), name) for file, found in NARROW.items() for name in found]:
        given = {**sample(file, schema), name: HOSTILE}
        state = by_library(both, file, given)
        assert is_refused(state), (file.name, name, state)
        assert by_psql(both, file, given) == state, (file.name, name)


def test_what_is_no_text_is_refused_as_a_value(both: Both, schema: str) -> None:
    for file in FILES:
        values = sample(file, schema)
        others = {
            name: HOSTILE
            for name in file.types.keys() - file._written.keys()
            if file.types[name] not in TEXTS and (name in file.required or name not in file.clauses)
        }
        for name in others:
            state = by_library(both, file, {**values, name: HOSTILE})
            assert is_refused(state), (file.name, name, state)
        if others:
            # A statement is parsed as a whole before any value in it is looked at.
            state = by_psql(both, file, {**values, **others})
            assert is_refused(state), (file.name, state)


def test_what_is_written_out_is_refused(both: Both, schema: str) -> None:
    for file in FILES:
        for name in file._written:
            with pytest.raises(ValueError, match=f"^{name} is "):
                both.by_library(file, {**sample(file, schema), name: HOSTILE})
