"""The metadata of 10,000 and of 100,000 partitions: what they keep and what is done, counted and not timed."""

import sys

import pytest

from automq.controller.commit_check import judge
from automq.ids import BrokerEpoch, Offset, StreamId
from automq.metadata import snapshot_format
from automq.metadata.image import EMPTY, MetadataImage
from automq.metadata.packed_ranges import count_of
from automq.metadata.records import encode_record
from automq.metadata.replay import MetadataMachine, replay_all
from automq.metadata.snapshot_records import to_records
from automq.metadata.spans import Spans
from automq.s3stream.model import CommitObject, CommitRequest
from tests.support.counted import blocks, calls
from tests.support.growth import NODE, Growth, new_cluster

PACKED_BYTES_MAX = 16
"""For one range: twelve times less than a Python object of two numbers takes."""


@pytest.fixture(scope="module", params=[10_000, 100_000])
def grown(request: pytest.FixtureRequest) -> Growth:
    """After some uploads, each of all partitions."""
    growth = new_cluster(request.param, remembers=True)
    growth.grow(1_000_000 // growth.partitions)
    growth.machine.take_change()
    return growth


def ranges(image: MetadataImage) -> int:
    return sum(count_of(committed.ranges) for committed in image.committed.values())


def few_streams(growth: Growth, count: int) -> CommitRequest:
    """A commit of some streams of the cluster."""
    whole = growth.request()
    (only,) = whole.objects
    some = CommitObject(object_id=only.object_id, size=only.size, ranges=only.ranges[:count])
    return CommitRequest(objects=[some], node=NODE, epoch=BrokerEpoch(1), trim_to=whole.trim_to)


def test_b1_nothing_is_kept_for_a_stream_in_an_object_but_packed_numbers(grown: Growth) -> None:
    before = ranges(grown.machine.image)
    uploads = 200_000 // grown.partitions + 1

    _, kept = blocks(lambda: (grown.grow(uploads), grown.machine.take_change(), grown.machine.image)[0])

    added = ranges(grown.machine.image) - before
    assert added == uploads * grown.partitions
    # An object has some; a stream's numbers grow out of the small integers once.
    assert kept <= 3 * grown.partitions + 50 * uploads


def test_b1_a_range_takes_a_few_bytes(grown: Growth) -> None:
    image = grown.machine.image
    of_objects = sum(sys.getsizeof(committed.ranges) for committed in image.committed.values())
    of_streams = sum(sys.getsizeof(chunk) for stream in image.streams.values() for chunk in stream.held.objects.chunks)

    per_range = (of_objects + of_streams - grown.partitions * sys.getsizeof(b"")) / ranges(image)
    assert per_range <= PACKED_BYTES_MAX


def test_b1_a_commit_costs_its_ranges_and_not_the_cluster(grown: Growth) -> None:
    small = new_cluster(100, remembers=True)
    small.grow(len(grown.machine.image.committed))
    small.machine.take_change()

    def cost(growth: Growth) -> tuple[int, int]:
        growth.machine.replay(growth.prepared())
        image = growth.machine.image
        request = few_streams(growth, 100)
        judged = calls(lambda: judge(image, request))
        (record,) = judge(image, request).records
        machine = MetadataMachine(image, remembers=True)
        applied = calls(lambda: (machine.replay(record), machine.take_change()))
        return judged, applied

    assert cost(grown) == pytest.approx(cost(small), rel=0.1)
    assert max(cost(grown)) <= 100 * 40


def test_b1_the_oldest_spans_are_found_without_looking_at_the_others(grown: Growth) -> None:
    image = grown.machine.image
    spans = image.spans_of(StreamId(7))

    assert len(spans) == len(image.committed)
    assert calls(lambda: next(spans.above(Offset(0)))) <= 120
    assert calls(lambda: spans.overlapping(Offset(grown.starts[6] // 2), Offset(grown.starts[6]), limit=1)) <= 300


def test_b1_a_trim_costs_what_it_drops(grown: Growth) -> None:
    image = grown.machine.image
    stream = image.streams[StreamId(7)]
    spans = Spans(stream.stream, stream.held, image.committed)
    first, second = list(spans.overlapping(Offset(0), stream.end, limit=2))

    assert list(spans.without_below(second.start)[1]) == [first.object_id]
    assert calls(lambda: spans.without_below(second.start)) <= 600


def test_b1_a_snapshot_takes_a_few_bytes_a_range_and_its_blocks_are_small(grown: Growth) -> None:
    image = grown.machine.image
    records = list(to_records(image))
    sizes = [len(encode_record(record)) for record in records]

    assert sum(sizes) <= PACKED_BYTES_MAX * ranges(image) + 100 * grown.partitions
    # A record of many ranges is copied, not worked on.
    assert max(sizes) <= max(snapshot_format.BLOCK_BYTES, PACKED_BYTES_MAX * grown.partitions)


def test_b1_a_start_does_not_look_at_a_snapshots_ranges(grown: Growth) -> None:
    image = grown.machine.image
    records = list(to_records(image))

    restored = calls(lambda: replay_all(EMPTY, records))
    of_none = list(to_records(new_cluster(grown.partitions).machine.image))

    assert restored - calls(lambda: replay_all(EMPTY, of_none)) <= 50 * len(image.committed) + 20 * grown.partitions
