"""Records on their way into a batch that the broker itself makes: twin of the compiled function.

It knows the layout of a record in a batch and nothing else (`protocol.records`, which tests hold it against).
"""

from typing import Final

Pair = tuple[bytes, bytes | None]
"""Key and value of a record; no value deletes."""

_NO_VALUE: Final = b"\x01"
_FRONT: Final = bytes(2)
"""No attributes, and the batch's own timestamp."""
_NO_HEADERS: Final = bytes(1)


def write_records(pairs: list[Pair]) -> bytes:
    """The records of a batch in their order, all of its first timestamp and without headers."""
    parts: list[bytes] = []
    for index, (key, value) in enumerate(pairs):
        content = b"" if value is None else value
        body = b"".join(
            (
                _FRONT,
                _length(index),
                _length(len(key)),
                key,
                _NO_VALUE if value is None else _length(len(content)),
                content,
                _NO_HEADERS,
            )
        )
        parts += (_length(len(body)), body)
    return b"".join(parts)


def _length(number: int) -> bytes:
    """The varint of a number that is not negative, in its zigzag form."""
    raw = number << 1
    if raw < 0x80:
        return bytes((raw,))
    found = bytearray()
    while raw >= 0x80:
        found.append(raw & 0x7F | 0x80)
        raw >>= 7
    found.append(raw)
    return bytes(found)
