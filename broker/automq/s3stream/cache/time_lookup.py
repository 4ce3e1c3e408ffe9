"""Where a stream's batches lie by their timestamps: in committed objects, then in the log cache.

Rule: an answer concerns what readers see, offsets [start, end) without what was given up. The greatest timestamp of a
span, a block or a run is that of all its batches; where only a part of them is seen (below the start a trim has cut,
above the end nothing is durable yet) it is a bound, and the batches themselves are asked. A span that begins where the
log does may be such a part: what is committed behind a trim is clipped, and keeps its timestamp.

A run in the cache has half a million batches, perhaps, so it is looked through in several turns of the loop, and what
was learned of each group of batches is kept with it: who asks again looks at one group.
"""

from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final, Protocol

from automq.ids import ObjectId, Offset, StreamId
from automq.runtime.turns import Pace, in_turns
from automq.s3stream.arena import Arena
from automq.s3stream.cache.block_cache import BlockCache, is_small_share
from automq.s3stream.cache.log_cache import ARENA_SHIFT, POSITION_MASK, SIZE_BITS, BlockState, Run, StreamTail
from automq.s3stream.cache.lost_ranges import hides, past_lost
from automq.s3stream.model import CorruptData, DataMissing, ObjectSpan, StoreDamaged
from automq.s3stream.objects.block import DataBlock
from automq.s3stream.objects.format import IndexEntry
from automq.s3stream.objects.reader import ObjectReader
from automq.s3stream.ports import ObjectNotFound

GROUP_BATCHES: Final = 256
GROUP_US: Final = 100
"""About how long it takes to look at a group of batches."""
SPAN_US: Final = 10


class LookedUpStream(Protocol):
    """What a lookup needs to know of a stream."""

    @property
    def stream_id(self) -> StreamId: ...

    @property
    def start_offset(self) -> Offset:
        """The log's."""
        ...

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
    """One lookup by time in a stream. Raises CorruptData or DataMissing, FormatTooNew, BrokerFenced and StoreError."""

    def __init__(
        self,
        stream: LookedUpStream,
        *,
        reader: ObjectReader,
        blocks: BlockCache,
        spans: Callable[[Offset, Offset], Iterator[ObjectSpan]],
        timestamp_of: Callable[[Arena, int], int],
        confirm: Callable[[], Awaitable[None]],
    ) -> None:
        """`spans` are the committed objects of a range, ascending; `timestamp_of` that of a batch in an arena.

        `confirm` is `ObjectManager.confirm`.
        """
        self._stream = stream
        self._reader, self._blocks = reader, blocks
        self._spans, self._timestamp_of, self._confirm = spans, timestamp_of, confirm
        self._missing: ObjectId | None = None

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
        stream, pace = self._stream, Pace()
        for span in self._spans(start, stream.confirmed_offset):
            await pace.spend(SPAN_US)
            first = past_lost(stream.lost, max(start, span.start))
            if span.max_timestamp_ms < timestamp_ms or span.end <= first:
                continue
            async with self._reading(span, first):
                found = await self._first_in(span, timestamp_ms, first)
            if found is not None:
                return found
        for run in tuple(stream.tail.runs):
            if run.end > start and run.max_timestamp_ms >= timestamp_ms:
                found = await in_turns(_first_in_run(run, timestamp_ms, start, self._timestamp_of))
                if found is not None:
                    return found if found < stream.confirmed_offset else None
        return None

    async def greatest(self, start: Offset) -> int | None:
        """The greatest max timestamp of the batches seen that begin at or after `start`; None when there are none."""
        while True:
            try:
                return await self._greatest(start)
            except _SpanReplaced:
                continue

    async def _greatest(self, start: Offset) -> int | None:
        stream, pace = self._stream, Pace()
        greatest: int | None = None
        cut: list[ObjectSpan] = []
        for span in self._spans(start, stream.confirmed_offset):
            await pace.spend(SPAN_US)
            is_clipped = 0 < span.start <= stream.start_offset
            if is_clipped or not self._is_whole(span.start, span.end, start):
                cut.append(span)
            elif greatest is None or span.max_timestamp_ms > greatest:
                greatest = span.max_timestamp_ms
        for span in cut:
            first = past_lost(stream.lost, max(start, span.start))
            if first < span.end and (greatest is None or span.max_timestamp_ms > greatest):
                async with self._reading(span, first):
                    greatest = await self._greatest_in(span, first, greatest)
        for run in tuple(stream.tail.runs):
            if run.end > start and (greatest is None or run.max_timestamp_ms > greatest):
                if self._is_whole(run.start, run.end, start):
                    greatest = run.max_timestamp_ms
                else:
                    seen = await in_turns(_greatest_in_run(run, start, stream.confirmed_offset, self._timestamp_of))
                    greatest = seen if greatest is None else max(greatest, greatest if seen is None else seen)
        return greatest

    def _is_whole(self, first: Offset, end: Offset, start: Offset) -> bool:
        """Whether every batch of [first, end) begins at or after `start`, is durable, and was not given up."""
        if first < start or end > self._stream.confirmed_offset:
            return False
        return not any(lost_start < end and lost_end > first for lost_start, lost_end in self._stream.lost)

    async def _greatest_in(self, span: ObjectSpan, start: Offset, greatest: int | None) -> int | None:
        """Of the part of an object that is seen, or `greatest`. Raises as `_first_in` does."""
        position, more = start, True
        while more:
            entries, more = await self._reader.index.entries_from(
                span.object_id, span.object_size, self._stream.stream_id, position
            )
            for entry in entries:
                position = entry.end
                if greatest is None or entry.max_timestamp_ms > greatest:
                    greatest = await self._greatest_of(span, entry, start, greatest)
        return greatest

    async def _greatest_of(
        self, span: ObjectSpan, entry: IndexEntry, start: Offset, greatest: int | None
    ) -> int | None:
        """Of the part of a block that is seen, or `greatest`."""
        lost = self._stream.lost
        if self._is_whole(entry.start, entry.end, start):
            return entry.max_timestamp_ms
        if past_lost(lost, max(start, entry.start)) < entry.end:
            block = await self._blocks.block(span.object_id, entry)
            for base, timestamp_ms in block.timestamps():
                if base >= start and past_lost(lost, base) == base:
                    greatest = timestamp_ms if greatest is None else max(greatest, timestamp_ms)
        return greatest

    async def _first_in(self, span: ObjectSpan, timestamp_ms: int, start: Offset) -> Offset | None:
        """The first batch from `start` on in one object. Raises ObjectNotFound, CorruptData, StoreError."""
        share = await self._share(span)
        if share is not None:
            for block in share:
                if block.end > start:
                    found = self._first_of(block, timestamp_ms, start)
                    if found is not None:
                        return found
            return None
        position, more = start, True
        while more:
            entries, more = await self._reader.index.entries_from(
                span.object_id, span.object_size, self._stream.stream_id, position
            )
            for entry in entries:
                position = entry.end
                if entry.max_timestamp_ms >= timestamp_ms:
                    found = self._first_of(await self._blocks.block(span.object_id, entry), timestamp_ms, start)
                    if found is not None:
                        return found
        return None

    async def _share(self, span: ObjectSpan) -> Sequence[DataBlock] | None:
        """All blocks of the stream in the object, where they are few; None where its index must be asked."""
        if is_small_share(span):
            with suppress(CorruptData):
                blocks = await self._blocks.share(span, self._stream.stream_id).blocks()
                if blocks[-1].end >= span.end:
                    return blocks
        return None

    def _first_of(self, block: DataBlock, timestamp_ms: int, start: Offset) -> Offset | None:
        """The first batch from `start` on in one block."""
        while start < block.end:
            found = block.find_timestamp(timestamp_ms, start)
            if found is None:
                return None
            start = past_lost(self._stream.lost, found)
            if start == found:
                return found
        return None

    @asynccontextmanager
    async def _reading(self, span: ObjectSpan, first: Offset) -> AsyncIterator[None]:
        """Damage names what it hides; an object that went because another took its place is no damage.

        Nor is one that somebody deleted who has superseded us: a missing one is looked at again once that is excluded.
        """
        try:
            yield
        except ObjectNotFound:
            self._reader.forget(span.object_id)
            if self._missing != span.object_id:
                self._missing = span.object_id
                await self._confirm()
                raise _SpanReplaced from None
            raise hides(DataMissing(key=self._reader.key(span.object_id), what="object"), first, span.end) from None
        except StoreDamaged as error:
            raise hides(error, first, span.end) from None


