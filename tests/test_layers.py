"""What each module imports: arrows run down only, from the command line to the library's core."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "butido_store"
# What is not named here is the library.
LAYERS: dict[str, int] = {
    "butido_store._check": 0,
    "butido_store._conversation": 0,
    "butido_store._query": 0,
    "butido_store._secrets": 0,
    "butido_store._statement": 0,
    "butido_store.errors": 0,
    "butido_store.admin": 2,
    "butido_store.cli": 3,
    "butido_store.__main__": 3,
}


def modules() -> dict[str, Path]:
    """Return the file of each module of the package."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield what is run of a module: functions too, not what is for type checkers alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from nodes(node)


def imports(source: str) -> set[str]:
    """Return the modules of the package that a module imports."""
    known, found = modules(), set()
    for node in nodes(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module, "a relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            # What is no module of its own is in the one before it.
            found |= {name if name in known else node.module for name in names}
    return found & known.keys()


def layer(module: str) -> int:
    """Return how far up a module stands."""
    return next((at for name, at in LAYERS.items() if f"{module}.".startswith(f"{name}.")), 1)


def upward(module: str, source: str) -> set[str]:
    """Return what a module imports of the layers above its own."""
    return {name for name in imports(source) if layer(name) > layer(module)}


@pytest.mark.parametrize("module", modules())
def test_no_arrow_runs_up(module: str) -> None:
    assert upward(module, modules()[module].read_text()) == set()


def test_no_arrow_comes_back() -> None:
    graph = {module: imports(path.read_text()) for module, path in modules().items()}
    assert {*TopologicalSorter(graph).static_order()} == graph.keys()


@pytest.mark.parametrize(
    ("module", "source", "found"),
    [
        ("job", "from butido_store.admin.migrate import ZERO", {"butido_store.admin.migrate"}),
        ("job", "from butido_store.admin import migrate", {"butido_store.admin.migrate"}),
        ("job", "import butido_store.cli.main as m", {"butido_store.cli.main"}),
        ("job", "def f():\n    from butido_store.cli import main", {"butido_store.cli.main"}),
        ("_query", "from butido_store import job", {"butido_store.job"}),
        ("_query", "from butido_store import Store", {"butido_store"}),
        ("admin.migrate", "from butido_store.cli import output", {"butido_store.cli.output"}),
        ("job", "if TYPE_CHECKING:\n    from butido_store.cli import main", set()),
        ("cli.main", "from butido_store.admin import migrate", set()),
        ("job", "from butido_store import _query, errors", set()),
    ],
)
def test_an_arrow_that_runs_up_is_found(module: str, source: str, found: set[str]) -> None:
    assert upward(f"butido_store.{module}", source) == found
