"""Migration files: what is read of them, and what is refused before any of it is sent."""

from itertools import product
from pathlib import Path

import pytest
from migrating import LOCK_TIMEOUT, NOTES, Directory

from butido_store.admin.header import MODES, Cost, conflicts, said
from butido_store.admin.migrate import shipped
from butido_store.errors import MigrationError


def test_the_order_and_what_is_known_of_each(directory: Directory) -> None:
    directory.table("0010.b", "b", phase="post")
    directory.table("0009.a", "a")
    directory.concurrent("0011.c")
    directory.raw("README.md", "not a migration")
    files = shipped(directory.path)
    assert [(file.id, file.phase, file.transactional) for file in files] == [
        ("0009.a", "pre", True), ("0010.b", "post", True), ("0011.c", "pre", False),
    ]  # fmt: skip
    assert files[0].path == directory.path / "0009.a.sql"
    assert len(files[0].sha256) == 32


def test_a_directory_without_migrations_is_refused(directory: Directory) -> None:
    with pytest.raises(MigrationError, match="holds no migrations"):
        shipped(directory.path)
    with pytest.raises(MigrationError, match="holds no migrations"):
        shipped(directory.path / "none")


@pytest.mark.parametrize(
    ("header", "missing"),
    [
        ("", "a comment that is a sentence"),
        (NOTES, "a comment that is a sentence"),
        ("-- Do it\n--\n" + NOTES, "a comment that is a sentence"),
        ("-- Do it.\n", "no Phase, Locks, Duration, Rollback"),
        ("-- Do it.\n--\n" + NOTES.replace("-- Locks:     none\n", ""), "no Locks"),
        ("-- Do it.\n--\n" + NOTES.replace("instant", ""), "no Duration"),
        ("-- Do it.\n--\n" + NOTES.replace("pre", "later"), "pre or post, not later"),
        ("-- Do it.\n--\n" + NOTES.replace("Locks", "Lock"), "no such field"),
        ("-- Do it.\n--\n" + NOTES + "-- Locks: none\n", "Locks twice"),
        ("-- Do it.\n--\n" + NOTES.replace("none", "SHARE on t; EXCLUSIVE on t"), "each table"),
        ("-- Do it.\n--\n" + NOTES.replace("none", "SHARED on t"), "'SHARED on t' is not"),
        ("-- Do it.\n--\n" + NOTES.replace("none", "none, it creates"), "Locks is none, or"),
        ("-- Do it.\n--\n" + NOTES.replace("(a test)", "(a test) or so"), "has to end"),
        ("-- Do it.\n--\n" + NOTES.replace("instant", "fast"), "Duration is instant, or"),
        ("-- Do it.\n--\n" + NOTES.replace("instant", "41 s on 10 M jobs"), "not 41 s on"),
        ("-- Do it.\n--\n" + NOTES.replace("lossless", "lossless, mostly"), "not lossless, mo"),
        ("-- Do it.\n-- transactional: no\n--\n" + NOTES, "true or false, not no"),
    ],
)
def test_headers_that_lack_something(directory: Directory, header: str, missing: str) -> None:
    directory.table("0001.fruit", "fruit")
    directory.raw("0001.fruit.sql", f"{header}\n{LOCK_TIMEOUT}")
    with pytest.raises(MigrationError, match=rf"0001\.fruit\.sql: .*{missing}"):
        shipped(directory.path)


def test_what_a_header_says(directory: Directory) -> None:
    notes = """\
-- Phase:     post (nothing older runs)
-- Locks:     ACCESS EXCLUSIVE on job, submit; SHARE on artifact (so writers of
--            artifacts wait)
-- Duration:  rewrites job; scans artifact, submit; 1.5 min and 300 MB of WAL on 10 M jobs (how)
-- Rollback:  loses job.note
"""
    directory.table("0001.fruit", "fruit")
    directory.raw("0001.fruit.sql", f"-- Do it.\n--\n{notes}\n{LOCK_TIMEOUT}")
    header = shipped(directory.path)[0].header
    assert (header.phase, header.rollback, header.lossless) == ("post", "loses job.note", False)
    assert header.locks == {
        "job": "ACCESS EXCLUSIVE", "submit": "ACCESS EXCLUSIVE", "artifact": "SHARE",
    }  # fmt: skip
    assert said(header.locks) == "ACCESS EXCLUSIVE on job, submit; SHARE on artifact"
    assert header.scans == {"artifact", "submit"}
    assert header.rewrites == {"job"}
    assert header.cost == Cost(90, 300e6, 10e6)


def test_locks_conflict_both_ways() -> None:
    for one, other in product(MODES, MODES):
        assert (one in conflicts(other)) == (other in conflicts(one))
        # A stronger one leaves no more beside it.
        assert MODES.index(one) > MODES.index(other) or len(conflicts(one)) <= len(conflicts(other))


def test_a_missing_rollback_is_refused(directory: Directory) -> None:
    directory.table("0001.fruit", "fruit")
    (directory.path / "0001.fruit.rollback.sql").unlink()
    with pytest.raises(MigrationError, match=r"there is no 0001\.fruit\.rollback\.sql"):
        shipped(directory.path)


