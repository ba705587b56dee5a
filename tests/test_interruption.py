"""Exceptions that come at any moment: a store goes on, and what it wrote is whole."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.any_server

ROUNDS = 1000


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_store_survives_exceptions_at_any_moment(kind: str, dsn: str, schema: str) -> None:
    program = Path(__file__).with_name("interrupted.py")
    ran = subprocess.run(
        [sys.executable, program, kind, dsn, schema, str(ROUNDS)], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    # Else they came too late to be in anybody's way.
    assert int(ran.stdout) > ROUNDS / 10
