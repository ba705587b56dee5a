"""Where the SQL files are, in a wheel, an sdist and an editable install alike."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def directory(name: str) -> Path:
    """Return the directory of shipped files called `name`.

    A wheel carries the directories inside the package; a checkout has them beside it.

    :param name: `schema`, `sql` or `examples`
    :raises FileNotFoundError: the installation lacks the directory
    """
    for parent in (_PACKAGE, _PACKAGE.parent):
        found = parent / name
        if found.is_dir():
            return found
    raise FileNotFoundError(f"the installation of butido_store has no directory {name!r}")
