r"""The loader of query files, and the house rules for the files of `sql/`."""

import inspect
import re
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import psycopg
import pytest
from filled import ROW_TYPES, STATEMENTS
from filled import WRITTEN as SAMPLES
from hypothesis import given
from hypothesis import strategies as st

from butido_store import artifact, job, release, report, submit
from butido_store._query import Note, Query, Token, directory, names, parse, query, read, tokenize
from butido_store.embedded import Server
from butido_store.errors import QueryFileError

Connection = psycopg.Connection[tuple[object, ...]]

SUBJECTS: dict[str, ModuleType] = {
    "artifact": artifact,
    "job": job,
    "release": release,
    "report": report,
    "submit": submit,
}
NAMES = names()
PATH = Path("subject/verb.sql")


OWN = ("store/", "migration/", "drift/", "doctor/", "retention/")
FUNCTIONS = {
    f"{subject}/{verb}"
    for subject, module in SUBJECTS.items()
    for verb, function in inspect.getmembers(module, inspect.isfunction)
    if function.__module__ == module.__name__
    and not verb.startswith("_")
    and str(inspect.signature(function).return_annotation).find("Statement[") >= 0
}
# The writes that are put together from several files, none of which has their name.
COMPOSED = {
    *("job/append_log", "job/finish", "job/once", "job/record", "job/record_all", "job/start"),
}
PUBLIC = sorted(FUNCTIONS - COMPOSED)


def statement(body: str) -> Query:
    """Parse a body under a header."""
    return parse("subject/verb", f"-- What is asked?\n\n{body}", PATH)


def rendered(body: str, *given: str) -> str:
    """Return what is sent of a body, without the query's name after its first keyword."""
    sql = statement(body).render(frozenset(given)).sql
    keyword, name, rest = sql.partition(" /* subject/verb */")
    assert name
    assert keyword.split()[-1] in ("SELECT", "INSERT", "WITH")
    return (keyword + rest).strip()


def choices(file: Query) -> Iterator[frozenset[str]]:
    """Yield the parameters of a query with none, each and all of its optional clauses."""
    for chosen in [[], *([clause] for clause in file.clauses), [*file.clauses]]:
        yield file.required.union(*(file.clauses[clause] for clause in chosen), chosen)


# The shipped files -----------------------------------------------------------------------------


def test_all_files_are_found() -> None:
    root = directory("sql")
    assert sorted(f"{path.relative_to(root)}" for path in root.glob("*/*")) == [
        f"{name}.sql" for name in NAMES
    ]
    assert len(NAMES) > 40


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_file_loads(name: str) -> None:
    loaded = query(name)
    assert (loaded.name, loaded.path) == (name, directory("sql") / f"{name}.sql")
    assert loaded.types.keys() == loaded.required.union(*loaded.clauses.values())
    for given_ in choices(loaded):
        sql, order = loaded.render(given_).sql, loaded.render(given_).order
        assert sorted(order) == sorted(given_)
        assert {int(number) for number in re.findall(r"\$(\d+)::", sql)} == {
            *range(1, len(order) + 1)
        }
        assert "\\if" not in sql
        assert "\\endif" not in sql


# What is made after initdb has a number from here on (FirstNormalObjectId, transam.h).
_FIRST_OWN_OID = 16384


@pytest.mark.parametrize("name", NAMES)
def test_the_server_takes_a_file_with_none_each_and_all_of_its_clauses(
    name: str, connection: Connection
) -> None:
    for given_ in choices(query(name)):
        sql = query(name).render(given_).sql.encode()
        result = connection.pgconn.prepare(b"", sql)
        assert result.error_message == b""
        described = connection.pgconn.describe_prepared(b"")
        # An array of a domain is a type that no client knows: cast what it is made of.
        types = {described.fname(n): described.ftype(n) for n in range(described.nfields)}
        assert {column: oid for column, oid in types.items() if oid >= _FIRST_OWN_OID} == {}


@pytest.mark.parametrize("name", PUBLIC)
def test_the_header_and_the_docstring_say_the_same(name: str) -> None:
    subject, verb = name.split("/")
    function = getattr(SUBJECTS[subject], verb)
    first = (inspect.getdoc(function) or "").partition("\n\n")[0]
    assert " ".join(first.split()) == query(name).summary


