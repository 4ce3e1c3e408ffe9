"""The index of an object: which blocks it has, found by stream and offset, checked before it is believed.

Two levels: a root that knows the first entry of each page, and the pages, each with a checksum of its own. Who looks
for one stream among thousands reads the root and one page; damage of a page hides what that page has. The index of an
object of version 1 is one page, whatever its size.

Everything is kept as bytes: a lookup decodes only what it probes.
"""

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Final

from crc32c import crc32c

from automq.ids import Offset, StreamId
from automq.s3stream.model import CorruptData
from automq.s3stream.objects.format import (
    ENTRY,
    ENTRY_BYTES,
    HEADER_BYTES,
    ROOT_HEAD,
    ROOT_LINE,
    BlockKind,
    BlockLayout,
    Footer,
    IndexEntry,
)

EntryKey = tuple[int, int, int]
"""Stream, kind, start offset: what entries are ordered by."""
_FIRST: Final[EntryKey] = (0, 0, 0)
_PROBED: Final = struct.Struct(">QQQ")
"""The first fields of an entry: stream, start and end."""
_KIND_AT: Final = 56


class IndexPage:
    """Consecutive entries."""

    __slots__ = ("_blocks_end", "_data", "_key", "_layout", "_position", "count")

    def __init__(self, key: str, data: bytes, *, position: int, blocks_end: int, layout: BlockLayout) -> None:
        """`data` is what lies at `position` of the object, checked; blocks end before `blocks_end`."""
        self._key = key
        self._data = data
        self._position = position
        self._blocks_end = blocks_end
        self._layout = layout
        self.count = len(data) // ENTRY_BYTES

    @property
    def size(self) -> int:
        """Bytes it takes in memory."""
        return len(self._data)

    def entry(self, number: int) -> IndexEntry:
        """The entry of that number, checked against the object's bounds. Raises CorruptData."""
        at = number * ENTRY_BYTES
        stream, start, end, records, batches, position, size, crc, timestamp, kind = ENTRY.unpack_from(self._data, at)
        if position < HEADER_BYTES or position + size > self._blocks_end or kind not in (1, 2):
            raise CorruptData(key=self._key, offset=self._position + at, length=ENTRY_BYTES, what="object index entry")
        return IndexEntry(
            stream=StreamId(stream),
            start=Offset(start),
            end=Offset(end),
            records=records,
            batches=batches,
            position=position,
            size=size,
            crc=crc,
            max_timestamp_ms=timestamp,
            kind=BlockKind(kind),
            layout=self._layout,
        )

    def place_of(self, stream: StreamId, start: Offset) -> int:
        """The first entry that is a data block of `stream` which ends above `start`, or lies behind all such."""
        wanted: EntryKey = (stream, BlockKind.DATA, start)
        return bisect_right(range(self.count), wanted, key=self._end_of)

    def data_entries(self, stream: StreamId, start: Offset) -> Iterator[IndexEntry]:
        """Data blocks of `stream` here that hold offsets from `start` on, ascending."""
        for number in range(self.place_of(stream, start), self.count):
            entry = self.entry(number)
            if (entry.stream, entry.kind) != (stream, BlockKind.DATA):
                return
            yield entry

    def checkpoint_entry(self, stream: StreamId, offset: Offset) -> IndexEntry | None:
        """The piece of the stream's checkpoint that describes `offset`, if it is here."""
        wanted: EntryKey = (stream, BlockKind.CHECKPOINT, offset)
        place = bisect_left(range(self.count), wanted, key=self._key_of)
        return self.entry(place) if place < self.count and self._key_of(place) == wanted else None

    def _key_of(self, number: int) -> EntryKey:
        at = number * ENTRY_BYTES
        stream, start, _ = _PROBED.unpack_from(self._data, at)
        return stream, self._data[at + _KIND_AT], start

    def _end_of(self, number: int) -> EntryKey:
        at = number * ENTRY_BYTES
        stream, _, end = _PROBED.unpack_from(self._data, at)
        return stream, self._data[at + _KIND_AT], end

    def entries(self) -> Iterator[IndexEntry]:
        """All of them."""
        return (self.entry(number) for number in range(self.count))


