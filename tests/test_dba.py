"""A DBA's half hour, from an empty server on: each role does its part and is refused all else."""

import json
from collections.abc import Callable
from datetime import timedelta

import psycopg
import pytest
from filled import LIBRARY, WRITTEN
from samples import TIME, create
from shell import Run
from test_roles import Granted, empty, with_logins

from butido_store import Store, job, release, report, uuid7
from butido_store.errors import PermissionDenied

__all__ = ["empty"]  # the fixture


def test_from_an_empty_server_to_what_each_role_may(empty: Callable[[], Granted], run: Run) -> None:
    granted = empty()

    def migrate(role: str, *arguments: str) -> str:
        options = ["--dsn", granted.login(role), "--schema", granted.schema, "migrate"]
        done = run(*options, *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    # The DBA makes the roles, migrates as the owner, and grants what each needs.
    granted.run()
    with_logins(granted)
    migrate("owner", "apply", "--role", granted.names["owner"])
    granted.done()
    for role in granted.names:
        assert "applied" in migrate(role, "status")
        assert "is what its migrations make" in migrate(role, "check")

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
    options = ["--dsn", granted.login("reader"), "--schema", granted.schema]
    listed = run(*options, "jobs", "--format", "json")
    assert len(json.loads(listed.stdout)) > 3
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