def test_every_public_function_that_makes_a_statement_has_its_files() -> None:
    assert {*NAMES} >= {*PUBLIC}
    assert not COMPOSED & {*NAMES}
    # What is no function's is a step of one, or the library's own.
    samples = (*SAMPLES, *STATEMENTS)
    steps = {step.query.name for statement in samples for step in statement.steps}
    whys = {step.query.name for one in samples if one.why for step in one.why().steps}
    rest = {name for name in NAMES if not name.startswith(OWN) and "/intern" not in name}
    assert rest - {*PUBLIC} - steps - whys == set()


ROWS: dict[str, tuple[str, ...]] = {
    name: tuple(field.name for field in fields(row))
    for row, queries in {
        job.Job: ("job/get",),
        job.LogPiece: ("job/log_after",),
        submit.SubmitDetail: ("submit/get",),
        artifact.Artifact: (
            "artifact/get",
            "artifact/registered",
            "job/inputs",
            "job/outputs",
        ),
    }.items()
    for name in queries
} | {
    **{
        f"report/{name}": tuple(field.name for field in fields(row))
        for name, row in ROW_TYPES.items()
    },
    "artifact/reusable": ("job_uuid", "finished_at", "uuid", "path", "sha256", "size"),
    "job/compare": job._Compared._fields,
    "job/compare_chunk": job._ComparedChunk._fields,
    "release/compare": release._Compared._fields,
    "job/env": ("name", "value"),
    "submit/env": ("name", "value"),
}


@pytest.mark.parametrize("name", ROWS)
def test_the_columns_are_the_fields_of_what_they_fill(name: str, connection: Connection) -> None:
    for given_ in choices(query(name)):
        connection.pgconn.prepare(b"", query(name).render(given_).sql.encode())
        described = connection.pgconn.describe_prepared(b"")
        columns = [described.fname(number) or b"" for number in range(described.nfields)]
        assert tuple(column.decode() for column in columns) == ROWS[name]


# The house rules -------------------------------------------------------------------------------

_WRITES = {"INSERT", "UPDATE", "DELETE", "MERGE", "TRUNCATE"}
_NAMES_A_TABLE = {"FROM", "JOIN", "INTO", "UPDATE", "USING", "TABLE"}


# Tables whose keys the client makes, all of them.
CLIENT_KEYS = ("JOB",)


def problems(sql: str) -> list[str]:
    """Return what breaks the house rules in a query file's text."""
    tokens = [t for t in tokenize(sql, PATH) if t.kind not in ("space", "line", "block", "command")]
    # Outside of quotes case does not matter; keywords in upper case are a rule of sqlfluff's.
    texts = [t.text.upper() if t.kind == "word" else t.text for t in tokens]
    found, into = [], ""

    def after(place: int) -> str:
        return texts[place + 1] if place + 1 < len(texts) else ""

    def is_name(place: int) -> bool:
        return 0 <= place < len(tokens) and tokens[place].kind in ("word", "identifier")

    for place, text in enumerate(texts):
        before = texts[place - 1] if place else ""
        into = text if before == "INTO" else into
        if text == "*" and before in ("SELECT", "DISTINCT", "ALL", "RETURNING", ",", "."):
            found.append("all columns")
        if text in ("OFFSET", "MERGE"):
            found.append(text)
        if text == "FROM" and before == "SELECT":
            found.append("SELECT FROM")
        if text == "INSERT" and before == "(":
            found.append("INSERT in WITH")
        # Else a sequence that is behind would go unnoticed.
        if text == "CONFLICT" and after(place) != "(" and into not in CLIENT_KEYS:
            found.append("no arbiter")
        if text == "VALUES" and texts[place + 1 : place + 4] == ["(", "(", "SELECT"]:
            found.append("VALUES ((SELECT")
        qualified = is_name(place) and after(place) == "." and is_name(place + 2)
        # The system catalog is the same one whatever the schema.
        # IS DISTINCT FROM a column.
        compared = before == "FROM" and texts[place - 2] == "DISTINCT"
        if qualified and not compared and text != "PG_CATALOG":
            called = texts[place + 3 : place + 4] == ["("]
            if before in _NAMES_A_TABLE or before == "::" or called:
                found.append("qualified name")
    top = list(_at_top(tokens, texts))
    if top[-1:] == ["UPDATE"]:
        del top[top.index("FOR") :]  # A lock is no write.
    if not _WRITES & {*top} and "FROM" in top and "ORDER" not in top:
        found.append("no order")
    if any(verb in top for verb in _WRITES) and "RETURNING" not in top:
        found.append("nothing returned")
    return found


