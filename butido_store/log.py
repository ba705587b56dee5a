"""Logs: bytes to text and back without loss, pieces to append and follow, butido's protocol."""

import re
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Generic
from uuid import UUID

from butido_store import _check, job
from butido_store._check import decode_log, encode_log, to_bytes
from butido_store._connection import AWAITING, BLOCKING, Way, each_at_once
from butido_store._pipeline import done
from butido_store._statement import Statement
from butido_store.store import AnyStore, AsyncStore, Store, any_store, of_kind

__all__ = [
    "Following",
    "LogBuffer",
    "Outcome",
    "decode_log",
    "encode_log",
    "follow",
    "read_outcome",
]

_FOLLOW_EVERY = 0.25  # seconds
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
    no I/O and has no thread: run what `add` and `flush` return, in that order. `butido_store.build`
    has one, and asks it in time.
    """

    def __init__(
        self, job_uuid: UUID, *, seq: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start a log.

        :param job_uuid: the running job
        :param seq: place of the first piece; above 0 to go on with a log that was begun
        :param clock: gives seconds that only grow
        :raises InvalidInput: at once, when one of them is something else
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
        :raises InvalidInput: at once, when it is neither bytes nor str
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
        statement = job.append_log(self._job, seq=self._seq, data=bytes(self._pending[:end]))
        # First of all: what an interruption loses here leaves a gap, which the store refuses.
        self._seq += 1
        del self._pending[:end]
        self._since = self._clock()
        return statement


def follow(
    store: AnyStore, uuid: UUID, *, every: float = _FOLLOW_EVERY, wait: bool = True
) -> "Following[AnyStore]":
    """Give what a job writes to its log, a piece of text at a time, until the job has ended.

    With a `Store` it is for a `for` loop, with an `AsyncStore` for `async for`. Between pieces it
    holds nothing; it waits for a server that is away as long as the store does.

    :param store: asked again and again
    :param uuid: the job's uuid; one that has ended gives its whole log
    :param every: how many seconds to wait before it is asked again
    :param wait: go on until the job has ended; False for what there is, which of a log of any
        length takes the memory of a piece of it
    :returns: texts, escaped as the log is; they end where a piece was cut, not where a line ends
    :raises InvalidInput: at once, when one of them is something else
    :raises NotFound: while iterating, if there is no such job
    :raises LogRemoved: while iterating, if it has ended and its log was removed
    :raises StoreError: while iterating, when the database fails
    """
    return Following(
        any_store(store),
        _check.uuid("uuid", uuid),
        _check.seconds("every", every),
        _check.instance("wait", wait, bool),
    )


class Following(Generic[AnyStore]):
    """A log that is being followed: each loop over it begins at the log's first piece."""

    def __init__(self, store: AnyStore, uuid: UUID, every: float, wait: bool) -> None:
        """Do as `follow` says."""
        self._store: AnyStore = store
        self._job = uuid
        self._every = every
        self._wait = wait

    def __iter__(self: "Following[Store]") -> Generator[str, None, None]:
        """Follow it from its beginning."""
        of_kind(self._store, Store, "async for")
        return each_at_once(self._pieces(BLOCKING))

    def __aiter__(self: "Following[AsyncStore]") -> AsyncGenerator[str, None]:
        """Follow it from its beginning."""
        of_kind(self._store, AsyncStore, "for")
        return self._pieces(AWAITING)

    async def _pieces(self, way: Way) -> AsyncGenerator[str, None]:
        after, characters = None, 0
        while True:
            ask = job.log_after(self._job, after=after, characters=characters)
            piece: job.LogPiece = await done(self._store.run(ask))
            if piece.text:
                yield piece.text
            characters += len(piece.text)
            if piece.seq is not None:
                after = piece.seq
            elif piece.state != "running" or not self._wait:
                return
            if piece.state == "running" and self._wait:
                await done(way.sleep(self._every))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a log says in butido's line protocol: its last STATE, PROGRESS and PHASE.

    `reason` is the message of the error, as `finish` of a job takes it; what the log does not say
    is None.
    """

    success: bool
    reason: str | None
    progress: int | None
    phase: str | None


def read_outcome(lines: Iterable[str]) -> Outcome:
    """Read butido's line protocol: the last STATE line wins; none is not success.

    Only lines that start with `#BUTIDO:` at column 0 count, in upper case. The protocol is
    described in the documentation of butido, "Packaging scripts".

    :param lines: the lines of a log, with or without their ends
    :returns: what they say
    :raises InvalidInput: at once, when they are no texts
    """
    success, reason, progress, phase = False, None, None, None
    for line in _check.each("lines", lines):
        match = _LINE.fullmatch(_check.instance("a line in lines", line, str).rstrip("\r\n"))
        if match is None:
            continue
        if match["ok"]:
            success, reason = True, None
        elif match["error"] is not None:
            text = match["error"]
            quoted = len(text) > 1 and text[0] == text[-1] == '"'
            success, reason = False, _check.storable(text[1:-1] if quoted else text) or None
        elif match["progress"]:
            progress = int(match["progress"])
        else:
            phase = match["phase"]
    return Outcome(success, reason, progress, phase)
