"""Make UUIDs that sort by time, so that rows made together lie together in an index."""

import secrets
import time
from uuid import UUID


def uuid7() -> UUID:
    """Return a UUIDv7 of this millisecond (RFC 9562, section 5.7)."""
    milliseconds = time.time_ns() // 1_000_000
    random = secrets.randbits(74)
    number = (milliseconds & (1 << 48) - 1) << 80 | 7 << 76 | random >> 62 << 64 | 2 << 62
    return UUID(int=number | random & (1 << 62) - 1)