def _at_top(tokens: list[Token], texts: list[str]) -> Iterator[str]:
    depth = 0
    for token, text in zip(tokens, texts, strict=True):
        depth -= text == ")"
        if not depth and token.kind == "word":
            yield text
        depth += text == "("


# The insert of the job, before them in the same write, tells whether it was written.
FOLLOWING = {"job/insert_inputs", "job/insert_outputs"}


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_file_keeps_the_house_rules(name: str) -> None:
    allowed = ["nothing returned"] if name in FOLLOWING else []
    assert problems(query(name).path.read_text(encoding="utf-8")) == allowed


def calls(sql: str, functions: Set[str]) -> set[str]:
    """Return which of the functions a query file's text calls."""
    tokens = [t for t in tokenize(sql, PATH) if t.kind not in ("space", "line", "block")]
    names_ = {
        before.text.strip('"') if before.kind == "identifier" else before.text.lower()
        for before, token in pairwise(tokens)
        if token.text == "(" and before.kind in ("word", "identifier")
    }
    return names_ & functions


@pytest.fixture
def reading(connection: Connection) -> set[str]:
    """Functions of the schema that read tables, or whose body the catalog does not know."""
    rows = connection.execute(
        "SELECT p.proname FROM pg_proc AS p"
        " WHERE p.pronamespace = to_regnamespace(quote_ident(current_schema()))"
        " AND (p.prosqlbody IS NULL OR EXISTS ("
        "SELECT 1 FROM pg_depend AS d WHERE d.classid = 'pg_proc'::regclass"
        " AND d.objid = p.oid AND d.refclassid = 'pg_class'::regclass))"
    )
    return {str(name) for (name,) in rows}


def test_no_shipped_file_calls_a_function_that_reads_tables(reading: set[str]) -> None:
    """Where tables are spread over servers, such a function stays where it was called."""
    assert {"job_log", "artifact_ancestors", "artifact_descendants"} <= reading
    assert not {"text_sha256", "rfc3339"} & reading
    found = {
        name: called
        for name in NAMES
        if (called := calls(query(name).path.read_text(encoding="utf-8"), reading))
    }
    assert found == {}


def test_a_call_is_found_however_it_is_written() -> None:
    called = "SELECT job_log(1), JOB_LOG (2), \"a b\"(3), x.f(4), 'g(5)', h; -- i(6)"
    assert calls(called, {"job_log", "a b", "f", "g", "h", "i"}) == {"job_log", "a b", "f"}


@pytest.mark.parametrize(
    ("sql", "problem"),
    [
        ("SELECT * FROM job ORDER BY uuid;", "all columns"),
        ("SELECT j.* FROM job AS j ORDER BY uuid;", "all columns"),
        ("SELECT 1, * FROM job ORDER BY uuid;", "all columns"),
        ("DELETE FROM job RETURNING *;", "all columns"),
        ("SELECT (SELECT count(*) FROM (SELECT DISTINCT * FROM job) AS j);", "all columns"),
        ("SELECT 1 FROM job ORDER BY uuid OFFSET 3;", "OFFSET"),
        ("select 1 from job order by uuid offset 3;", "OFFSET"),
        ("MERGE INTO job USING x ON TRUE WHEN MATCHED THEN DELETE RETURNING 1;", "MERGE"),
        ("INSERT INTO job VALUES ((SELECT 1)) RETURNING uuid;", "VALUES ((SELECT"),
        ("SELECT EXISTS (SELECT FROM job);", "SELECT FROM"),
        ("SELECT EXISTS (select\n-- nothing\nfrom job);", "SELECT FROM"),
        ("SELECT uuid FROM butido.job ORDER BY uuid;", "qualified name"),
        ('SELECT uuid FROM "Butido".job ORDER BY uuid;', "qualified name"),
        ("SELECT 1 FROM job AS j JOIN public.x ON TRUE ORDER BY 1;", "qualified name"),
        ("SELECT public.f(1);", "qualified name"),
        ("SELECT 1::public.state;", "qualified name"),
        ("INSERT INTO butido.job (uuid) SELECT 1 RETURNING uuid;", "qualified name"),
        ("SELECT uuid FROM job;", "no order"),
        ("SELECT uuid FROM (SELECT uuid FROM job ORDER BY uuid) AS j;", "no order"),
        ("WITH x AS (SELECT 1 ORDER BY 1) SELECT 1 FROM x;", "no order"),
        ("SELECT uuid FROM job FOR UPDATE;", "no order"),
        ("DELETE FROM job;", "nothing returned"),
        ("WITH x AS (INSERT INTO a DEFAULT VALUES RETURNING b) SELECT 1;", "INSERT in WITH"),
        ("INSERT INTO a (b) SELECT 1 ON CONFLICT DO NOTHING RETURNING b;", "no arbiter"),
        ("WITH x AS (DELETE FROM job RETURNING uuid) INSERT INTO x SELECT 1;", "nothing returned"),
    ],
)
def test_each_rule_finds_its_breach(sql: str, problem: str) -> None:
    assert problems(sql) == [problem]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) AS jobs FROM job AS j ORDER BY j.uuid;",
        "SELECT 2 * 3, '* OFFSET MERGE', \"OFFSET\" -- SELECT *\n;",
        "SELECT j.uuid FROM pg_catalog.pg_class AS j ORDER BY 1;",
        "INSERT INTO job (uuid) VALUES (1) RETURNING uuid;",
        "INSERT INTO a (b) SELECT 1 ON CONFLICT (b) DO NOTHING RETURNING b;",
        "INSERT INTO job (b) SELECT 1 ON CONFLICT DO NOTHING RETURNING b;",
        "SELECT uuid FROM job ORDER BY uuid FOR NO KEY UPDATE;",
    ],
)
def test_what_only_looks_like_a_breach_is_none(sql: str) -> None:
    assert problems(sql) == []