class IndexRoot:
    """Where the pages of an object's index are, and what each begins with."""

    __slots__ = ("_data", "_footer", "_key", "_page_entries", "count", "page_count", "position")

    def __init__(self, key: str, footer: Footer, data: bytes) -> None:
        """`data` is what the footer points at; of version 1 nothing is needed. Raises CorruptData."""
        self._key = key
        self._footer = footer
        self._data = data
        if footer.version == 1:
            self.position = footer.position
            self.count = self._page_entries = footer.size // ENTRY_BYTES
            self.page_count = 1
            return
        damage = CorruptData(key=key, offset=footer.position, length=footer.size, what="root of the object index")
        if len(data) != footer.size or crc32c(data) != footer.crc:
            raise damage
        self.count, self._page_entries = ROOT_HEAD.unpack_from(data)
        if not self._page_entries:
            raise damage
        self.page_count = -(-self.count // self._page_entries)
        self.position = footer.position - self.count * ENTRY_BYTES
        if len(data) != ROOT_HEAD.size + self.page_count * ROOT_LINE.size or self.position < HEADER_BYTES:
            raise damage

    @property
    def size(self) -> int:
        """Bytes it takes in memory."""
        return len(self._data)

    @property
    def end(self) -> int:
        """Where the index ends."""
        return self.position + self.count * ENTRY_BYTES

    def bounds(self, number: int) -> tuple[int, int]:
        """Where in the object page `number` begins and ends."""
        page_bytes = self._page_entries * ENTRY_BYTES
        start = self.position + number * page_bytes
        return start, min(start + page_bytes, self.end)

    def first(self, number: int) -> EntryKey:
        """The key of the first entry of page `number`; of version 1 it is not known before the page is read."""
        if self._footer.version == 1:
            return _FIRST
        stream, start, kind, _ = self._line(number)
        return stream, kind, start

    def page_of(self, key: EntryKey) -> int:
        """The page that has the last entry up to `key`, or the first page. None is asked where there are no pages."""
        return max(0, bisect_right(range(self.page_count), key, key=self.first) - 1)

    def has_more(self, number: int, stream: StreamId) -> bool:
        """Whether the page behind `number` begins with a data block of `stream`."""
        return number + 1 < self.page_count and self.first(number + 1)[:2] == (stream, BlockKind.DATA)

    def page(self, number: int, data: bytes) -> IndexPage:
        """Page `number`, whose bytes are `data`. Raises CorruptData."""
        start, end = self.bounds(number)
        crc = self._footer.crc if self._footer.version == 1 else self._line(number)[3]
        if len(data) != end - start or crc32c(data) != crc:
            raise CorruptData(key=self._key, offset=start, length=end - start, what="object index")
        return IndexPage(self._key, data, position=start, blocks_end=self.position, layout=self._footer.layout)

    def _line(self, number: int) -> tuple[int, int, int, int]:
        line: tuple[int, int, int, int] = ROOT_LINE.unpack_from(self._data, ROOT_HEAD.size + number * ROOT_LINE.size)
        return line


class ObjectIndex:
    """All pages of an object's index."""

    def __init__(self, root: IndexRoot, data: memoryview) -> None:
        """`data` is the whole index. Raises CorruptData."""
        self._root = root
        self._pages: list[IndexPage] = []
        for number in range(root.page_count):
            start, end = root.bounds(number)
            self._pages.append(root.page(number, bytes(data[start - root.position : end - root.position])))
        self.count = root.count
        self.position = root.position
        """Where it begins, and all blocks end."""

    def data_entries(self, stream: StreamId, start: Offset) -> Iterator[IndexEntry]:
        """Data blocks of `stream` that hold offsets from `start` on, ascending."""
        if not self._pages:
            return
        number = self._root.page_of((stream, BlockKind.DATA, start))
        yield from self._pages[number].data_entries(stream, start)
        while self._root.has_more(number, stream):
            number += 1
            yield from self._pages[number].data_entries(stream, start)

    def checkpoint_entry(self, stream: StreamId, offset: Offset) -> IndexEntry | None:
        """The piece of the stream's checkpoint in this object that describes `offset`."""
        if not self._pages:
            return None
        page = self._pages[self._root.page_of((stream, BlockKind.CHECKPOINT, offset))]
        return page.checkpoint_entry(stream, offset)

    def entries(self) -> Iterator[IndexEntry]:
        """All of them, for `dump`."""
        return (entry for page in self._pages for entry in page.entries())


def whole_index(key: str, data: memoryview, footer: Footer) -> ObjectIndex:
    """The index of an object whose bytes are `data`. Raises CorruptData."""
    found = bytes(data[footer.position : footer.position + footer.size])
    root = IndexRoot(key, footer, b"" if footer.version == 1 else found)
    return ObjectIndex(root, data[root.position : root.end])
