"""Pure: which committed objects hold a stream, ascending. Nothing is kept for a (stream, object) but packed numbers.

A stream knows the ids of its objects, an object its ranges; a `Spans` puts both together for whoever asks, one span at
a time. What changes are the ids and the stream's totals, together, as `Holding`: whoever has an old one keeps it.

Invariants: spans do not overlap and ascend; a span ends above its start; an object has at most one span of a stream.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final, Protocol

import msgspec

from automq.ids import ObjectId, Offset, StreamId
from automq.metadata.object_ids import ObjectIds
from automq.metadata.packed_ranges import PackedRanges, StreamRange, find
from automq.s3stream.model import ObjectSpan


class HoldsRanges(Protocol):
    """An object as this module sees it."""

    @property
    def size(self) -> int: ...
    @property
    def ranges(self) -> PackedRanges: ...


class Objects(Protocol):
    """Objects by id: an image's map, or the one that is being changed."""

    def __getitem__(self, object_id: ObjectId, /) -> HoldsRanges: ...
    def __contains__(self, object_id: object, /) -> bool: ...


class Holding(msgspec.Struct, frozen=True, gc=False):
    """What committed objects hold of one stream: their ids, and running totals over their ranges.

    A range counts whole as long as any of it lies above the trim point.
    """

    objects: ObjectIds = ObjectIds()
    stored_bytes: int = 0
    """Bytes of record batches."""
    stored_offsets: int = 0
    """Offsets of the ranges: records, but for what compaction by key and given-up ranges took out."""


NOTHING_HELD: Final = Holding()


class NotAsNamed(Exception):
    """The stream's spans are not those that were to be replaced: it was trimmed, or another swap was faster."""

    def __init__(self, stream: StreamId, named: Sequence[ObjectSpan], found: Sequence[ObjectSpan]) -> None:
        super().__init__(f"stream {stream} is held by {_texts(found)} where {_texts(named)} were to be replaced")
        self.stream = stream
        self.named = named
        self.found = found