# What the loader makes of a file ----------------------------------------------------------------


def test_parameters_become_numbers_in_the_order_of_their_first_use() -> None:
    loaded = statement("SELECT :'b'::text, :'a'::bigint[], :'b'::text || '';")
    result = loaded.render(frozenset("ab"))
    assert result.sql.endswith("SELECT /* subject/verb */ $1::text, $2::bigint[], $1::text || ''")
    assert result.order == ("b", "a")
    assert loaded.required == {"a", "b"}
    assert loaded.clauses == {}
    assert loaded.types == {"b": "text", "a": "bigint[]"}


CLAUSES = """\
SELECT 1
\\if :{?a}
, :'a'::text
\\endif
  \\if :{?b} \t
, :'b'::text, :'c'::text
\\endif
\\if :{?flag}
, TRUE
\\endif
WHERE :'d'::boolean;
"""


def test_a_clause_is_kept_where_its_parameter_is_given() -> None:
    def on_one_line(*given_: str) -> str:
        return " ".join(rendered(CLAUSES, *given_).split())

    assert on_one_line("d") == "SELECT 1 WHERE $1::boolean"
    assert on_one_line("d", "a") == "SELECT 1 , $1::text WHERE $2::boolean"
    full = statement(CLAUSES).render(frozenset({"a", "b", "c", "d", "flag"}))
    assert full.order == ("a", "b", "c", "d")
    assert "TRUE" in full.sql
    assert statement(CLAUSES).clauses == {"a": {"a"}, "b": {"b", "c"}, "flag": {"flag"}}
    assert statement(CLAUSES).types["flag"] == "boolean"


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ([], "query subject/verb needs d$"),
        (["a"], "query subject/verb needs d$"),
        (["d", "b"], "query subject/verb needs c$"),
        (["d", "c"], "query subject/verb does not take c$"),
        (["d", "e", "f"], "query subject/verb does not take e, f$"),
        (["d", "D"], "query subject/verb does not take D$"),
    ],
)
def test_unknown_and_missing_parameters_are_refused(given_: list[str], message: str) -> None:
    with pytest.raises(QueryFileError, match=message):
        rendered(CLAUSES, *given_)


NESTED = """\
SELECT 1
\\if :{?a}
, 2
\\if :{?b}
, :'b'::text, :'c'::text, :'a'::text
\\endif
, 3
\\endif
WHERE TRUE
\\if :{?b}
AND :'b'::text <> ''
\\endif
;
"""


def test_a_clause_in_a_clause_is_kept_where_both_parameters_are_given() -> None:
    def on_one_line(*given_: str) -> str:
        return " ".join(rendered(NESTED, *given_).split())

    assert on_one_line() == "SELECT 1 WHERE TRUE"
    assert on_one_line("b") == on_one_line("b", "c") == "SELECT 1 WHERE TRUE AND $1::text <> ''"
    assert on_one_line("a") == "SELECT 1 , 2 , 3 WHERE TRUE"
    assert (
        on_one_line("a", "b", "c")
        == "SELECT 1 , 2 , $1::text, $2::text, $3::text , 3 WHERE TRUE AND $1::text <> ''"
    )
    with pytest.raises(QueryFileError, match=r"needs c$"):
        on_one_line("a", "b")


