"""A Fetch that is sent again and again, where it was received: twin of the compiled function.

A thousand consumers at the end of their logs send two thousand such requests a second: the same bytes but for the
correlation id and the epoch of the session.
"""

import struct

from automq.core.record_walk import Data

_int32 = struct.Struct(">i").unpack_from

CORRELATION_AT = 8
CORRELATION_END = 12
"""From a frame's start, its size included: behind key and version."""
EPOCH_BYTES = 4


def match_fetch(data: Data, frame: bytes, epoch_at: int) -> tuple[int, int] | None:
    """Correlation id and session epoch of what lies at the start of `data`, if it is `frame` but for these two.

    `frame` begins with its own size; its epoch is at `epoch_at`. Positional arguments.
    """
    size = len(frame)
    if len(data) < size or not CORRELATION_END <= epoch_at <= size - EPOCH_BYTES:
        return None
    raw, epoch_end = bytes(data[:size]), epoch_at + EPOCH_BYTES
    if (
        raw[:CORRELATION_AT] != frame[:CORRELATION_AT]
        or raw[CORRELATION_END:epoch_at] != frame[CORRELATION_END:epoch_at]
        or raw[epoch_end:] != frame[epoch_end:]
    ):
        return None
    return _int32(raw, CORRELATION_AT)[0], _int32(raw, epoch_at)[0]
