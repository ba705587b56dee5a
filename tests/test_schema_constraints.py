"""The schema's constraints: what must not be is refused by name, and what may be is taken."""

import json
from uuid import UUID

import psycopg
import pytest
from psycopg import errors, sql
from rows import NODE, a_tree
from samples import buildplan, tree

from butido_store import uuid7

Connection = psycopg.Connection[tuple[object, ...]]


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        # State, end and log of a job go together.
        ("UPDATE job SET state = 'done' WHERE state = 'success'", "job_state_check"),
        ("UPDATE job SET state = '' WHERE state = 'success'", "job_state_check"),
        ("UPDATE job SET finished_at = NULL WHERE state = 'success'", "job_check"),
        ("UPDATE job SET state = 'lost' WHERE state = 'running'", "job_finished_at_check"),
        ("UPDATE job SET finished_at = now() WHERE state = 'running'", "job_finished_at_check"),
        ("UPDATE job SET state = 'lost', log = '' WHERE state = 'running'", "job_check"),
        ("UPDATE job SET log_size = NULL WHERE state = 'success'", "job_log_size_check"),
        *(
            (f"UPDATE job SET {column} = '{value}' WHERE state = 'running'", "job_check")
            for column, value in (
                ("log", ""),
                ("exit_code", 0),
                ("reason", "x"),
                ("measurements", "{}"),
            )
        ),
        ("UPDATE job SET log_size = 0 WHERE state = 'running'", "job_log_size_check"),
        ("UPDATE job SET log_size = -1 WHERE state = 'success'", "nonnegative_check"),
        ("UPDATE job SET reason = '' WHERE state = 'success'", "nonempty_text_check"),
        ("UPDATE job SET failure = 'x' WHERE state = 'success'", "job_failure_check"),
        ("UPDATE job SET failure_rule = 1 WHERE state = 'success'", "job_failure_check"),
        ("UPDATE job SET fingerprint = '\\x00'", "digest_check"),
        ("UPDATE job SET container_hash = ''", "short_text_check"),
        ("UPDATE job_log_chunk SET seq = -1", "nonnegative_check"),
        # Content of artifacts
        ("UPDATE artifact SET sha256 = decode(repeat('00', 31), 'hex')", "digest_check"),
        ("UPDATE artifact SET sha256 = decode(repeat('00', 33), 'hex')", "digest_check"),
        ("UPDATE artifact SET size = -1", "nonnegative_check"),
        ("UPDATE artifact SET path = ''", "relative_path_check"),
        # Shared values
        ("INSERT INTO envvar (name, value) VALUES ('A=B', '')", "envvar_name_check"),
        ("INSERT INTO envvar (name, value) VALUES ('=', '')", "envvar_name_check"),
        ("INSERT INTO envvar (name, value) VALUES ('', '')", "envvar_name_check"),
        ("INSERT INTO envvar (name, value) VALUES (repeat('a', 256), '')", "envvar_name_check"),
        (
            "INSERT INTO envvar (name, value, value_hmac) VALUES ('A', 'x', sha256(''))",
            "envvar_check",
        ),
        (
            "INSERT INTO envvar (name, value, value_hmac) VALUES ('A', '<redacted>', '')",
            "digest_check",
        ),
        ("INSERT INTO git_hash (hash) VALUES ('c0ffee')", "git_hash_hash_check"),
        ("INSERT INTO git_hash (hash) VALUES (repeat('A', 40))", "git_hash_hash_check"),
        ("INSERT INTO git_hash (hash) VALUES (repeat('a', 40) || chr(10))", "git_hash_hash_check"),
        ("INSERT INTO git_hash (hash) VALUES (repeat('a', 63))", "git_hash_hash_check"),
        ("INSERT INTO package (name, version) VALUES ('', '1')", "package_name_check"),
        ("INSERT INTO package (name, version) VALUES ('a', '')", "package_version_check"),
        (
            "INSERT INTO package (name, version) VALUES (repeat('a', 256), '1')",
            "package_name_check",
        ),
        ("INSERT INTO image (name) VALUES ('')", "image_name_check"),
        ("INSERT INTO image (name) VALUES (repeat('a', 513))", "image_name_check"),
        ("INSERT INTO endpoint (name) VALUES ('')", "endpoint_name_check"),
        # What comes once
        (
            "INSERT INTO envvar (name, value) SELECT name, value FROM envvar",
            "envvar_name_value_sha2",
        ),
        (
            "INSERT INTO envvar (name, value, value_hmac)"
            " VALUES ('A', '<redacted>', sha256('')), ('A', '<redacted>', sha256(''))",
            "envvar_name_value_sha2",
        ),
        ("INSERT INTO image (name) SELECT name FROM image", "image_name_key"),
        (
            "INSERT INTO artifact (uuid, path, sha256, size)"
            " SELECT gen_random_uuid(), path, sha256, 0 FROM artifact WHERE job_uuid IS NULL",
            "artifact_path_sha256_sha256_idx",
        ),
        (
            "INSERT INTO artifact (uuid, job_uuid, path, sha256, size)"
            " SELECT gen_random_uuid(), job_uuid, path, sha256(''), 0 FROM artifact",
            "artifact_job_uuid_path_sha256_key",
        ),
        ("UPDATE job SET swept_by = gen_random_uuid() WHERE state = 'success'", "job_swept_by_ch"),
        *(
            (
                f"UPDATE job SET measurements = '{document}' WHERE state = 'success'",
                "measurements_check",
            )
            for document in (
                *("[]", '{"a": "1"}', '{"a": 1, "b": null}', '{"a": [1]}', '{"a": {"b": 1}}'),
                *('{"a": 1e309}', '{"a": 1e-400}'),
            )
        ),
        *(
            (f"UPDATE artifact SET path = '{path}'", "relative_path_check")
            for path in ("", "/", "/a", "..", "../a", "a/..", "a/../b", "a//../b")
        ),
        # Done once
        ("UPDATE job SET claim = -1", "nonnegative_check"),
        ("UPDATE job SET claim = 0, fingerprint = NULL", "job_claim_check"),
        (
            "UPDATE job SET claim = 0, fingerprint = sha256('') WHERE state <> 'lost'",
            "job_fingerprint_claim_idx",
        ),
        # What others refer to
        ("DELETE FROM submit", "_submit_uuid_fkey"),
        ("DELETE FROM job", "_job_uuid_fkey"),
        ("DELETE FROM artifact", "_artifact_uuid_fkey"),
        ("DELETE FROM envvar", "_envvar_id_fkey"),
        ("DELETE FROM image", "_image_id_fkey"),
        ("DELETE FROM package", "_package_id_fkey"),
        ("DELETE FROM endpoint", "_endpoint_id_fkey"),
        ("DELETE FROM git_hash", "_repo_hash_id_fkey"),
    ],
)
def test_what_must_not_be_is_refused(row: Connection, statement: str, constraint: str) -> None:
    with pytest.raises(errors.IntegrityError) as caught:
        row.execute(statement.encode())
    assert constraint in (caught.value.diag.constraint_name or "")


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO envvar (name, value) SELECT name, value || '=' FROM envvar",
        "INSERT INTO envvar (name, value) VALUES (repeat('ü', 255), repeat('é', 100000))",
        "INSERT INTO envvar (name, value, value_hmac) VALUES ('A', '<redacted>', NULL),"
        " ('A', '<redacted>', sha256('')), ('A', '<redacted>', sha256('x')),"
        " ('B', '<redacted>', sha256(''))",
        "INSERT INTO git_hash (hash) VALUES (repeat('a', 64))",
        "INSERT INTO image (name) VALUES (repeat('🐘', 512))",
        "INSERT INTO package (name, version) VALUES (repeat('🐘', 255), repeat('🐘', 255))",
        "UPDATE artifact SET path = repeat('🐘', 100000), size = 9223372036854775807"
        " WHERE job_uuid IS NOT NULL",
        *(
            f"UPDATE artifact SET path = '{path}' WHERE job_uuid IS NOT NULL"
            for path in ("a", "...", "..a", "a..", "a/..b/c..", "a//b", ".", "a/", " ")
        ),
        # The same path with other content, from outside; and the same content at another path.
        "INSERT INTO artifact (uuid, path, sha256, size)"
        " SELECT gen_random_uuid(), path, sha256(''), 0 FROM artifact",
        "INSERT INTO artifact (uuid, job_uuid, path, sha256, size)"
        " SELECT gen_random_uuid(), job_uuid, path || '2', sha256, 0 FROM artifact",
        "UPDATE job SET state = 'lost' WHERE state = 'success'",
        "UPDATE job SET claim = (state = 'running')::int, fingerprint = sha256('')",
        "UPDATE job SET state = 'lost', swept_by = uuid WHERE state = 'success'",
        'UPDATE job SET measurements = \'{"a": 0, "b": -1.5, "c": 1e308}\' WHERE log IS NOT NULL',
    ],
)
def test_what_may_be_is_taken(row: Connection, statement: str) -> None:
    assert row.execute(statement.encode()).rowcount > 0


