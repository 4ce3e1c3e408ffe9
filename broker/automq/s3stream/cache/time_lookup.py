"""Where a stream's batches lie by their timestamps: in committed objects, then in the log cache.

Rule: an answer concerns what readers see, offsets [start, end) without what was given up. The greatest timestamp of a
span, a block or a run is that of all its batches; where only a part of them is seen (below the start a trim has cut,
above the end nothing is durable yet) it is a bound, and the batches themselves are asked.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from automq.ids import Offset, StreamId
from automq.s3stream.arena import Arena
from automq.s3stream.cache.block_cache import BlockCache
from automq.s3stream.cache.log_cache import Run, StreamTail
from automq.s3stream.cache.lost_ranges import hides, past_lost
from automq.s3stream.model import DataMissing, ObjectSpan, StoreDamaged
from automq.s3stream.objects.reader import ObjectReader
from automq.s3stream.ports import ObjectNotFound


class LookedUpStream(Protocol):
    """What a lookup needs to know of a stream."""

    @property
    def stream_id(self) -> StreamId: ...

    @property
    def confirmed_offset(self) -> Offset:
        """One past the newest durable offset."""
        ...

    @property
    def lost(self) -> Sequence[tuple[Offset, Offset]]:
        """Ranges that a person gave up, ascending."""
        ...

    @property
    def tail(self) -> StreamTail:
        """Its batches in the log cache."""
        ...


class TimeLookup:
    """One stream's lookups by time. Each raises CorruptData or DataMissing, FormatTooNew and StoreError."""

    def __init__(
        self,
        stream: LookedUpStream,
        *,
        reader: ObjectReader,
        blocks: BlockCache,
        spans: Callable[[Offset, Offset], Iterator[ObjectSpan]],
        timestamp_of: Callable[[Arena, int], int],
    ) -> None:
        """`spans` are the committed objects of a range, ascending; `timestamp_of` that of a batch in an arena."""
        self._stream = stream
        self._reader, self._blocks = reader, blocks
        self._spans, self._timestamp_of = spans, timestamp_of

    async def first_at(self, timestamp_ms: int, start: Offset) -> Offset | None:
        """Base offset of the first batch seen from `start` on whose max timestamp is >= `timestamp_ms`.

        The batch may begin before `start`.
        """
        while True:
            try:
                return await self._first_at(timestamp_ms, start)
            except _SpanReplaced:
                continue

    async def _first_at(self, timestamp_ms: int, start: Offset) -> Offset | None:
        stream = self._stream
        for span in self._spans(start, stream.confirmed_offset):
            first = past_lost(stream.lost, max(start, span.start))
            if span.max_timestamp_ms < timestamp_ms or span.end <= first:
                continue
            with self._reading(span, first):
                found = await self._first_in(span, timestamp_ms, first)
            if found is not None:
                return found
        found = stream.tail.find_timestamp(timestamp_ms, start, self._timestamp_of)
        return found if found is not None and found < stream.confirmed_offset else None

    async def greatest(self, start: Offset) -> int | None:
        """The greatest max timestamp of the batches seen that begin at or after `start`; None when there are none."""
        while True:
            try:
                return await self._greatest(start)
            except _SpanReplaced:
                continue

    async def _greatest(self, start: Offset) -> int | None:
        stream = self._stream
        greatest: int | None = None
        cut: list[ObjectSpan] = []
        for span in self._spans(start, stream.confirmed_offset):
            if not self._is_whole(span.start, span.end, start):
                cut.append(span)
            elif greatest is None or span.max_timestamp_ms > greatest:
                greatest = span.max_timestamp_ms
        for span in cut:
            first = past_lost(stream.lost, max(start, span.start))
            if first < span.end and (greatest is None or span.max_timestamp_ms > greatest):
                with self._reading(span, first):
                    greatest = await self._greatest_in(span, first, greatest)
        for run in stream.tail.runs:
            if run.end > start and (greatest is None or run.max_timestamp_ms > greatest):
                greatest = self._greatest_of_run(run, start, greatest)
        return greatest

    def _is_whole(self, first: Offset, end: Offset, start: Offset) -> bool:
        """Whether every batch of [first, end) begins at or after `start`, is durable, and was not given up."""
        if first < start or end > self._stream.confirmed_offset:
            return False
        return not any(lost_start < end and lost_end > first for lost_start, lost_end in self._stream.lost)

    def _greatest_of_run(self, run: Run, start: Offset, greatest: int | None) -> int | None:
        if self._is_whole(run.start, run.end, start):
            return run.max_timestamp_ms
        end = self._stream.confirmed_offset
        for base, arena, position, _ in run.batches():
            if start <= base < end:
                timestamp_ms = self._timestamp_of(arena, position)
                greatest = timestamp_ms if greatest is None else max(greatest, timestamp_ms)
        return greatest

    async def _greatest_in(self, span: ObjectSpan, start: Offset, greatest: int | None) -> int | None:
        """Of the part of an object that is seen, or `greatest`. Raises as `_first_in` does."""
        lost = self._stream.lost
        index = await self._reader.index(span.object_id, span.object_size)
        for entry in index.data_entries(self._stream.stream_id, start):
            if greatest is not None and entry.max_timestamp_ms <= greatest:
                continue
            if self._is_whole(entry.start, entry.end, start):
                greatest = entry.max_timestamp_ms
            elif past_lost(lost, max(start, entry.start)) < entry.end:
                block = await self._blocks.block(span.object_id, entry)
                for base, timestamp_ms in block.timestamps():
                    if base >= start and past_lost(lost, base) == base:
                        greatest = timestamp_ms if greatest is None else max(greatest, timestamp_ms)
        return greatest

    async def _first_in(self, span: ObjectSpan, timestamp_ms: int, start: Offset) -> Offset | None:
        """The first batch from `start` on in one object. Raises ObjectNotFound, CorruptData, StoreError."""
        index = await self._reader.index(span.object_id, span.object_size)
        for entry in index.data_entries(self._stream.stream_id, start):
            if entry.max_timestamp_ms < timestamp_ms:
                continue
            block = await self._blocks.block(span.object_id, entry)
            from_offset = start
            while from_offset < entry.end:
                found = block.find_timestamp(timestamp_ms, from_offset)
                if found is None:
                    break
                from_offset = past_lost(self._stream.lost, found)
                if from_offset == found:
                    return found
        return None

    @contextmanager
    def _reading(self, span: ObjectSpan, first: Offset) -> Iterator[None]:
        """Damage names what it hides; an object that went because another took its place is no damage."""
        try:
            yield
        except ObjectNotFound:
            self._reader.forget(span.object_id)
            if span not in self._spans(span.start, span.end):
                raise _SpanReplaced from None
            raise hides(DataMissing(key=self._reader.key(span.object_id), what="object"), first, span.end) from None
        except StoreDamaged as error:
            raise hides(error, first, span.end) from None


class _SpanReplaced(Exception):
    """The image names other objects by now: begin anew."""
