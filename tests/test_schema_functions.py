"""The schema's functions and views give what they promise."""

import hashlib
import json
from datetime import timedelta

import psycopg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from psycopg import errors
from psycopg.types.json import Jsonb
from rows import a_tree
from samples import create, fingerprint, sha256

from butido_store import Store, uuid7
from butido_store._query import query
from butido_store._statement import Step

Connection = psycopg.Connection[tuple[object, ...]]
TEXTS = st.text(
    st.characters(codec="utf-8", exclude_characters="\0") | st.sampled_from("\\'x0é:,"), max_size=40
)


@given(text=TEXTS)
def test_text_sha256_is_that_of_the_utf8(text: str, connection: Connection) -> None:
    found = connection.execute("SELECT text_sha256(%s)", [text]).fetchone()
    assert found == (hashlib.sha256(text.encode()).digest(),)


@given(path=TEXTS.map(lambda text: f"a{text}"))
@example(path="a\\b")
def test_a_path_is_found_by_its_text_sha256(path: str, connection: Connection) -> None:
    found = connection.execute(
        "INSERT INTO artifact (uuid, path, sha256) VALUES (gen_random_uuid(), %s, sha256(uuid_send("
        "gen_random_uuid()))) RETURNING path_sha256 = text_sha256(path), path_sha256",
        [path],
    ).fetchone()
    assert found == (True, hashlib.sha256(path.encode()).digest())


@given(
    texts=st.tuples(TEXTS, TEXTS, TEXTS, TEXTS),
    env=st.dictionaries(TEXTS, TEXTS, max_size=5),
    inputs=st.lists(
        st.tuples(TEXTS, st.sampled_from([b"", b"a", b"\xff"]).map(lambda b: b.ljust(32, b"\0"))),
        max_size=5,
    ),
    image_sha256=st.none() | st.binary(min_size=32, max_size=32),
)
def test_job_fingerprint_is_what_it_says(
    texts: tuple[str, str, str, str],
    env: dict[str, str],
    inputs: list[tuple[str, bytes]],
    image_sha256: bytes | None,
    connection: Connection,
) -> None:
    files = [f"{digest.hex()}  {path}" for path, digest in inputs]
    found = connection.execute(
        "SELECT job_fingerprint(%s, %s, %s, %s, %s, environment_sha256(%s), %s::text[])",
        [*texts[:3], image_sha256, texts[3], Jsonb(env), files],
    ).fetchone()
    assert found == (fingerprint(*texts, env, inputs, image_sha256),)


@pytest.mark.parametrize("environment", ["null", "[]", '"A"', '{"A": null}', '{"A": 1}'])
def test_what_is_no_environment_is_not_interned(connection: Connection, environment: str) -> None:
    text, _ = Step(query("environment/intern"), {"environments": []}).rendered()
    # An environment whose variables are not there is not added either, but refused by nobody.
    connection.execute("INSERT INTO envvar (name, value) VALUES ('A', '1')")
    with pytest.raises((errors.NotNullViolation, errors.InvalidParameterValue)):
        psycopg.RawCursor(connection).execute(text, [[environment]])


def test_a_tree_of_60000_packages_is_found_by_any_of_them(
    dsn: str, schema: str, connection: Connection
) -> None:
    size = 60_000
    # Each needs the next ten: as a nested document this would have no end.
    nodes = [
        {
            "name": f"package-{place}",
            "version": f"{place}.0",
            "dependencies": [*range(place + 1, min(place + 11, size))],
        }
        for place in range(size)
    ]
    large = uuid7()
    with Store.connect(dsn, schema=schema) as store:
        store.run(create(large, tree={"root": 0, "nodes": nodes}))
        for _ in range(3):
            store.run(create(uuid7()))
    search = "SELECT uuid FROM submit WHERE tree_packages(tree) @> ARRAY[%s]"
    connection.execute("SET enable_seqscan = off")
    plan = connection.execute(
        f"EXPLAIN {search}".encode(), ['"package-59999" "59999.0"']
    ).fetchall()
    assert "submit_tree_packages_idx" in "\n".join(str(line) for (line,) in plan)
    for wanted in ('"package-59999" "59999.0"', '"package-30000"', '"package-0"'):
        assert connection.execute(search.encode(), [wanted]).fetchall() == [(large,)]
    for unwanted in ('"package-60000"', '"package-59999" "1.0"', '"59999.0"', '"package"'):
        assert connection.execute(search.encode(), [unwanted]).fetchall() == []


def test_a_tree_with_the_longest_names_is_found(row: Connection) -> None:
    name, version = "🐘" * 255, "🐁" * 255
    row.execute(
        "UPDATE submit SET tree = %s::jsonb",
        [json.dumps(a_tree(name=name, version=version), ensure_ascii=False)],
    )
    for wanted in (f'"{name}"', f'"{name}" "{version}"'):
        assert row.execute(
            "SELECT count(*) FROM submit WHERE tree_packages(tree) @> ARRAY[%s]", [wanted]
        ).fetchone() == (2,)


def test_the_log_of_a_job_is_both_its_parts(row: Connection) -> None:
    assert row.execute("SELECT job_log(uuid) FROM job ORDER BY state").fetchall() == [
        ("so far",),
        ("",),
    ]
    row.execute(
        "INSERT INTO job_log_chunk SELECT uuid, seq, seq || ';' FROM job, (VALUES (10), (9), (2))"
        " AS t (seq) WHERE state = 'success'"
    )
    row.execute("UPDATE job SET log = 'first;' WHERE state = 'success'")
    assert row.execute("SELECT job_log(uuid) FROM job WHERE state = 'success'").fetchone() == (
        "first;2;9;10;",
    )
    assert row.execute("SELECT job_log(gen_random_uuid())").fetchone() == (None,)


def test_the_views_count_and_name(row: Connection) -> None:
    assert row.execute(
        "SELECT package, version, image, packages_in_tree, jobs_planned, jobs, running, success,"
        " error, lost, reused, duration FROM submit_overview ORDER BY jobs"
    ).fetchall() == [
        ("zlib", "1.3", "debian:12", 2, 0, 0, 0, 0, 0, 0, 1, None),
        ("zlib", "1.3", "debian:12", 2, 0, 2, 1, 1, 0, 0, 0, timedelta(seconds=60)),
    ]
    assert row.execute(
        "SELECT state, package, endpoint, duration, envs, inputs, outputs FROM job_overview"
        " ORDER BY state"
    ).fetchall() == [
        ("running", "zlib", "builder-1", None, 2, 0, 0),
        ("success", "zlib", "builder-1", timedelta(seconds=59), 2, 1, 1),
    ]
    assert row.execute(
        "SELECT path, sha256, job_state, package, used_by FROM artifact_overview ORDER BY path"
    ).fetchall() == [
        ("out", sha256("out").hex(), "success", "zlib", 0),
        ("src", sha256("src").hex(), None, None, 1),
    ]