@pytest.mark.parametrize(
    ("sql", "sent"),
    [
        ("SELECT 1;", "SELECT /* subject/verb */ 1"),
        ("SELECT\n    1;", "SELECT /* subject/verb */\n    1"),
        ("SELECT'a';", "SELECT /* subject/verb */'a'"),
        ("WITH a AS (SELECT 1) SELECT 2;", "WITH /* subject/verb */ a AS (SELECT 1) SELECT 2"),
        ("WITH RECURSIVE a AS (b);", "WITH /* subject/verb */ RECURSIVE a AS (b)"),
        ("-- SELECT\nINSERT INTO a (b);", "-- SELECT\nINSERT /* subject/verb */ INTO a (b)"),
        ("/* SELECT */ BEGIN;", "/* SELECT */ BEGIN /* subject/verb */"),
        ("(SELECT 1) UNION (SELECT 2);", "(SELECT /* subject/verb */ 1) UNION (SELECT 2)"),
        ("\\if :{?a}\nSELECT\n\\endif\nWITH 1;", "WITH /* subject/verb */ 1"),
    ],
)
def test_the_name_stands_after_the_first_keyword(sql: str, sent: str) -> None:
    assert statement(sql).render(frozenset()).sql.strip() == sent


def test_a_query_is_found_by_its_name_in_pg_stat_statements(
    connection: Connection, short_directory: Path
) -> None:
    if not connection.execute(
        "SELECT FROM pg_available_extensions WHERE name = 'pg_stat_statements'"
    ).rowcount:
        pytest.skip("the server comes without pg_stat_statements")
    settings_ = {"shared_preload_libraries": "pg_stat_statements"}
    with (
        Server(short_directory, settings=settings_) as server,
        psycopg.connect(server.dsn, autocommit=True) as session,
    ):
        session.execute("CREATE EXTENSION pg_stat_statements")
        asked = query("migration/lock").render(frozenset({"schema"}))
        psycopg.RawCursor(session).execute(*asked.bind({"schema": "a"}))
        texts = session.execute("SELECT query FROM pg_stat_statements").fetchall()
    assert [text for (text,) in texts if "/* migration/lock */" in str(text)]


WRITTEN = """\
-- What is asked?
--
-- state {on|off}: which

SELECT :'state', :'a'::text, :'state'
\\if :{?limit}
LIMIT :limit + :'b'::bigint * :limit
\\endif
;
"""


def test_what_is_written_out_comes_last() -> None:
    loaded = parse("subject/verb", WRITTEN, PATH)
    assert loaded.types == {"state": "text", "a": "text", "limit": "bigint", "b": "bigint"}
    assert loaded.required == {"state", "a"}
    found = loaded.render(frozenset({"state", "a", "limit", "b"}))
    assert found.order == ("a", "b", "state", "limit")
    assert found.sql == (
        "SELECT /* subject/verb */ $3::text, $1::text, $3::text\n\n"
        "LIMIT $4::bigint + $2::bigint * $4::bigint\n\n"
    )


@given(limit=st.integers(0, 2**63 - 1))
def test_a_number_is_sent_as_the_number_that_it_is(limit: int) -> None:
    found = parse("subject/verb", WRITTEN, PATH).render(frozenset({"state", "a", "limit", "b"}))
    sql, values = found.bind({"limit": limit, "b": 5, "a": "x", "state": "off"})
    assert f"LIMIT {limit} + $2::bigint * {limit}\n".encode() in sql
    assert values == ["x", 5]


@pytest.mark.parametrize("limit", ["1", "1; DROP TABLE job", "on", 1.5, None, True, -1])
def test_a_number_that_is_none_is_not_sent(limit: object) -> None:
    found = parse("subject/verb", WRITTEN, PATH).render(frozenset({"state", "a", "limit", "b"}))
    with pytest.raises(ValueError, match="limit is"):
        found.bind({"limit": limit, "b": 5, "a": "x", "state": "on"})


def test_a_choice_is_sent_as_it_is_and_nothing_else_is() -> None:
    found = parse("subject/verb", WRITTEN, PATH).render(frozenset({"state", "a"}))
    sql, values = found.bind({"state": "on", "a": "x"})
    assert sql.strip().endswith(b"'on', $1::text, 'on'")
    assert values == ["x"]
    for state in ("", "o", "'", "on' OR 'a' = 'a", None, 1, True):
        with pytest.raises(ValueError, match="state is"):
            found.bind({"state": state, "a": "x"})


