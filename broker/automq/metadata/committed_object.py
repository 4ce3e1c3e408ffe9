"""Pure: the ranges of one object that the commit check let through, gathered one by one, as a record carries them.

A stream that was opened anew while a block was filled has several ranges in one object. They are neighbours, because
the commit check lets nothing else through, and become one: an object has at most one range of a stream.
"""

from collections.abc import Generator, Iterator, Sequence
from typing import Final

from automq.ids import ObjectId, Offset, StreamId
from automq.metadata.packed_ranges import PackedRanges, StreamRange, check, count_of, pack_in_turns, unpack
from automq.metadata.records import CommittedObject, MetadataRecord, ObjectsCommitted, ObjectsCompacted, RecordedRange
from automq.steps import at_once

MERGED_RANGES: Final = 16
# About how long a thousand ranges take.
CHECK_US: Final = 300


class CommittedRanges:
    """What is let through of one object so far."""

    def __init__(self) -> None:
        self._ranges: dict[StreamId, StreamRange] = {}
        self._ends: dict[StreamId, Offset] = {}
        self._checkpoints: dict[StreamId, tuple[Offset, int]] = {}

    def add(self, recorded: RecordedRange, *, position: int = 0) -> None:
        """In the order in which they were judged. `position`: where its blocks lie in the object; 0: not known."""
        stream = recorded.stream
        end = self._ends.get(stream)
        if end is None or end < recorded.end:
            self._ends[stream] = recorded.end
        if recorded.checkpoint:
            self._checkpoints[stream] = (recorded.end, int(recorded.checkpoint))
        if recorded.start < recorded.end:
            more = StreamRange(stream, recorded.start, recorded.end, recorded.size, recorded.max_timestamp_ms, position)
            before = self._ranges.get(stream)
            self._ranges[stream] = more if before is None else join(before, more)

    def finish(self, *, object_id: ObjectId, size: int) -> CommittedObject:
        """All of it."""
        return at_once(self.finish_in_turns(object_id=object_id, size=size))

    def finish_in_turns(self, *, object_id: ObjectId, size: int) -> Generator[int, None, CommittedObject]:
        """As `finish`, for ranges by the ten thousand."""
        packed = yield from pack_in_turns(self._ranges.values())
        kinds = bytearray(len(self._ranges) if self._checkpoints else 0)
        if self._checkpoints:
            for place, stream in enumerate(sorted(self._ranges)):
                offset, kind = self._checkpoints.get(stream, (None, 0))
                if offset == self._ranges[stream].end:
                    kinds[place] = kind
            yield CHECK_US * len(kinds) // 1000
        others: list[RecordedRange] = []
        for stream, end in self._ends.items():
            held = self._ranges.get(stream)
            at, kind = self._checkpoints.get(stream, (end, 0))
            if held is None or at != held.end:
                # Nothing of a range is left, or the checkpoint was captured before a range that has none.
                others.append(RecordedRange(stream, at, at, 0, 0, kind))
                if held is None and at < end:
                    others.append(RecordedRange(stream, end, end, 0, 0, 0))
        yield CHECK_US * len(self._ends) // 1000
        return CommittedObject(
            object_id=object_id, size=size, ranges=packed, checkpoints=bytes(kinds), others=tuple(others)
        )


def ranges_of(committed: CommittedObject) -> Iterator[tuple[StreamRange, int]]:
    """Each range, and how many pieces of its checkpoint are kept with the one that the object has, or 0.

    Raises ValueError if damaged.
    """
    kinds = committed.checkpoints
    for place, held in enumerate(unpack(check(committed.ranges))):
        yield held, kinds[place] if kinds else 0


def join(before: StreamRange, more: StreamRange) -> StreamRange:
    """Two ranges of one stream in one object as one."""
    assert before.end == more.start
    return StreamRange(
        before.stream,
        before.start,
        more.end,
        before.size + more.size,
        max(before.max_timestamp_ms, more.max_timestamp_ms),
        before.position if before.position + before.size == more.position else 0,
    )


def ranges_committed(records: Sequence[MetadataRecord]) -> int:
    """How many ranges these records add to streams: what takes long to replay.

    One that takes the place of others counts for as many as a merge usually replaces.
    """
    return sum(
        count_of(PackedRanges(changed.ranges)) * (1 if isinstance(record, ObjectsCommitted) else MERGED_RANGES)
        for record in records
        if isinstance(record, ObjectsCommitted | ObjectsCompacted)
        for changed in record.objects
    )