@pytest.mark.parametrize(
    ("document", "valid"),
    [
        (a_tree(), True),
        (a_tree(dependencies=[0]), True),
        (a_tree(more={"x": [1]}) | {"more": None}, True),
        (tree("a", "b", "c"), True),
        ({"root": 1, "nodes": [NODE, NODE]}, True),
        ({"root": 0, "nodes": []}, False),
        ({"root": 1, "nodes": [NODE]}, False),
        ({"root": -1, "nodes": [NODE]}, False),
        ({"root": 0.5, "nodes": [NODE]}, False),
        ({"root": "0", "nodes": [NODE]}, False),
        ({"root": None, "nodes": [NODE]}, False),
        ({"root": [0], "nodes": [NODE]}, False),
        ({"nodes": [NODE]}, False),
        ({"root": 0}, False),
        ({"root": 0, "nodes": NODE}, False),
        ({"root": 0, "nodes": None}, False),
        ({"root": 0, "nodes": [NODE, 1]}, False),
        ({"root": 0, "nodes": [[NODE]]}, False),
        (a_tree(name=1), False),
        (a_tree(name=None), False),
        (a_tree(version=1), False),
        (a_tree(dependencies=None), False),
        (a_tree(dependencies={}), False),
        (a_tree(dependencies=[1]), False),
        (a_tree(dependencies=[0, 0, 1]), False),
        (a_tree(dependencies=[0, "0"]), False),
        (a_tree(dependencies=[None]), False),
        (a_tree(dependencies=[-1]), False),
        (a_tree(dependencies=[0.5]), False),
        (a_tree(dependencies=["0"]), False),
        (a_tree(dependencies=[[0]]), False),
        ({"root": 0, "nodes": [{"name": "a", "version": "1"}]}, False),
        ({"root": 0, "nodes": [{"name": "a", "dependencies": []}]}, False),
        ({"root": 0, "nodes": [{"version": "1", "dependencies": []}]}, False),
        ([], False),
        ({}, False),
        (None, False),
        ("", False),
    ],
)
def test_a_tree_has_its_outline(row: Connection, document: object, valid: bool) -> None:
    _try(row, "tree", document, valid)


