"""Pure: how far ahead of a sequential reader to load.

A stream may have several readers at once, each somewhere else; each is recognised by the offset at which it will
read on.
"""

from collections import OrderedDict
from typing import Final

from automq.ids import Offset

# Readers of one stream that are told apart; one more pushes the one idle for longest out.
READERS_MAX: Final = 128
FIRST_BYTES: Final = 512 * 1024


class ReadAhead:
    """The policy of one stream: a window that doubles with every read that continues the one before."""

    __slots__ = ("_readers", "_window_bytes_max")

    def __init__(self, window_bytes_max: int) -> None:
        self._window_bytes_max = window_bytes_max
        self._readers: OrderedDict[Offset, int] = OrderedDict()

    def window(self, start: Offset) -> int:
        """Bytes to have loaded from `start` on, beyond what the read itself asks for. A first read asks for nothing."""
        return self._readers.get(start, 0)

    def advance(self, start: Offset, end: Offset) -> None:
        """A read of [start, end) was answered."""
        window = self._readers.pop(start, 0)
        if end <= start:
            return
        self._readers[end] = min(self._window_bytes_max, window * 2 or FIRST_BYTES)
        if len(self._readers) > READERS_MAX:
            self._readers.popitem(last=False)
