"""The Fetch that a consumer at the end of its log sends again and again, recognised without being parsed.

A thousand idle consumers send two thousand such requests a second: the same bytes but for the correlation id and the
session's epoch. The request of before is begun once more then, in place of being taken apart and put together anew.
"""

from automq.handlers.delayed_fetch import DelayedFetch, WaitingFetch
from automq.protocol.connection import RequestHead
from automq.protocol.fetch_codec import FLEXIBLE_SINCE, REPEATED_BYTES_MAX, RepeatedFetch
from automq.protocol.framing import FrameReader


class Repeats:
    """The newest Fetch of one connection that had to wait."""

    __slots__ = ("_fetch", "_raw", "frame_bytes")

    def __init__(self) -> None:
        self._fetch: DelayedFetch | None = None
        self._raw: RepeatedFetch | None = None
        self.frame_bytes = 0
        """What a read brings that may be a repetition, its size included; 0 when nothing may."""

    def remember(self, head: RequestHead, frame: memoryview, fetch: WaitingFetch | None) -> None:
        """The connection has started this Fetch; None: it was answered at once."""
        is_short = head.version >= FLEXIBLE_SINCE and len(frame) <= REPEATED_BYTES_MAX
        if not is_short or not isinstance(fetch, DelayedFetch):
            self.forget()
        else:
            self._fetch, self._raw = fetch, RepeatedFetch(frame, head.body_offset, head.version)
            self.frame_bytes = 4 + len(frame)

    def forget(self) -> None:
        """What is remembered goes."""
        self._fetch = self._raw = None
        self.frame_bytes = 0

    def match(self, reader: FrameReader) -> tuple[DelayedFetch, int, int] | None:
        """What is asked for again, with its new correlation id and epoch; None when that is not all that was read.

        Only what is asked for again is taken from `reader`.
        """
        fetch, raw = self._fetch, self._raw
        if fetch is None or raw is None or not fetch.is_done:
            return None
        frame = reader.only_frame(len(raw))
        if frame is None:
            return None
        found = raw.match(frame)
        if found is None:
            return None
        reader.skip()
        return fetch, found[0], found[1]