def test_a_choice_with_a_cast_is_a_parameter() -> None:
    file = WRITTEN.replace(":'state'", ":'state'::text")
    found = parse("subject/verb", file, PATH).render(frozenset({"state", "a"}))
    assert found.bind({"state": "any", "a": "x"})[1] == ["any", "x"]


def test_the_header_is_read() -> None:
    loaded = parse(
        "subject/verb",
        "-- What is\n-- asked for?\n--\n-- More than that: this.\n--\n-- a: the first,\n"
        "--    on two lines\n-- b, -b {x|y}: the second\n\n-- no: header\n"
        "SELECT :'a'::text, :'b'::text;",
        PATH,
    )
    assert loaded.summary == "What is asked for?"
    assert loaded.notes == {
        "a": Note("the first, on two lines"),
        "b": Note("the second", "b", ("x", "y")),
    }
    assert "no: header" in loaded.render(frozenset("ab")).sql


HEADER = "-- What is asked?\n\n"
CHOICE = "-- What is asked?\n--\n-- a {x|y}: which\n\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # Backslash commands
        (HEADER + "SELECT 1\n\\gset\n;", r":4: \\gset is not accepted here"),
        (HEADER + "SELECT 1\n\\else\n;", r":4: \\else is not accepted here"),
        (HEADER + "SELECT 1\n\\;\n", r":4: "),
        (HEADER + "SELECT 1\n\\\n;", r":4: "),
        (HEADER + "\\if true\nSELECT 1;\n\\endif\n", r":3: \\if is not accepted here"),
        (HEADER + "SELECT 1\n\\if :a\n\\endif\n;", r":4: \\if is not accepted here"),
        (HEADER + "SELECT 1\n\\if :{?a} :{?b}\n\\endif\n;", r":4: \\if is not accepted here"),
        (HEADER + "SELECT 1\n\\if :{?a} -- why\n\\endif\n;", r":4: \\if is not accepted here"),
        (HEADER + "SELECT 1\n\\elif :{?a}\n\\endif\n;", r":4: \\elif is not accepted here"),
        (HEADER + "SELECT 1\n\\IF :{?a}\n\\endif\n;", r":4: \\IF is not accepted here"),
        (HEADER + "SELECT 1 \\if :{?a}\n\\endif\n;", r":3: .* a line of its own"),
        (HEADER + "SELECT 1\n\\if :{?a}\n+ 1 \\endif\n;", r":5: .* a line of its own"),
        (
            HEADER + "SELECT 1\n\\if :{?a}\n\\if :{?b}\n\\endif\n;",
            r":7: the \\if of line 4 is not closed",
        ),
        (HEADER + "SELECT 1\n\\if :{?a}\n+ 1\n", r":4: this \\if is not closed"),
        (HEADER + "SELECT 1\n\\if :{?a}\n+ 1;\n\\endif\n", r":5: the \\if of line 4 is not closed"),
        (HEADER + "SELECT 1\n\\endif\n;", r":4: \\endif without \\if"),
        (HEADER + "SELECT 1;\n\\endif\n", r":4: .* one statement"),
        # Parameters
        (HEADER + "SELECT\n:'a';", r":4: parameter :'a' needs a cast"),
        (HEADER + "SELECT\n:'a' ::text;", r":4: parameter :'a' needs a cast"),
        (HEADER + 'SELECT\n:"a";', r":4: a parameter is :'name'::type"),
        (HEADER + "SELECT\n:{?a};", r":4: a parameter is :'name'::type"),
        (HEADER + "SELECT\n:'a b'::text;", r":4: a parameter is :'name'::type"),
        (
            HEADER + "SELECT :'a'::text,\n:'a'::bigint;",
            r":4: parameter :'a'::bigint stands as :'a'",
        ),
        (HEADER + "SELECT :'a'::text,\n:'a'::text[];", r":4: parameter :'a'::text\[\] stands as"),
        (
            HEADER + "SELECT :'a'::bigint,\n:a;",
            r":4: parameter :a stands as :'a'::bigint in line 3",
        ),
        (
            HEADER + "SELECT :a,\n\n:'a'::bigint;",
            r":5: parameter :'a'::bigint stands as :a in line 3",
        ),
        (
            CHOICE + "SELECT :'a'::text,\n:'a';",
            r":6: parameter :'a' stands as :'a'::text in line 5",
        ),
        (
            CHOICE + "SELECT :'a',\n:'a'::text;",
            r":6: parameter :'a'::text stands as :'a' in line 5",
        ),
        (CHOICE + "SELECT :'a',\n:a;", r":6: parameter :a stands as :'a' in line 5"),
        (CHOICE + "SELECT :'a',\n:'b';", r":6: parameter :'b' needs a cast"),
        ("-- What?\n--\n-- a: any\n\nSELECT :'a';", r":5: parameter :'a' needs a cast"),
        (HEADER + "SELECT :'a'::text\n\\if :{?a}\n, 1\n\\endif\n;", r":1: parameter a is optional"),
        (HEADER + "SELECT 1\n\\if :{?a}\n, 1\n\\endif\n, :'a'::text;", r":1: parameter a is opt"),
        ("-- What?\n--\n-- b: nothing\n\nSELECT :'a'::text;", r":1: the header explains b"),
        # Statements
        (HEADER + "SELECT 1;\nSELECT 2;", r":4: .* one statement"),
        (HEADER + "SELECT 1;\n;", r":4: .* one statement"),
        (HEADER + "SELECT 1; --\n/* */ x", r":4: .* one statement"),
        (HEADER + "SELECT 1;\n:'a'::text", r":4: .* one statement"),
        (HEADER + "SELECT 1\n-- ;", r":4: the statement does not end in a semicolon"),
        (HEADER + "-- nothing\n/* SELECT 1; */", r":4: the file holds no statement"),
        (HEADER + ";", r":3: the file holds no statement"),
        (HEADER, r":\d: the file holds no statement"),
        # The header
        ("", r":1: the file starts with a comment"),
        ("SELECT 1;", r":1: the file starts with a comment"),
        ("\n-- What is asked?\n\nSELECT 1;", r":1: the file starts with a comment"),
        ("-- What is asked\n\nSELECT 1;", r":1: the file starts with a comment"),
        ("/* What is asked? */\n\nSELECT 1;", r":1: the file starts with a comment"),
        # Quotes
        (HEADER + "SELECT\n'a;\n", r":4: a quoted string is not closed"),
        (HEADER + "SELECT\n'a'';\n", r":4: a quoted string is not closed"),
        (HEADER + "SELECT\nE'a\\';\n", r":4: a quoted string is not closed"),
        (HEADER + 'SELECT\n"a;\n', r":4: a quoted string is not closed"),
        (HEADER + "SELECT\n$$a;\n$a$\n", r":4: a quoted string is not closed"),
        (HEADER + "SELECT\n$a$a;\n$A$ $$\n", r":4: a quoted string is not closed"),
        (HEADER + "SELECT\n/* 1;\n", r":4: a comment is not closed"),
        (HEADER + "SELECT\n/* /* */ 1;\n", r":4: a comment is not closed"),
        (HEADER + "SELECT '\0';", r":3: the file holds a NUL byte"),
        # The server's own parameters, which would be taken for one of ours
        (HEADER + "SELECT :'a'::text,\n$1::text;", r":4: "),
    ],
)
def test_a_bad_file_is_refused_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "subject" / "verb.sql"
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8", newline="")
    with pytest.raises(QueryFileError, match=f"^{re.escape(str(path))}{message}"):
        read(path, tmp_path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    latin = tmp_path / "latin.sql"
    latin.write_bytes("-- Wo ist das Café?\n\nSELECT 1;".encode("latin-1"))
    directory = tmp_path / "directory.sql"
    directory.mkdir()
    for path in (latin, tmp_path / "missing.sql", directory):
        with pytest.raises(QueryFileError, match=f"^{re.escape(str(path))}:1: .*cannot be read"):
            read(path, tmp_path)


def test_a_query_that_is_not_there_is_refused() -> None:
    with pytest.raises(QueryFileError, match=r"job/none\.sql"):
        query("job/none")


# What a file may hold that only looks like a parameter or an end ---------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        r"SELECT ':x :''x'' ; \if -- /* $1'",
        r"SELECT E'\':\'x\'; \n \\' || e'\'' || E'a\nb'",
        'SELECT 1 AS ":x; \\if""\'"',
        "SELECT $$ :'x'; $a$ ' $$ || $tag$ $$ $TAG$ ; ' \\if $tag$ || $$$$",
        "SELECT /* :'x'; ' \\if /* nested ; */ \" */ 1",
        "SELECT /*/* */*/ 1 /**/",
        "SELECT 1 -- :'x'; ' \\if /*\n, 2",
        "SELECT (ARRAY[1, 2, 3])[1:2], (ARRAY[1])[:1], (ARRAY[1])[1:]",
        "SELECT 1::text, '1'::bigint::text, (1)::\ntext",
        "SELECT make_interval(days := 1), make_interval(days => 1)",
        "SELECT 5 % 3, '%s %(x)s', 1 - -1, 2 * 3, 4 / 2",
        "SELECT jsonb '{\"a\": 1}' ? 'a', '{}'::jsonb @> '{}', jsonb '[1]' -> 0",
        "SELECT U&'\\0041;', B'01', N':x' AS a$b",
        "SELECT 'é;' AS ünïcode",
        "SELECT '\\' || '\\''' || ':x'",
    ],
)
def test_the_server_gets_what_the_file_says(sql: str, connection: Connection) -> None:
    assert rendered(f"{sql};\n-- :'after'; the end\n") == sql
    connection.execute(sql.replace("%", "%%").encode(), [])


