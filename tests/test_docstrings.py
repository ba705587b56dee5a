"""Docstrings tell what a caller has to know, and `help` shows what is called."""

import inspect
import pydoc
import re
import subprocess
import sys
from typing import Any, get_args

import pytest
from test_bad_input import TAKEN, public

from butido_store import AsyncStore, Store

OPENINGS = [(kind, name) for kind in (Store, AsyncStore) for name in ("connect", "pooled")]
# What reports refuse, their module says; of a dataclass the fields are the parameters.
DOCUMENTED = [name for name in TAKEN if not name.startswith(("report.", "artifact.Output"))]


@pytest.mark.parametrize(("kind", "name"), OPENINGS)
def test_help_shows_how_a_store_is_opened(kind: Any, name: str) -> None:
    shown = inspect.signature(getattr(kind, name))
    assert "cls" not in shown.parameters
    gives = shown.return_annotation
    assert str((get_args(gives) or [gives])[0]) == "typing.Self"
    assert ("Opening" in str(gives)) == (kind is AsyncStore)
    whole = pydoc.plain(pydoc.render_doc(kind))
    assert "AnyBody" not in whole
    _, methods = whole.split("Class methods defined here:")
    # Newer versions of Python have each parameter on a line of its own.
    assert re.search(rf"{name}\(\W*dsn: str \| None = None,\W*schema: str = 'butido'", methods)


def test_all_that_is_public_is_named_before_it_is_asked_for() -> None:
    ask = "import butido_store as b; print(*sorted({*b.__all__} - {*dir(b)}))"
    asked = [sys.executable, "-c", ask]
    assert subprocess.run(asked, stdout=subprocess.PIPE, check=True).stdout.strip() == b""


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_docstring_names_parameters_and_says_that_they_are_checked(name: str) -> None:
    function: Any = public(name)
    is_class = isinstance(function, type)
    text = inspect.getdoc(function.__init__ if is_class else function) or ""
    named = set(re.findall(r"^:param (\w+):", text, re.MULTILINE))
    assert named == {*inspect.signature(function).parameters}
    assert re.search(r"^:raises InvalidInput: at once", text, re.MULTILINE)