PLANNED: dict[str, object] = {"uuid": str(UUID(int=1)), "package": "a", "version": "1", "needs": []}


@pytest.mark.parametrize(
    ("document", "valid"),
    [
        ({"jobs": []}, True),
        ({"jobs": [PLANNED]}, True),
        ({"jobs": [PLANNED | {"needs": [str(UUID(int=2))], "more": 1}], "more": 1}, True),
        (buildplan(uuid7(), uuid7()), True),
        ({}, False),
        (None, False),
        ([PLANNED], False),
        ({"jobs": None}, False),
        ({"jobs": PLANNED}, False),
        ({"jobs": [PLANNED, 1]}, False),
        ({"jobs": [[PLANNED]]}, False),
        ({"jobs": [PLANNED | {"uuid": 1}]}, False),
        ({"jobs": [PLANNED | {"uuid": "1"}]}, False),
        ({"jobs": [PLANNED | {"uuid": str(UUID(int=1)) + "0"}]}, False),
        ({"jobs": [PLANNED, PLANNED | {"uuid": [str(UUID(int=1))]}]}, False),
        ({"jobs": [PLANNED | {"uuid": str(UUID(int=10)).upper()}]}, False),
        ({"jobs": [PLANNED | {"uuid": str(UUID(int=1)) + "\n"}]}, False),
        ({"jobs": [PLANNED | {"package": 1}]}, False),
        ({"jobs": [PLANNED | {"version": None}]}, False),
        ({"jobs": [PLANNED | {"needs": None}]}, False),
        ({"jobs": [PLANNED | {"needs": "x"}]}, False),
        ({"jobs": [PLANNED | {"needs": [1]}]}, False),
        ({"jobs": [PLANNED | {"needs": [[str(UUID(int=1))]]}]}, False),
        *(({"jobs": [{k: v for k, v in PLANNED.items() if k != key}]}, False) for key in PLANNED),
    ],
)
def test_a_buildplan_has_its_outline(row: Connection, document: object, valid: bool) -> None:
    _try(row, "buildplan", document, valid)


def _try(row: Connection, column: str, document: object, valid: bool) -> None:
    """Store a document, or see it refused."""
    statement = sql.SQL("UPDATE submit SET {} = {}::jsonb").format(
        sql.Identifier(column), json.dumps(document)
    )
    if valid:
        assert row.execute(statement).rowcount == 2
    else:
        with pytest.raises(errors.CheckViolation) as caught:
            row.execute(statement)
        assert caught.value.diag.constraint_name == f"submit_{column}_check"
