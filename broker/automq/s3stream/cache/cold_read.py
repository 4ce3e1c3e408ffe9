"""One read of a stream's committed objects, over the borders of objects until the answer is full.

A stream that trickles has a few hundred bytes in each of many objects. So a read goes on from object to object, with
the requests of the next ones under way while it waits for the first: an answer is as large as was asked for, whatever
the objects are, up to a number of objects.

What an object has of a stream is read as one share where that is little and the metadata say where it lies; else by the
object's index, which is also asked where a share does not prove what it is. Errors belong to the object that the read
begins in: one that comes later ends the answer before it, and the next read begins with it.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import Final

from automq.ids import Offset, StreamId
from automq.runtime.clock import Clock
from automq.s3stream.arena import ReadResult
from automq.s3stream.cache.block_cache import BlockCache, ShareLoad, is_small_share
from automq.s3stream.model import CorruptData, ObjectSpan, StreamError
from automq.s3stream.objects.block import DataBlock
from automq.s3stream.objects.format import IndexEntry
from automq.s3stream.objects.reader import ObjectReader
from automq.s3stream.ports import StoreError

# Objects of one read, and of the first of a reader: who asks once and takes nothing costs little.
SPANS_MAX = 256
FIRST_SPANS_MAX = 32
# Requests that one read has on their way: several readers share the store's connections.
SPANS_INFLIGHT: Final = 32
# Objects that are loaded ahead of a reader, beyond what it asked for.
SPANS_AHEAD_MAX: Final = 32
# Where something can be answered, nobody waits longer than this for more.
PATIENCE_S: Final = 1.0


class ColdRead:
    """One read from `start` up to `end`, of `spans`, which ascend from the one that holds `start`."""

    def __init__(
        self,
        stream: StreamId,
        spans: Iterator[ObjectSpan],
        start: Offset,
        end: Offset,
        *,
        max_bytes: int,
        window: int,
        reader: ObjectReader,
        blocks: BlockCache,
        clock: Clock,
    ) -> None:
        """Beyond `max_bytes` some `window` bytes are loaded ahead; 0 for the first read of a reader."""
        self._stream = stream
        self._spans = spans
        self._end = end
        # There is one batch in every answer.
        self._max_bytes = max(1, max_bytes)
        self._window = window
        self._reader = reader
        self._blocks = blocks
        self._clock = clock
        self._spans_max = SPANS_MAX if window else FIRST_SPANS_MAX
        self._taken = 0
        self._reached = start
        """Where the span that was taken last ends: the next one must begin there."""
        self._upcoming: deque[tuple[ObjectSpan, ShareLoad | None]] = deque()
        self._upcoming_bytes = 0
        self._batches: list[memoryview] = []
        self._size = 0
        self._first = self._stop = start
        self._unread_bytes: int | None = None
        """Of the object read last: what of it is loaded ahead, if that is all there is; else None."""

    async def run(self) -> ReadResult:
        """At least one batch. Raises ObjectNotFound, StoreDamaged, FormatTooNew, StoreError: of the first span."""
        deadline_s = self._clock.monotonic() + PATIENCE_S
        is_through = True
        while is_through and self._size < self._max_bytes:
            self._begin_loads()
            if not self._upcoming:
                break
            span, share = self._upcoming.popleft()
            self._upcoming_bytes -= span.size
            wait_s = max(0.0, deadline_s - self._clock.monotonic()) if self._batches else None
            try:
                async with asyncio.timeout(wait_s):
                    is_through = await self._read(span, share)
            except (TimeoutError, StreamError, StoreError):
                if not self._batches:
                    raise
                # What there is comes first; the next read begins where it ends.
                break
        if self._unread_bytes is not None and not self._upcoming:
            self._load_ahead(self._window - self._unread_bytes)
        return ReadResult(self._batches, start_offset=self._first, end_offset=self._stop, size=self._size)

    def _begin_loads(self) -> None:
        """Of as many spans as the answer has room for."""
        while (
            self._size + self._upcoming_bytes < self._max_bytes
            and len(self._upcoming) < SPANS_INFLIGHT
            and self._taken < self._spans_max
        ):
            span = self._take()
            if span is None:
                return
            share = None
            if is_small_share(span):
                share = self._blocks.share(span, self._stream)
            elif self._taken > 1:
                self._blocks.warm(span, self._stream, bytes_max=self._max_bytes - self._size - self._upcoming_bytes)
            self._upcoming.append((span, share))
            self._upcoming_bytes += span.size

    def _take(self) -> ObjectSpan | None:
        """The next span, unless there is a hole before it."""
        span = next(self._spans, None)
        if span is None or span.start >= self._end or (self._taken and span.start != self._reached):
            self._spans = iter(())
            return None
        self._taken += 1
        self._reached = span.end
        return span

    async def _read(self, span: ObjectSpan, share: ShareLoad | None) -> bool:
        """Take what the object has; whether that is all of it, so that the next object follows."""
        if share is not None:
            try:
                blocks = await share.blocks()
            except CorruptData:
                # The index says which blocks there are, and what is damaged.
                return await self._read_by_index(span)
            # Rule: a place is believed when its blocks hold all that it is said to have.
            if blocks[0].start <= max(span.start, self._stop) and blocks[-1].end >= span.end:
                self._unread_bytes = 0
                return all(self._add(block, span) for block in blocks if block.end > self._stop)
        return await self._read_by_index(span)

    async def _read_by_index(self, span: ObjectSpan) -> bool:
        """As `_read`, page by page."""
        while True:
            wanted, ahead, is_page_through, more = await self._locate(span)
            if not wanted and not self._batches:
                key = self._reader.key(span.object_id)
                what = f"object index: no offset {self._stop} in it"
                raise CorruptData(key=key, offset=0, length=span.object_size, what=what)
            self._unread_bytes = sum(entry.size for entry in ahead) if is_page_through and not more else None
            self._blocks.preload(span.object_id, wanted, ahead)
            for entry in wanted:
                if not self._add(await self._blocks.block(span.object_id, entry), span):
                    return False
            if is_page_through and not more and not ahead:
                return True
            # Blocks are larger than what an answer has of them: there may be room for one more.
            if not wanted or self._size >= self._max_bytes:
                return False

    async def _locate(self, span: ObjectSpan) -> tuple[list[IndexEntry], list[IndexEntry], bool, bool]:
        """Blocks that are wanted, blocks to be loaded ahead, whether the page has no others, whether more pages follow.

        Raises ObjectNotFound, CorruptData, FormatTooNew, StoreError.
        """
        entries, more = await self._reader.index.entries_from(
            span.object_id, span.object_size, self._stream, self._stop
        )
        room = self._max_bytes - self._size
        end = min(span.end, self._end)
        wanted: list[IndexEntry] = []
        ahead: list[IndexEntry] = []
        size = 0
        for entry in entries:
            if (not wanted or size < room) and entry.start < end:
                wanted.append(entry)
            elif size < room + self._window and entry.start < span.end:
                ahead.append(entry)
            else:
                return wanted, ahead, False, more
            size += entry.size
        return wanted, ahead, True, more

    def _add(self, block: DataBlock, span: ObjectSpan) -> bool:
        """Take what fits of a block; whether the one behind it may follow. Raises CorruptData before anything is."""
        if self._batches and self._size >= self._max_bytes:
            return False
        end = min(span.end, self._end)
        try:
            part = block.read(self._stop, end, self._max_bytes - self._size)
        except CorruptData:
            if not self._batches:
                raise
            return False
        if self._batches and self._size + part.size > self._max_bytes:
            return False
        if not self._batches:
            self._first = part.start_offset
        self._batches += part.batches
        self._size += part.size
        self._stop = part.end_offset
        return self._stop >= min(block.end, end)

    def _load_ahead(self, room: int) -> None:
        """What a sequential reader is about to reach in other objects, while there is room for it in the cache."""
        for _ in range(SPANS_AHEAD_MAX):
            if room <= 0 or not self._blocks.may_load_ahead:
                return
            span = self._take()
            if span is None:
                return
            self._blocks.warm(span, self._stream, bytes_max=room)
            room -= span.size
