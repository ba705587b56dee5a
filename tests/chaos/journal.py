"""A client's journal: each act before it is tried, and what it was told after."""

import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos.writing import Act, Told


class Journal:
    """Lines that are there once they are written, also where the client is killed then."""

    def __init__(self, path: Path) -> None:
        """Write to the end of a file."""
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def close(self) -> None:
        """Write no more."""
        os.close(self._file)

    def begin(self, act: Act) -> float:
        """Note that an act is tried; return when."""
        now = time.monotonic()
        self._line({"begin": act, "at": now})
        return now

    def end(self, act: Act, since: float, **said: object) -> None:
        """Note what came of it: `told`, or the `error` with its kind."""
        now = time.monotonic()
        self._line({"end": act["id"], "at": now, "seconds": now - since, **said})

    def _line(self, value: object) -> None:
        os.write(self._file, json.dumps(value).encode() + b"\n")


# Nothing can be said of an act that ended so: it may have been done. The next attempt will know.
UNKNOWN = ("Unavailable", "Canceled", "ConnectionFailed", "OperationalError", "TimeoutError")


@dataclass
class Outcome:
    """An act, and all that its clients were told of it."""

    act: Act
    # By which attempts it was acknowledged, in the order of time.
    told: list[Told] = field(default_factory=list)
    # The kinds of error, with what they say.
    errors: list[tuple[str, str]] = field(default_factory=list)
    # From the first attempt to the answer, in seconds, without an answer to the last word.
    seconds: float = 0.0
    begun: float = 0.0

    @property
    def refused(self) -> list[tuple[str, str]]:
        """Errors that say that the act was not done."""
        return [error for error in self.errors if error[0] not in UNKNOWN]

    @property
    def acknowledged(self) -> bool:
        """Tell whether a client was told that it was done."""
        return bool(self.told)


def read(paths: Iterable[Path]) -> list[Outcome]:
    """Return what clients of one schema were told, in the order in which acts were tried first."""
    outcomes: dict[str, Outcome] = {}
    for line in _lines(paths):
        if "begin" in line:
            act = line["begin"]
            known = outcomes.setdefault(act["id"], Outcome(act))
            known.begun = known.begun or line["at"]
        else:
            known = outcomes[line["end"]]
            if "error" in line:
                known.errors.append((line["kind"], line["error"]))
            else:
                known.told.append(line["told"])
            known.seconds = max(known.seconds, line["seconds"])
    return list(outcomes.values())


def _lines(paths: Iterable[Path]) -> Iterator[dict[str, Any]]:
    for path in paths:
        for text in path.read_text().splitlines():
            yield json.loads(text)
