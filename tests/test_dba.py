"""A DBA's half hour, from an empty server on: each role does its part and is refused all else."""

import json
import re
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from filled import LIBRARY, WRITTEN
from psycopg import sql
from samples import TIME, create
from shell import Run
from test_roles import Granted, empty, with_logins

from butido_store import Store, job, release, report, uuid7
from butido_store.errors import PermissionDenied

__all__ = ["empty"]  # the fixture


def test_from_an_empty_server_to_what_each_role_may(
    empty: Callable[[], Granted], run: Run, tmp_path: Path
) -> None:
    granted = empty()
    with granted.connect() as superuser:
        # As the page for the DBA has it, where the server can.
        superuser.execute("""
            DO $$
            BEGIN
                IF (
                    SELECT 'lz4' = ANY(s.enumvals) FROM pg_settings AS s
                    WHERE s.name = 'default_toast_compression'
                ) THEN
                    EXECUTE format(
                        'ALTER DATABASE %I SET default_toast_compression = lz4', current_database()
                    );
                END IF;
            END
            $$
        """)

    def butido(role: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run("--dsn", granted.login(role), "--schema", granted.schema, *arguments)

    def migrate(role: str, *arguments: str) -> str:
        done = butido(role, "migrate", *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    # The DBA makes the roles, runs as the owner the script that was reviewed, and grants what each
    # needs: all of it in psql.
    granted.run()
    with_logins(granted)
    script = tmp_path / "store.sql"
    script.write_text(run("--schema", granted.schema, "migrate", "sql").stdout, encoding="utf-8")
    owner = sql.Identifier(granted.names["owner"]).as_string()
    applied = granted.run("-c", f"SET ROLE {owner}", "-f", str(script), dsn=granted.login("owner"))
    assert (applied.returncode, applied.stderr) == (0, "")
    granted.done()
    for role in granted.names:
        assert "applied" in migrate(role, "status")
        assert "is what its migrations make" in migrate(role, "check")
        # The server of the tests is fast, and told to be not safe.
        found = json.loads(butido(role, "doctor", "--format", "json").stdout)
        unsafe = {"fsync", "full_page_writes", "synchronous_commit"}
        assert [
            one for one in found if one["verdict"] != "ok" and one["object"] not in unsafe
        ] == []
    assert migrate("owner", "apply", "--role", granted.names["owner"]) == "nothing to apply\n"

    # The builder records; what is released it does not take back, and nothing goes by its hand.
    with Store.connect(granted.login("builder"), schema=granted.schema) as store:
        store.run(*(one for one in WRITTEN if "release/withdraw" not in repr(one)))
        back = release.withdraw(
            store="stable", artifact=LIBRARY, timestamp=TIME, actor="a", reason="wrong"
        )
        with pytest.raises(PermissionDenied, match=r"INSERT ON .*release_withdrawal"):
            store.run(back)
    with granted.connect("builder") as builder:
        assert builder.execute("UPDATE job SET log = '' WHERE state <> 'running'").rowcount == 0
        for refused in ("DELETE FROM job", "UPDATE release SET actor = 'b'", "DROP TABLE job"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                builder.execute(refused.encode())

    # The reader reads, from a shell, too.
    assert len(json.loads(butido("reader", "jobs", "--format", "json").stdout)) > 3
    with Store.connect(granted.login("reader"), schema=granted.schema) as store:
        assert store.run(report.releases())
        with pytest.raises(PermissionDenied, match="lacks INSERT ON"):
            store.run(create(uuid7()))

    # The janitor sweeps, and takes back; it records nothing.
    with Store.connect(granted.login("janitor"), schema=granted.schema) as store:
        assert store.run(job.sweep(silent_for=timedelta(microseconds=1))) != []
        store.run(back)
        with pytest.raises(PermissionDenied, match="lacks INSERT ON"):
            store.run(create(uuid7()))

    # The janitor prunes by its rules, and nobody else does.
    with granted.connect("janitor") as janitor:
        janitor.execute(
            "INSERT INTO retention_rule (position, what, package, state, older_than) "
            "VALUES (1, 'record', '%', 'lost', '0')"
        )
    for role in ("builder", "reader"):
        left = butido(role, "prune")
        assert left.returncode == 1
        assert "schema/roles.sql" in left.stderr
        with granted.connect(role) as other, pytest.raises(psycopg.errors.InsufficientPrivilege):
            other.execute("DELETE FROM retention_rule")
    lost = json.loads(butido("reader", "jobs", "--state", "lost", "--format", "json").stdout)
    assert lost != []
    would = butido("janitor", "prune", "--dry-run").stdout
    assert re.search(rf"^jobs +{len(lost)}$", butido("janitor", "prune").stdout, re.MULTILINE)
    assert re.search(rf"^jobs +{len(lost)}$", would, re.MULTILINE)
    assert butido("reader", "jobs", "--state", "lost", "--format", "json").stdout == "[]\n"
