"""What the commit check lets through of an object, range by range, is what its record says."""

from hypothesis import given
from hypothesis import strategies as st

from automq.ids import BrokerEpoch, NodeId, ObjectId, Offset, StreamId
from automq.metadata.committed_object import MERGED_RANGES, CommittedRanges, ranges_committed, ranges_of
from automq.metadata.packed_ranges import StreamRange
from automq.metadata.records import (
    CommittedObject,
    CompactedObject,
    ObjectsCommitted,
    ObjectsCompacted,
    PrefixOwnerSet,
    RecordedRange,
)

PARTS = st.tuples(st.integers(0, 5), st.integers(0, 1))
BASE, NONE = 1, 0


def gathered(*recorded: RecordedRange) -> CommittedObject:
    ranges = CommittedRanges()
    for item in recorded:
        ranges.add(item)
    return ranges.finish(object_id=ObjectId(1), size=9)


def recorded(stream: int, start: int, end: int, *, checkpoint: int = 0, timestamp: int = 0) -> RecordedRange:
    return RecordedRange(StreamId(stream), Offset(start), Offset(end), end - start, timestamp, checkpoint)


def test_ranges_come_by_stream_with_their_checkpoints() -> None:
    made = gathered(recorded(5, 0, 3), recorded(2, 7, 9, checkpoint=BASE, timestamp=4))

    assert list(ranges_of(made)) == [
        (StreamRange(StreamId(2), Offset(7), Offset(9), 2, 4), BASE),
        (StreamRange(StreamId(5), Offset(0), Offset(3), 3, 0), NONE),
    ]
    assert (made.object_id, made.size, made.others) == (1, 9, ())


def test_ranges_of_two_epochs_of_a_stream_are_one() -> None:
    made = gathered(recorded(5, 0, 3, timestamp=8), recorded(5, 3, 10, checkpoint=BASE, timestamp=6))

    assert list(ranges_of(made)) == [(StreamRange(StreamId(5), Offset(0), Offset(10), 10, 8), BASE)]


def test_a_checkpoint_between_two_ranges_of_a_stream_is_of_its_own_offset() -> None:
    made = gathered(recorded(5, 0, 3, checkpoint=BASE), recorded(5, 3, 10))

    assert list(ranges_of(made)) == [(StreamRange(StreamId(5), Offset(0), Offset(10), 10, 0), NONE)]
    assert made.others == (recorded(5, 3, 3, checkpoint=BASE),)


def test_empty_ranges_move_ends_and_bring_checkpoints() -> None:
    made = gathered(recorded(5, 3, 3, checkpoint=BASE), recorded(6, 4, 4), recorded(7, 1, 2))

    assert list(ranges_of(made)) == [(StreamRange(StreamId(7), Offset(1), Offset(2), 1, 0), NONE)]
    assert made.others == (recorded(5, 3, 3, checkpoint=BASE), recorded(6, 4, 4))


@given(
    st.dictionaries(
        st.integers(1, 40),
        st.tuples(
            st.integers(0, 99), st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1)), min_size=1, max_size=4)
        ),
    )
)
def test_applied_one_by_one_or_as_one_record_ends_and_checkpoints_are_the_same(
    streams: dict[int, tuple[int, list[tuple[int, int]]]],
) -> None:
    items: list[RecordedRange] = []
    ends: dict[int, int] = {}
    checkpoints: dict[int, int] = {}
    held: dict[int, tuple[int, int]] = {}
    for stream, (start, parts) in streams.items():
        at = start
        for length, checkpoint in parts:
            items.append(recorded(stream, at, at + length, checkpoint=checkpoint))
            at += length
            if checkpoint:
                checkpoints[stream] = at
        ends[stream] = at
        if at > start:
            held[stream] = (start, at)

    made = gathered(*items)

    ranges = list(ranges_of(made))
    assert {found.stream: (found.start, found.end) for found, _kind in ranges} == held
    moved = [(found.stream, found.end) for found, _kind in ranges] + [(item.stream, item.end) for item in made.others]
    assert {stream: max(end for of, end in moved if of == stream) for stream in ends} == ends
    captured = {found.stream: found.end for found, kind in ranges if kind}
    captured.update({item.stream: item.end for item in made.others if item.checkpoint})
    assert captured == checkpoints


def test_ranges_of_commits_count_and_those_that_replace_others_count_for_more() -> None:
    committed = gathered(recorded(5, 0, 3), recorded(6, 0, 3))
    commit = ObjectsCommitted(NodeId(1), BrokerEpoch(1), 1, (committed, committed))
    compacted = CompactedObject(object_id=ObjectId(2), size=9, ranges=committed.ranges)
    swap = ObjectsCompacted(node=NodeId(1), epoch=BrokerEpoch(1), generation=1, objects=(compacted,))

    assert ranges_committed([commit, PrefixOwnerSet(owner="uid"), commit]) == 8
    assert ranges_committed([swap]) == 2 * MERGED_RANGES