@pytest.mark.parametrize(
    "statement",
    [
        "COMMIT", "commit and chain", "BEGIN", "START TRANSACTION", "END", "ROLLBACK", "ABORT",
        "SAVEPOINT a", "RELEASE a", "PREPARE TRANSACTION 'x'", "/* */ COMMIT -- x", "COMMIT\n",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN a THEN 1 END; END; COMMIT",
    ],
)  # fmt: skip
def test_a_file_that_leaves_its_transaction_is_refused(
    directory: Directory, statement: str
) -> None:
    directory.add("0001.t", f"SELECT 1;\n{statement};", "SELECT 1;")
    with pytest.raises(MigrationError, match=r"0001\.t\.sql:\d+: .* breaks the one transaction"):
        shipped(directory.path)
    directory.add("0001.t", "SELECT 1;", f"SELECT 1;\n{statement};")
    with pytest.raises(MigrationError, match=r"0001\.t\.rollback\.sql:\d+: "):
        shipped(directory.path)


@pytest.mark.parametrize(
    ("sql", "problem"),
    [
        ("SELECT 1;\n\\i other.sql\n", r"sql:\d+: \\i other.sql is psql's"),
        ("SELECT 'open;", r"sql:\d+: a quoted string is not closed"),
        ("SELECT 1; /* /* */", r"sql:\d+: a comment is not closed"),
        ("CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1;", "ATOMIC has no END"),
        ("SELECT 1;\0DROP TABLE t;", "NUL"),
    ],
)
def test_text_that_cannot_be_sent_whole_is_refused(
    directory: Directory, sql: str, problem: str
) -> None:
    directory.add("0001.t", sql, "SELECT 1;")
    with pytest.raises(MigrationError, match=problem):
        shipped(directory.path)


def test_text_that_is_not_utf8_is_refused(directory: Directory) -> None:
    directory.table("0001.t", "t")
    (directory.path / "0001.t.sql").write_bytes(b"-- Caf\xe9.\n")
    with pytest.raises(MigrationError, match=r"0001\.t\.sql cannot be read"):
        shipped(directory.path)


@pytest.mark.parametrize("which", ["0001.t.sql", "0001.t.rollback.sql"])
def test_a_file_without_lock_timeout_is_refused(directory: Directory, which: str) -> None:
    directory.table("0001.t", "t")
    path = directory.path / which
    text = path.read_text()
    for without in ("", LOCK_TIMEOUT.replace("150ms", "151ms"), LOCK_TIMEOUT.replace("ms", "s")):
        path.write_text(text.replace(LOCK_TIMEOUT, without))
        with pytest.raises(MigrationError, match=rf"{which}: .*SET LOCAL lock_timeout"):
            shipped(directory.path)


@pytest.mark.parametrize(
    "name", ["1.t.sql", "0001.sql", "0001_t.sql", "0002.t.py", "post-apply.sql", "0001.T.sql"]
)
def test_odd_file_names_are_refused(directory: Directory, name: str) -> None:
    directory.raw(name, "")
    with pytest.raises(MigrationError, match=r"called NNNN\.short-name\.sql"):
        shipped(directory.path)


def test_a_number_used_twice_is_refused(directory: Directory) -> None:
    directory.table("0001.a", "a")
    directory.table("0001.b", "b")
    with pytest.raises(MigrationError, match=r"0001\.b\.sql: 0001\.a has this number already"):
        shipped(directory.path)
    directory.raw("0001.a.py", "")
    with pytest.raises(MigrationError, match=r"0001\.a twice"):
        shipped(directory.path)


def test_dependencies_that_cannot_be_met_are_refused(directory: Directory, tmp_path: Path) -> None:
    elsewhere = Directory(tmp_path / "elsewhere")
    elsewhere.table("0001.a", "a")
    shipped(elsewhere.path)
    directory.table("0002.b", "b", directives="-- depends: 0001.a\n")
    with pytest.raises(MigrationError, match=r"0002\.b\.sql: depends on 0001\.a, which is not"):
        shipped(directory.path)
    directory.table("0001.a", "a", directives="-- depends: 0002.b\n")
    with pytest.raises(MigrationError, match=r"depends in a circle: \['0001\.a', '0002\.b'\]"):
        shipped(directory.path)


@pytest.mark.parametrize(
    ("sql", "rollback"),
    [
        ("CREATE INDEX i ON t (a);", "DROP INDEX CONCURRENTLY IF EXISTS i;"),
        ("CREATE INDEX CONCURRENTLY ON t (a);", "DROP INDEX CONCURRENTLY IF EXISTS i;"),
        (
            "CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON t (a);",
            "DROP INDEX CONCURRENTLY IF EXISTS i;",
        ),
        ("CREATE INDEX CONCURRENTLY i ON t (a);", "DROP INDEX CONCURRENTLY i;"),
        ("CREATE INDEX CONCURRENTLY i ON t (a);", "DROP INDEX CONCURRENTLY IF EXISTS j;"),
        ("CREATE INDEX CONCURRENTLY i ON t (a);", "DROP INDEX CONCURRENTLY IF EXISTS i, j;"),
        ("CREATE INDEX CONCURRENTLY i ON t (a);", ""),
        ("CREATE INDEX CONCURRENTLY i ON t (a); DROP INDEX CONCURRENTLY IF EXISTS i;", ""),
        ("", ""),
        ("VACUUM;", "SELECT 1;"),
        (
            "CREATE INDEX CONCURRENTLY i ON t (a); SELECT 1;",
            "DROP INDEX CONCURRENTLY IF EXISTS i;",
        ),
        ("DROP INDEX CONCURRENTLY IF EXISTS i;", "DROP INDEX CONCURRENTLY IF EXISTS i;"),
        ("ALTER TYPE t ADD VALUE 'x';", "SELECT 1;"),
    ],
)
def test_not_transactional_is_for_one_index_only(
    directory: Directory, sql: str, rollback: str
) -> None:
    directory.add("0001.t", sql, rollback, transactional=False)
    with pytest.raises(MigrationError, match=r"0001\.t\.sql: .*not transactional holds one"):
        shipped(directory.path)
