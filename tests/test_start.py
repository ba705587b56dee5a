"""What the command line loads before it knows what is asked of it."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.any_server

# Each takes longer to import than a tenth of what psycopg and click take together, or leads to
# what does; only the command that needs it may load it.
_HEAVY = {"butido_store.admin.migrate", "butido_store.embedded", "butido_store.report"}
_HEAVY |= {"rich", "yoyo"}
_SCRIPT = """
import sys
from butido_store.cli.main import main
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["migrate", "--help"]])
def test_a_start_loads_nothing_heavy(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, *arguments], capture_output=True, text=True, check=True
    )
    loaded = set(done.stderr.split())
    assert "psycopg" in loaded
    assert loaded & _HEAVY == set()


def test_the_package_has_its_reports_all_the_same() -> None:
    script = "import butido_store as b; print(b.report.jobs.__name__, hasattr(b, 'nonsense'))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "jobs False\n"
