"""Data blocks as readers have them: each batch checked for itself, whole ones served, damaged ones named."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Final

from crc32c import crc32c

from automq.ids import Offset
from automq.s3stream.arena import ReadResult
from automq.s3stream.model import CorruptData
from automq.s3stream.objects.format import ROW, IndexEntry, table_of

# Objects around a block: the views, the arrays, the entry in the cache.
BLOCK_OVERHEAD_BYTES: Final = 900
WHOLE: Final = "data block"
"""What is damaged where the table is."""


class DataBlock:
    """A data block whose batches are checked, each for itself. Its bytes are its own: nothing needs to be pinned.

    A batch that fails its checksum is never read, its neighbours are. Where the table itself fails, the whole block
    counts as one such batch.
    """

    __slots__ = (
        "_bases",
        "_damaged",
        "_data",
        "_key",
        "_position",
        "_positions",
        "_timestamps",
        "end",
        "size",
        "start",
        "stream",
    )

    def __init__(self, key: str, entry: IndexEntry, data: memoryview) -> None:
        self._key = key
        self._position = entry.position
        self._data = data
        self.stream = entry.stream
        self.start, self.end = entry.start, entry.end
        self.size = len(data)
        self._bases = array("q")
        self._timestamps = array("q")
        self._positions = array("q")
        self._damaged: dict[int, str] = {}
        """What is wrong with a batch, by its number."""
        if not self._read_table(entry, data):
            self._bases = array("q", [entry.start])
            self._timestamps = array("q", [entry.max_timestamp_ms])
            self._positions = array("q", [0, entry.size])
            self._damaged = {0: WHOLE}

    def _read_table(self, entry: IndexEntry, data: memoryview) -> bool:
        """Whether it is the table that was written."""
        table = table_of(entry, data)
        if table is None:
            return False
        position = entry.layout.head_bytes + len(table)
        for number, (base, timestamp, _, length, crc) in enumerate(ROW.iter_unpack(table)):
            self._bases.append(base)
            self._timestamps.append(timestamp)
            self._positions.append(position)
            if crc32c(data[position : position + length], 0, 0) != crc:
                self._damaged[number] = "record batch"
            position += length
        self._positions.append(position)
        return position == len(data) and bool(self._bases) and self._bases[0] == entry.start

    @property
    def memory_bytes(self) -> int:
        """What it takes in memory: its bytes, the three arrays, and the objects around them."""
        arrays = sum(len(held) * held.itemsize for held in (self._bases, self._timestamps, self._positions))
        # An array that grows keeps an eighth in reserve.
        return self.size + arrays + arrays // 8 + BLOCK_OVERHEAD_BYTES

    @property
    def is_table_damaged(self) -> bool:
        """Whether nothing that the block says of itself can be believed."""
        return self._damaged.get(0) is WHOLE

    @property
    def position(self) -> int:
        """Where in the object it begins."""
        return self._position

    @property
    def damage(self) -> CorruptData | None:
        """The first batch that cannot be read."""
        return self._error(min(self._damaged)) if self._damaged else None

    def _error(self, number: int) -> CorruptData:
        start, end = self._positions[number], self._positions[number + 1]
        error = CorruptData(
            key=self._key, offset=self._position + start, length=end - start, what=self._damaged[number]
        )
        error.hidden = (Offset(self._bases[number]), self._base_after(number))
        return error

    def _base_after(self, number: int) -> Offset:
        return Offset(self._bases[number + 1]) if number + 1 < len(self._bases) else self.end

    def read(self, start: Offset, end: Offset, max_bytes: int) -> ReadResult:
        """Batches from the one that holds `start`, or the next, to the last that begins below `end`.

        At least one if there is any, then as many as fit `max_bytes` and are whole. Raises CorruptData where the first
        is not.
        """
        bases, positions = self._bases, self._positions
        first = max(0, bisect_right(bases, start) - 1)
        if first in self._damaged:
            raise self._error(first)
        stop = bisect_left(bases, end)
        last = first
        batches: list[memoryview] = []
        origin = positions[first]
        while last < stop and (last == first or positions[last + 1] - origin <= max_bytes):
            if last in self._damaged:
                break
            batches.append(self._data[positions[last] : positions[last + 1]])
            last += 1
        return ReadResult(
            batches,
            start_offset=Offset(bases[first]),
            end_offset=Offset(bases[last]) if last < len(bases) else self.end,
            size=positions[last] - origin,
        )

    def timestamps(self) -> Iterator[tuple[Offset, int]]:
        """(base offset, max timestamp) of each batch."""
        return ((Offset(base), timestamp) for base, timestamp in zip(self._bases, self._timestamps, strict=True))

    def find_timestamp(self, timestamp_ms: int, start: Offset) -> Offset | None:
        """Base offset of the first batch not wholly below `start` with a max timestamp >= `timestamp_ms`."""
        first = max(0, bisect_right(self._bases, start) - 1)
        for index in range(first, len(self._bases)):
            if self._timestamps[index] >= timestamp_ms:
                return Offset(self._bases[index])
        return None
