"""Log bytes as PostgreSQL text and back; what text cannot hold is escaped visibly."""

import re

# A backslash is escaped where it would read as an escape, or might together with the next piece.
_BACKSLASH = r"\\(?=x[0-9a-f]{2}|x?\Z|x[0-9a-f]\Z)"
_ENCODE_BACKSLASH = re.compile(_BACKSLASH)
_ENCODE = re.compile(_BACKSLASH + r"|[\0\udc80-\udcff]")
_DECODE = re.compile(rb"\\x([0-9a-f]{2})")


def to_bytes(data: bytes | str) -> bytes:
    """Return output as bytes; what an undecodable byte became in a str is that byte again."""
    if isinstance(data, bytes):
        return data
    try:
        return data.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return data.encode("utf-8", "surrogatepass")


def encode_log(data: bytes | str) -> str:
    r"""Return output as text: NUL and bytes that are no UTF-8 stand as `\xHH`.

    A backslash that would read as such an escape stands as `\x5c`. Pieces of a log can be encoded
    one by one and joined.
    """
    raw = to_bytes(data)
    try:
        text, encode = raw.decode(), _ENCODE_BACKSLASH
    except UnicodeDecodeError:
        text, encode = raw.decode("utf-8", "surrogateescape"), _ENCODE
    # Most logs have neither, and to see that is tens of times faster than the expressions.
    if "\0" in text:
        encode = _ENCODE
    elif encode is _ENCODE_BACKSLASH and "\\" not in text:
        return text
    return encode.sub(lambda match: f"\\x{ord(match[0]) & 0xFF:02x}", text)


def decode_log(text: str) -> bytes:
    """Return the bytes that `encode_log` was given."""
    return _DECODE.sub(lambda match: bytes.fromhex(match[1].decode()), text.encode())