class _SpanReplaced(Exception):
    """The image names other objects by now, or a run has left the cache: begin anew."""


def _first_in_run(
    run: Run, timestamp_ms: int, start: Offset, timestamp_of: Callable[[Arena, int], int]
) -> Generator[int, None, Offset | None]:
    """Base offset of the first batch that ends above `start` and whose timestamp is >= `timestamp_ms`."""
    _check_cached(run)
    peaks, bases = _peaks(run), run.bases
    index = max(0, bisect_right(bases, start) - 1)
    while index < len(bases):
        group, skipped = divmod(index, GROUP_BATCHES)
        stop = min(index - skipped + GROUP_BATCHES, len(bases))
        known = peaks.get(group)
        if known is None or known >= timestamp_ms:
            timestamps = _timestamps(run, index, stop, timestamp_of)
            for number, timestamp in enumerate(timestamps, index):
                if timestamp >= timestamp_ms:
                    return Offset(bases[number])
            if not skipped and stop - index == GROUP_BATCHES:
                peaks[group] = max(timestamps)
            yield GROUP_US
            _check_cached(run)
        index = stop
    return None


def _greatest_in_run(
    run: Run, start: Offset, end: Offset, timestamp_of: Callable[[Arena, int], int]
) -> Generator[int, None, int | None]:
    """Of the batches that begin in [start, end)."""
    _check_cached(run)
    peaks = _peaks(run)
    index, last = bisect_left(run.bases, start), bisect_left(run.bases, end)
    greatest: int | None = None
    while index < last:
        group, skipped = divmod(index, GROUP_BATCHES)
        stop = min(index - skipped + GROUP_BATCHES, last)
        is_whole = not skipped and stop - index == GROUP_BATCHES
        peak = peaks.get(group) if is_whole else None
        if peak is None:
            peak = max(_timestamps(run, index, stop, timestamp_of))
            if is_whole:
                peaks[group] = peak
            yield GROUP_US
            _check_cached(run)
        greatest = peak if greatest is None else max(greatest, peak)
        index = stop
    return greatest


def _peaks(run: Run) -> dict[int, int]:
    if run.peaks is None:
        run.peaks = {}
    return run.peaks


def _timestamps(run: Run, index: int, stop: int, timestamp_of: Callable[[Arena, int], int]) -> list[int]:
    arenas = run.block.arenas
    return [
        timestamp_of(arenas[place >> ARENA_SHIFT], (place >> SIZE_BITS) & POSITION_MASK)
        for place in run.places[index:stop]
    ]


def _check_cached(run: Run) -> None:
    """Between two turns the run may have been evicted, and its arenas filled anew. Raises _SpanReplaced."""
    if run.block.state is BlockState.EVICTED:
        raise _SpanReplaced
