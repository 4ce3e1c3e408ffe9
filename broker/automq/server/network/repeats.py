"""The Fetch that a consumer at the end of its log sends again and again, recognised without being parsed.

A thousand idle consumers send two thousand such requests a second: the same bytes but for the correlation id and the
session's epoch. The request of before is begun once more then, in place of being taken apart and put together anew.
"""

from typing import Final

from automq.handlers.delayed_fetch import DelayedFetch, WaitingFetch
from automq.protocol.connection import RequestHead
from automq.protocol.fetch_codec import FLEXIBLE_SINCE, session_epoch_at
from automq.protocol.framing import SIZE_BYTES, SIZE_STRUCT

REPEATED_BYTES_MAX: Final = 512
"""Larger requests are not kept in case they are repeated: a connection's memory is not for that."""


class Repeats:
    """The newest Fetch of one connection that had to wait."""

    __slots__ = ("epoch_at", "fetch", "frame", "frame_bytes")

    def __init__(self) -> None:
        self.fetch: DelayedFetch | None = None
        self.frame = b""
        """As it came in, its size first."""
        self.epoch_at = 0
        """Where the session's epoch lies in it."""
        self.frame_bytes = 0
        """What a read brings that may be a repetition; 0 when nothing may."""

    def remember(self, head: RequestHead, frame: memoryview, fetch: WaitingFetch | None) -> None:
        """The connection has started this Fetch; None: it was answered at once."""
        self.forget()
        size = len(frame)
        if head.version >= FLEXIBLE_SINCE and size <= REPEATED_BYTES_MAX and isinstance(fetch, DelayedFetch):
            self.fetch = fetch
            self.frame = SIZE_STRUCT.pack(size) + bytes(frame)
            self.epoch_at = SIZE_BYTES + session_epoch_at(head.version, head.body_offset)
            self.frame_bytes = SIZE_BYTES + size

    def forget(self) -> None:
        """What is remembered goes, and what it watches."""
        fetch, self.fetch = self.fetch, None
        self.frame_bytes = 0
        if fetch is not None:
            fetch.rest_no_more()