class Spans:
    """One stream's spans. Each is made when it is asked for."""

    __slots__ = ("_holding", "_objects", "_stream")

    def __init__(self, stream: StreamId, holding: Holding, objects: Objects) -> None:
        self._stream = stream
        self._holding = holding
        self._objects = objects

    def __len__(self) -> int:
        return len(self._holding.objects)

    def __iter__(self) -> Iterator[ObjectSpan]:
        return map(self.span, self._holding.objects)

    def __reversed__(self) -> Iterator[ObjectSpan]:
        return map(self.span, reversed(self._holding.objects))

    def span(self, object_id: ObjectId) -> ObjectSpan:
        """What the object, one of the stream's, holds of it."""
        found = find(self._objects[object_id].ranges, self._stream, placed=True)
        assert found is not None, f"object {object_id} holds nothing of stream {self._stream}"
        return ObjectSpan(
            object_id=object_id,
            object_size=self._objects[object_id].size,
            start=found.start,
            end=found.end,
            size=found.size,
            max_timestamp_ms=found.max_timestamp_ms,
            position=found.position,
        )

    def above(self, offset: Offset) -> Iterator[ObjectSpan]:
        """From the span that ends above `offset` on, ascending, lazily: what nobody takes costs nothing."""
        return map(self.span, self._holding.objects.iterate(self._place_above(offset)))

    def overlapping(self, start: Offset, end: Offset, *, limit: int) -> Sequence[ObjectSpan]:
        """Those that hold offsets of [start, end), ascending, at most `limit`."""
        found: list[ObjectSpan] = []
        for span in self.above(start):
            if span.start >= end or len(found) == limit:
                break
            found.append(span)
        return found

    def without_below(self, offset: Offset) -> tuple[Holding, Sequence[ObjectId]]:
        """What is left without the spans that lie wholly below `offset`, and whose those were."""
        objects = self._holding.objects
        count = self._place_above(offset, near_start=2)
        if not count:
            return self._holding, ()
        if count == len(objects):
            return NOTHING_HELD, tuple(objects)
        dropped: list[ObjectId] = []
        dropped_bytes = dropped_offsets = 0
        for object_id, _ in zip(objects.iterate(0), range(count), strict=False):
            gone = self._range(object_id)
            dropped.append(object_id)
            dropped_bytes += gone.size
            dropped_offsets += gone.end - gone.start
        left = Holding(
            objects.splice(0, count, (), self._start_of),
            self._holding.stored_bytes - dropped_bytes,
            self._holding.stored_offsets - dropped_offsets,
        )
        return left, dropped

    def replaced_by(self, object_id: ObjectId, by: StreamRange) -> tuple[Holding, Sequence[ObjectId]]:
        """What is held once one range of an object that is not committed yet takes the place of all between its ends.

        And whose ranges those were. For whoever knows that they are the right ones: what they begin and end with is the
        caller's business, see `replaced`; here it is a bug when they do not fit.
        """
        objects = self._holding.objects
        place = self._place_above(by.start)
        gone: list[ObjectId] = []
        size = offsets = 0
        start, end = None, by.start
        for other in objects.iterate(place):
            found = self._range(other)
            if found.start >= by.end:
                break
            start = found.start if start is None else start
            gone.append(other)
            size += found.size
            offsets += found.end - found.start
            end = found.end
        assert (start, end) == (by.start, by.end), f"object {object_id} begins or ends within a span"
        assert object_id not in self._objects
        left = Holding(
            objects.splice(place, len(gone), ((object_id, by.start),), self._start_of),
            self._holding.stored_bytes + by.size - size,
            self._holding.stored_offsets + (by.end - by.start) - offsets,
        )
        return left, gone

    def replaced(self, named: Sequence[ObjectSpan], by: Sequence[ObjectSpan]) -> Holding:
        """What is held once the spans `named` are swapped for those of objects that are not committed yet.

        `named` must be spans that follow each other, exactly as they are now: raises NotAsNamed when they are not.
        Those of `by` begin where the first of them begins and end where the last one ends, ascend, leave out no offset
        that was held, and lie in an object each: else it is the caller's bug.
        """
        objects = self._holding.objects
        place = self._place_above(named[0].start)
        found = [self.span(object_id) for object_id, _ in zip(objects.iterate(place), named, strict=False)]
        if found != list(named):
            raise NotAsNamed(self._stream, named, found)
        assert is_cover(named, by), f"{_texts(by)} do not hold what {_texts(named)} hold"
        assert not any(span.object_id in self._objects for span in by)
        return Holding(
            objects.splice(place, len(named), [(span.object_id, span.start) for span in by], self._start_of),
            self._holding.stored_bytes + sum(span.size for span in by) - sum(span.size for span in named),
            self._holding.stored_offsets + _offsets(by) - _offsets(named),
        )

    def _place_above(self, offset: Offset, *, near_start: int = 1) -> int:
        """The first that ends above `offset`; the first `near_start` are tried before any other."""
        # Retention asks for the oldest, and forgets few: halving its way to them would cost several times more.
        for place, object_id in enumerate(islice(self._holding.objects.iterate(0), near_start)):
            if self._end_of(object_id) > offset:
                return place
        return self._holding.objects.place_above(offset, self._end_of)

    def _range(self, object_id: ObjectId) -> StreamRange:
        found = find(self._objects[object_id].ranges, self._stream)
        assert found is not None, f"object {object_id} holds nothing of stream {self._stream}"
        return found

    def _start_of(self, object_id: ObjectId) -> Offset:
        return self._range(object_id).start

    def _end_of(self, object_id: ObjectId) -> Offset:
        return self._range(object_id).end


def extended(holding: Holding, object_id: ObjectId, added: StreamRange) -> Holding:
    """With one more object, whose range lies above all the others."""
    return Holding(
        holding.objects.append(object_id, added.start),
        holding.stored_bytes + added.size,
        holding.stored_offsets + added.end - added.start,
    )


def is_cover(named: Sequence[ObjectSpan], by: Sequence[ObjectSpan]) -> bool:
    """Whether `by` holds each offset that `named` holds, once, from the same first offset to the same last one."""
    if not named or not by or len({span.object_id for span in by}) != len(by):
        return False
    holes = {
        (before.end, after.start) for before, after in zip(named, named[1:], strict=False) if before.end < after.start
    }
    return (
        by[0].start == named[0].start
        and by[-1].end == named[-1].end
        and all(span.start < span.end for span in by)
        and all(before.end <= after.start for before, after in zip(by, by[1:], strict=False))
        and all(
            before.end == after.start or any(start <= before.end and after.start <= end for start, end in holes)
            for before, after in zip(by, by[1:], strict=False)
        )
    )


def _offsets(spans: Sequence[ObjectSpan]) -> int:
    return sum(span.end - span.start for span in spans)


def _texts(spans: Sequence[ObjectSpan]) -> str:
    return ", ".join(f"object {span.object_id} [{span.start}, {span.end})" for span in spans) or "nothing"
