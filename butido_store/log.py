"""Logs: bytes to text and back without loss, pieces to append, and butido's line protocol."""

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from uuid import UUID

from butido_store import _check, job
from butido_store._check import decode_log, encode_log, to_bytes
from butido_store._statement import Statement

__all__ = ["LogBuffer", "Outcome", "decode_log", "encode_log", "read_outcome"]

_CHUNK = 64 * 1024  # bytes
_SECONDS = 1.0
# The first bytes of a character whose rest has not arrived: up to three, at the end.
_INCOMPLETE = re.compile(rb"(?:[\xc2-\xdf]|[\xe0-\xef][\x80-\xbf]?|[\xf0-\xf4][\x80-\xbf]{0,2})\Z")
_LINE = re.compile(
    r"#BUTIDO:(?:(?P<ok>STATE:OK)|STATE:ERR:(?P<error>.*)|PROGRESS:(?P<progress>[0-9]{1,18})|PHASE:(?P<phase>.*))"
)


class LogBuffer:
    """Gathers a running job's output, and cuts it into pieces that are worth a round trip each.

    A piece is due at 64 kB or one second after its first byte, whichever is first. The buffer does
    no I/O and has no thread: run what `add` and `flush` return, in that order.
    """

    def __init__(
        self, job_uuid: UUID, *, seq: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start a log.

        :param job_uuid: the running job
        :param seq: place of the first piece; above 0 to go on with a log that was begun
        :param clock: gives seconds that only grow
        """
        self._job = _check.uuid("job_uuid", job_uuid)
        self._seq = _check.count("seq", seq)
        self._clock = _check.function("clock", clock)
        self._pending = bytearray()
        self._since = 0.0

    def add(self, data: bytes | str = b"") -> Statement[None] | None:
        """Take output; return the statement that appends it when a piece is due.

        :param data: output as it came; nothing, to ask only whether a piece is due
        :returns: the statement, or None where no piece is due
        """
        if not self._pending:
            self._since = self._clock()
        self._pending += to_bytes(data)
        due = len(self._pending) >= _CHUNK or self._clock() - self._since >= _SECONDS
        return self._cut(final=False) if due else None

    def flush(self) -> Statement[None] | None:
        """Return the statement that appends all that is left, or None where nothing is."""
        return self._cut(final=True)

    def _cut(self, *, final: bool) -> Statement[None] | None:
        # From the third last byte on: a search of all 64 kB took half as long as to append them.
        kept = None if final else _INCOMPLETE.search(self._pending, max(len(self._pending) - 3, 0))
        end = len(self._pending) if kept is None else kept.start()
        if not end:
            return None
        piece = bytes(self._pending[:end])
        del self._pending[:end]
        self._since = self._clock()
        statement = job.append_log(self._job, seq=self._seq, data=piece)
        self._seq += 1
        return statement


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a log says in butido's line protocol: its last STATE, PROGRESS and PHASE.

    `message` is that of the error; what the log does not say is None.
    """

    success: bool
    message: str | None
    progress: int | None
    phase: str | None


def read_outcome(lines: Iterable[str]) -> Outcome:
    """Read butido's line protocol: the last STATE line wins; none is not success.

    Only lines that start with `#BUTIDO:` at column 0 count, in upper case. The protocol is
    described in the documentation of butido, "Packaging scripts".

    :param lines: the lines of a log, with or without their ends
    :returns: what they say
    :raises InvalidInput: they are no texts
    """
    success, message, progress, phase = False, None, None, None
    for line in _check.each("lines", lines):
        match = _LINE.fullmatch(_check.instance("a line", line, str).rstrip("\r\n"))
        if match is None:
            continue
        if match["ok"]:
            success, message = True, None
        elif match["error"] is not None:
            text = match["error"]
            quoted = len(text) > 1 and text[0] == text[-1] == '"'
            success, message = False, text[1:-1] if quoted else text
        elif match["progress"]:
            progress = int(match["progress"])
        else:
            phase = match["phase"]
    return Outcome(success, message, progress, phase)
