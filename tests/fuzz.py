"""Seek inputs that reach code which none reached before, and hold properties against them.

Run it with `./dev fuzz`: each property for a minute, or for --seconds. What broke one is kept in a
file that is named, and tried again with `./dev fuzz PROPERTY FILE`.
"""

import argparse
import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["butido_store"]):
    from test_fuzz import (
        test_any_text_that_a_log_can_have_is_read_as_bytes_that_are_kept,
        test_the_line_protocol_is_read_alike_by_a_second_reader,
    )
    from test_log import test_any_str_is_taken, test_nothing_is_lost_or_altered

    from butido_store._query import parse
    from butido_store.errors import QueryFileError


def _property(test: Callable[..., None], **given: object) -> None:
    """Hold a property of hypothesis against values that are not of its making."""
    test.hypothesis.inner_test(**given)  # type: ignore[attr-defined]


def _pieces(data: bytes) -> None:
    provider = atheris.FuzzedDataProvider(data)
    pieces, ticks = list[bytes](), list[float]()
    while provider.remaining_bytes():
        ticks.append(provider.ConsumeFloatInRange(0, 2))
        pieces.append(provider.ConsumeBytes(provider.ConsumeIntInRange(0, 16)))
    _property(test_nothing_is_lost_or_altered, pieces=pieces, ticks=ticks)


def _text(data: bytes) -> None:
    text = data.decode(errors="ignore").replace("\0", "")
    _property(test_any_text_that_a_log_can_have_is_read_as_bytes_that_are_kept, text=text)


def _str(data: bytes) -> None:
    # Halves of characters, too.
    _property(test_any_str_is_taken, text=data.decode(errors="surrogateescape"))


def _lines(data: bytes) -> None:
    lines = data.decode(errors="replace").splitlines(keepends=True)
    _property(test_the_line_protocol_is_read_alike_by_a_second_reader, lines=lines)


def _file(data: bytes) -> None:
    """Any text is read as a query file, or refused."""
    with suppress(QueryFileError):
        parse("fuzz/file", data.decode(errors="replace"), Path("fuzz/file.sql"))


PROPERTIES = {"pieces": _pieces, "text": _text, "str": _str, "lines": _lines, "file": _file}


def main() -> int:
    """Try what is asked for; return 1 where a property is broken."""
    parser = argparse.ArgumentParser(prog="./dev fuzz", description=__doc__)
    parser.add_argument("property", nargs="?", choices=PROPERTIES)
    parser.add_argument("file", nargs="?", help="only what this file says")
    parser.add_argument("--seconds", type=int, default=60, help="for each property")
    parser.add_argument("--seed", type=int, default=random.randrange(2**31))
    given = parser.parse_args()
    # libFuzzer ends its process when it is done.
    if given.property:
        how = [given.file] if given.file else [f"-max_total_time={given.seconds}", "-verbosity=0"]
        atheris.Setup([sys.argv[0], f"-seed={given.seed}", *how], PROPERTIES[given.property])
        atheris.Fuzz()
    broken = []
    for name in PROPERTIES:
        print(f"{name}, seed {given.seed}", flush=True)
        options = [f"--seconds={given.seconds}", f"--seed={given.seed}"]
        if subprocess.run([sys.executable, __file__, name, *options]).returncode:
            broken.append(name)
    print(f"broken: {', '.join(broken) or 'none'}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