def test_a_character_that_python_takes_for_a_line_end_is_none() -> None:
    for character in "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029":
        loaded = parse("subject/verb", f"-- What is{character}-- asked?\nSELECT 1,\n2,\n3;", PATH)
        assert loaded.render(frozenset()).sql.strip().endswith(" 1,\n2,\n3")


@dataclass(frozen=True)
class Quoting:
    """A way to put any text into SQL such that it is not looked at."""

    quote: Callable[[str], str]
    allowed: Callable[[str], bool] = lambda text: True


# Text made of what could end a quote, start another or look like a parameter.
_PIECES = st.sampled_from(
    [
        "'",
        '"',
        "\\",
        "$",
        "$$",
        "$a$",
        "E'",
        ";",
        "--",
        "/*",
        "*/",
        "a",
        "é",
        "%s",
        "1",
        "{",
        ":",
        ":'x'",
        "::text",
        ":x",
        ':"x"',
        "\n\\if :{?x}\n",
        "\n\\endif\n",
        "\n",
        " ",
    ]
)
TEXTS = st.lists(_PIECES | st.characters(codec="utf-8", exclude_characters="\0")).map("".join)
LITERALS = {
    "string": Quoting(lambda text: "'" + text.replace("'", "''") + "'"),
    "E-string": Quoting(lambda text: "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"),
    "e-string": Quoting(lambda text: "e'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"),
    "dollar": Quoting(
        # What could end in the middle of the tag must not stand before it.
        lambda text: f"$t_1${text}$t_1$",
        lambda text: "$t_1$" not in f"{text}$",
    ),
    "plain dollar": Quoting(lambda text: f"$${text}$$", lambda text: "$$" not in f"{text}$"),
}
OTHERS = {
    "identifier": Quoting(lambda text: '1 AS "x' + text.replace('"', '""') + '"'),
    "line comment": Quoting(lambda text: f"1 --{text}\n", lambda text: not {*"\r\n"} & {*text}),
    "comment": Quoting(
        lambda text: f"1 /* {text} */", lambda text: "/*" not in text and "*/" not in text
    ),
    "nested comment": Quoting(
        lambda text: f"1 /* /* {text} */ ; {text} */",
        lambda text: "/*" not in text and "*/" not in text,
    ),
}


@pytest.mark.parametrize("kind", [*LITERALS, *OTHERS])
@given(texts=st.lists(TEXTS, min_size=1, max_size=3))
def test_what_is_quoted_is_sent_as_it_is(kind: str, texts: list[str]) -> None:
    quoting = (LITERALS | OTHERS)[kind]
    sql = "SELECT " + ", ".join(quoting.quote(t) for t in texts if quoting.allowed(t))
    if sql != "SELECT ":
        sent = statement(f"{sql}, :'given'::text;").render(frozenset({"given"})).sql
        assert sent == f"SELECT /* subject/verb */{sql.removeprefix('SELECT')}, $1::text"


@pytest.mark.parametrize("kind", LITERALS)
@given(text=TEXTS)
def test_the_server_reads_a_literal_as_it_was_written(
    kind: str, text: str, connection: Connection
) -> None:
    quoting = LITERALS[kind]
    if quoting.allowed(text):
        sql = statement(f"SELECT {quoting.quote(text)}, :'given'::text;").render(
            frozenset({"given"})
        )
        cursor = psycopg.RawCursor(connection)
        assert cursor.execute(sql.sql, ["x"]).fetchone() == (text, "x")
