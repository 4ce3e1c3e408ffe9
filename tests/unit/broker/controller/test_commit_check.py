"""The commit check, clause by clause, and against a model that knows single offsets."""

import dataclasses
import uuid
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from automq.controller.commit_check import RANGES_MAX, judge
from automq.ids import BrokerEpoch, NodeId, ObjectId, Offset, StreamEpoch, StreamId, TopicId
from automq.metadata.checkpoint_refs import unpack_refs
from automq.metadata.image import EMPTY, MetadataImage
from automq.metadata.log import APPEND_BYTES_MAX
from automq.metadata.packed_ranges import pack_columns
from automq.metadata.records import (
    BrokerFenced as BrokerFencedRecord,
)
from automq.metadata.records import (
    BrokerRegistered,
    CommittedObject,
    MetadataRecord,
    NewPartition,
    ObjectCommitted,
    ObjectsCommitted,
    ObjectsDestroyed,
    ObjectsPrepared,
    PartitionLeaderChanged,
    PartitionsCreated,
    RecordedRange,
    StreamsDeleted,
    StreamTrimmed,
    TopicCreated,
    TopicDeleted,
    WalRecovered,
    encode_record,
)
from automq.metadata.replay import replay_all
from automq.s3stream.model import (
    BrokerFenced,
    CommitObject,
    CommitRange,
    CommitRequest,
    CommitResult,
    CommitTooLarge,
    ObjectRefused,
    RangeVerdict,
)
from tests.support.metadata_worlds import check

ME, OTHER = (NodeId(1), BrokerEpoch(1)), (NodeId(2), BrokerEpoch(2))
TOPIC = TopicId(uuid.UUID(int=1))
STREAM, SECOND = StreamId(1), StreamId(2)
ACCEPTED, DROPPED, CLIPPED, REFUSED = (
    RangeVerdict.ACCEPTED,
    RangeVerdict.DROPPED,
    RangeVerdict.CLIPPED,
    RangeVerdict.REFUSED,
)

BASE = replay_all(
    EMPTY,
    [
        BrokerRegistered(node=ME[0], epoch=ME[1], rack=None, endpoints=()),
        BrokerRegistered(node=OTHER[0], epoch=OTHER[1], rack=None, endpoints=()),
        TopicCreated(topic_id=TOPIC, name="t", is_internal=False, replication_factor=1),
        PartitionsCreated(
            topic_id=TOPIC,
            partitions=(
                NewPartition(index=0, stream=STREAM, leader=ME[0]),
                NewPartition(index=1, stream=SECOND, leader=ME[0]),
            ),
        ),
        ObjectsPrepared(first=ObjectId(1), count=50, node=ME[0], epoch=ME[1], expires_ms=1),
    ],
)


def a_range(
    start: int, end: int, *, stream: StreamId = STREAM, epoch: int = 0, checkpoint: bool = False
) -> CommitRange:
    return CommitRange(
        stream=stream,
        epoch=StreamEpoch(epoch),
        start=Offset(start),
        end=Offset(end),
        size=end - start,
        max_timestamp_ms=end,
        checkpoint=int(checkpoint),
    )


def request(*ranges: CommitRange, object_id: int | None = 1, trim_to: int = 1) -> CommitRequest:
    objects = [] if object_id is None else [an_object(object_id, *ranges)]
    return CommitRequest(objects=objects, node=ME[0], epoch=ME[1], trim_to=trim_to)


def an_object(object_id: int, *ranges: CommitRange) -> CommitObject:
    return CommitObject(object_id=ObjectId(object_id), size=100, ranges=ranges)


def commit(image: MetadataImage, wanted: CommitRequest) -> tuple[MetadataImage, CommitResult]:
    decision = judge(image, wanted)
    after = replay_all(image, decision.records)
    check(after)
    return after, decision.response


def after(image: MetadataImage, *records: MetadataRecord) -> MetadataImage:
    return replay_all(image, records)


def committed(*ends: int, stream: StreamId = STREAM) -> MetadataImage:
    """The base, with objects up to each of `ends` from the one before."""
    image, start = BASE, 0
    for number, end in enumerate(ends):
        image, _ = commit(image, request(a_range(start, end, stream=stream), object_id=40 + number, trim_to=0))
        start = end
    return image


def trimmed(image: MetadataImage, start: int) -> MetadataImage:
    return after(image, StreamTrimmed(stream=STREAM, start=Offset(start)))


def test_a_range_at_the_streams_end_by_its_owner_is_accepted() -> None:
    image, result = commit(BASE, request(a_range(0, 10)))

    assert result == CommitResult(verdicts=[ACCEPTED], trimmed_to=1)
    assert image.streams[STREAM].end == 10
    assert [span.object_id for span in image.spans(STREAM, Offset(0), Offset(10), limit=9)] == [1]
    assert image.wals[ME].trim_to == 1


@pytest.mark.parametrize(("start", "end"), [(9, 12), (11, 12), (0, 10), (5, 9)])
def test_a_hole_or_an_overlap_is_refused(start: int, end: int) -> None:
    image, result = commit(committed(10), request(a_range(start, end), trim_to=7))

    assert result == CommitResult(verdicts=[REFUSED], trimmed_to=0)
    assert image.streams[STREAM].end == 10
    assert image.wals[ME].trim_to == 0
    assert image.committed[ObjectId(1)].references == 0


def test_what_was_written_at_another_stream_epoch_is_refused() -> None:
    _, result = commit(BASE, request(a_range(0, 10, epoch=1)))
    assert result.verdicts == [REFUSED]


def test_a_stream_that_has_another_owner_is_refused_and_lets_the_log_go() -> None:
    moved = PartitionLeaderChanged(topic_id=TOPIC, index=0, leader=OTHER[0], leader_epoch=StreamEpoch(1))
    image, result = commit(after(BASE, moved), request(a_range(0, 10), a_range(0, 5, stream=SECOND), trim_to=7))

    assert result == CommitResult(verdicts=[REFUSED, ACCEPTED], trimmed_to=7)
    assert image.streams[STREAM].end == 0
    assert image.streams[SECOND].end == 5


def test_what_was_written_at_a_later_epoch_than_the_metadata_know_keeps_the_log() -> None:
    """The record of the opening is lost: the log is all that is left of what was acknowledged under it."""
    _, result = commit(BASE, request(a_range(0, 10, epoch=9), trim_to=7))
    assert result.verdicts == [RangeVerdict.REFUSED]
    assert result.trimmed_to == 0


def test_one_refused_range_of_ones_own_stream_keeps_the_log() -> None:
    _, result = commit(BASE, request(a_range(1, 10), a_range(0, 5, stream=SECOND), trim_to=7))
    assert result == CommitResult(verdicts=[REFUSED, ACCEPTED], trimmed_to=0)


def test_a_deleted_stream_is_dropped_and_lets_the_log_go() -> None:
    gone = after(BASE, StreamsDeleted(streams=(STREAM, SECOND)), TopicDeleted(topic_id=TOPIC))
    image, result = commit(gone, request(a_range(3, 10), trim_to=7))

    assert result == CommitResult(verdicts=[DROPPED], trimmed_to=7)
    assert ObjectId(1) in image.unreferenced


def test_a_range_across_the_trim_point_is_clipped() -> None:
    image, result = commit(trimmed(committed(10), 15), request(a_range(10, 20)))

    assert result.verdicts == [CLIPPED]
    assert [(span.start, span.end) for span in image.spans_of(STREAM)] == [(15, 20)]
    assert image.streams[STREAM].end == 20


def test_a_range_below_the_trim_point_moves_the_end_all_the_same() -> None:
    image, result = commit(trimmed(committed(10), 30), request(a_range(10, 20)))

    assert result.verdicts == [CLIPPED]
    assert len(image.spans_of(STREAM)) == 0
    assert (image.streams[STREAM].end, image.streams[STREAM].next_offset) == (20, 30)


def test_an_owner_that_opened_at_the_trim_point_goes_on_there() -> None:
    image, result = commit(trimmed(committed(10), 30), request(a_range(30, 40)))
    assert (result.verdicts, image.streams[STREAM].end) == ([ACCEPTED], 40)


def test_a_clipped_range_never_moves_the_end_back() -> None:
    image, result = commit(trimmed(committed(50), 30), request(a_range(10, 20)))
    assert (result.verdicts, image.streams[STREAM].end) == ([CLIPPED], 50)


def test_a_clipped_range_that_overlaps_what_is_committed_is_refused() -> None:
    _, result = commit(trimmed(committed(50), 30), request(a_range(10, 40)))
    assert result.verdicts == [REFUSED]


def test_a_committed_object_is_a_success_with_the_same_answer() -> None:
    wanted = request(a_range(0, 10), a_range(3, 5, stream=SECOND), trim_to=7)
    image, first = commit(BASE, wanted)
    decision = judge(image, wanted)

    assert decision.records == ()
    assert decision.response == first == CommitResult(verdicts=[ACCEPTED, REFUSED], trimmed_to=0)


@pytest.mark.parametrize("state", ["unknown", "destroyed"])
def test_an_object_that_is_not_prepared_is_refused_whole(state: str) -> None:
    image = BASE
    if state == "destroyed":
        image = after(image, ObjectsDestroyed(objects=(ObjectId(1),), at_ms=1))
    with pytest.raises(ObjectRefused):
        judge(image, request(a_range(0, 10), object_id=1 if state == "destroyed" else 999))


def test_a_fenced_broker_commits_nothing() -> None:
    fence = BrokerFencedRecord(node=ME[0], epoch=ME[1], recoverer_node=OTHER[0], recoverer_epoch=OTHER[1])
    with pytest.raises(BrokerFenced):
        judge(after(BASE, fence), request(a_range(0, 10)))
    with pytest.raises(BrokerFenced):
        judge(after(BASE, fence), request(object_id=None))


def test_the_named_recoverer_commits_for_a_fenced_broker() -> None:
    fence = BrokerFencedRecord(node=ME[0], epoch=ME[1], recoverer_node=OTHER[0], recoverer_epoch=OTHER[1])
    wanted = dataclasses.replace(request(a_range(0, 10)), recoverer=OTHER)
    image, result = commit(after(BASE, fence), wanted)
    assert (result.verdicts, image.streams[STREAM].end) == ([ACCEPTED], 10)


@pytest.mark.parametrize("recoverer", [(NodeId(1), BrokerEpoch(1)), (NodeId(2), BrokerEpoch(3))])
def test_nobody_else_commits_for_a_fenced_broker(recoverer: tuple[NodeId, BrokerEpoch]) -> None:
    fence = BrokerFencedRecord(node=ME[0], epoch=ME[1], recoverer_node=OTHER[0], recoverer_epoch=OTHER[1])
    wanted = dataclasses.replace(request(a_range(0, 10)), recoverer=recoverer)
    with pytest.raises(BrokerFenced):
        judge(after(BASE, fence), wanted)


def test_nobody_recovers_a_broker_that_is_not_fenced() -> None:
    with pytest.raises(BrokerFenced):
        judge(BASE, dataclasses.replace(request(a_range(0, 10)), recoverer=OTHER))


def test_a_recoverer_that_was_fenced_itself_commits_nothing() -> None:
    image = after(
        BASE,
        BrokerFencedRecord(node=ME[0], epoch=ME[1], recoverer_node=OTHER[0], recoverer_epoch=OTHER[1]),
        BrokerRegistered(node=OTHER[0], epoch=BrokerEpoch(3), rack=None, endpoints=()),
    )
    with pytest.raises(BrokerFenced):
        judge(image, dataclasses.replace(request(a_range(0, 10)), recoverer=OTHER))


def test_nothing_is_committed_for_a_log_that_is_recovered() -> None:
    with pytest.raises(BrokerFenced):
        judge(after(BASE, WalRecovered(node=ME[0], epoch=ME[1])), request(a_range(0, 10)))


def test_a_commit_without_an_object_moves_the_log_only() -> None:
    image, result = commit(BASE, request(object_id=None, trim_to=9))
    assert (result.trimmed_to, image.wals[ME].trim_to) == (9, 9)
    assert judge(image, request(object_id=None, trim_to=3)).records == ()


def test_an_object_with_the_newest_checkpoint_lives_until_a_newer_one() -> None:
    image, _ = commit(BASE, request(a_range(0, 10, checkpoint=True), object_id=1))
    image = trimmed(image, 10)
    assert image.committed[ObjectId(1)].references == 1

    image, _ = commit(image, request(a_range(10, 20), object_id=2))
    assert pieces(image) == [(1, 10)]

    image, _ = commit(image, request(a_range(20, 30, checkpoint=True), object_id=3))
    assert ObjectId(1) in image.unreferenced
    state = image.stream_state(STREAM)
    assert state is not None
    assert [(piece.object_id, piece.offset) for piece in state.checkpoints] == [(3, 30)]


def test_a_checkpoint_alone_is_an_empty_range_at_the_end() -> None:
    image, result = commit(committed(10), request(a_range(10, 10, checkpoint=True)))
    assert (result.verdicts, pieces(image)) == ([ACCEPTED], [(1, 10)])


def test_an_older_checkpoint_replaces_nothing() -> None:
    image, _ = commit(BASE, request(a_range(0, 50, checkpoint=True), object_id=1))
    image, _ = commit(trimmed(image, 30), request(a_range(10, 20, checkpoint=True), object_id=2))
    assert pieces(image) == [(1, 50)]


def test_ranges_of_one_stream_follow_each_other_in_one_request() -> None:
    image, result = commit(BASE, request(a_range(0, 10), a_range(10, 15), a_range(16, 20)))
    assert (result.verdicts, image.streams[STREAM].end) == ([ACCEPTED, ACCEPTED, REFUSED], 15)


def block(*objects: CommitObject, trim_to: int = 7) -> CommitRequest:
    return dataclasses.replace(request(object_id=None, trim_to=trim_to), objects=objects)


def test_all_objects_of_a_block_are_one_record_that_moves_the_log_once() -> None:
    wanted = block(an_object(1, a_range(0, 10)), an_object(2, a_range(0, 5, stream=SECOND)))

    assert len(judge(BASE, wanted).records) == 1
    image, result = commit(BASE, wanted)

    assert result == CommitResult(verdicts=[ACCEPTED, ACCEPTED], trimmed_to=7)
    held = {stream: [span.object_id for span in image.spans_of(stream)] for stream in (STREAM, SECOND)}
    assert held == {STREAM: [1], SECOND: [2]}
    assert (image.wals[ME].trim_to, image.wals[ME].newest_objects) == (7, (1, 2))


def test_a_refused_range_of_one_object_keeps_the_log_for_all() -> None:
    wanted = block(an_object(1, a_range(3, 10)), an_object(2, a_range(0, 5, stream=SECOND)))
    image, result = commit(BASE, wanted)

    assert result == CommitResult(verdicts=[REFUSED, ACCEPTED], trimmed_to=0)
    assert (image.streams[SECOND].end, image.wals[ME].newest_refused) == (5, (STREAM,))


@pytest.mark.parametrize("ids", [(1, 999), (999, 1), (1, 1)])
def test_one_object_that_is_not_prepared_refuses_the_whole_block(ids: tuple[int, int]) -> None:
    with pytest.raises(ObjectRefused):
        judge(BASE, block(an_object(ids[0], a_range(0, 10)), an_object(ids[1], a_range(0, 5, stream=SECOND))))


@pytest.mark.parametrize("destroyed", [(), (1,), (1, 2)])
def test_a_repeated_block_gets_its_answer_whatever_became_of_its_objects(destroyed: Sequence[int]) -> None:
    wanted = block(an_object(1, a_range(0, 10)), an_object(2, a_range(2, 5, stream=SECOND)))
    image, first = commit(BASE, wanted)
    for number in destroyed:
        image = trimmed(image, 10)
        image = after(image, ObjectsDestroyed(objects=(ObjectId(number),), at_ms=1))

    decision = judge(image, wanted)

    assert (decision.records, decision.response) == ((), first)


def test_only_the_newest_commit_may_be_asked_for_again() -> None:
    first = block(an_object(1, a_range(0, 10)))
    image, _ = commit(BASE, first)
    image, _ = commit(image, block(an_object(2, a_range(10, 20))))
    with pytest.raises(ObjectRefused):
        judge(image, first)


def test_a_commit_of_an_older_program_replays_to_the_same_image() -> None:
    wanted = request(a_range(0, 10, checkpoint=True), a_range(10, 15), a_range(3, 5, stream=SECOND))
    (record,) = judge(BASE, wanted).records
    assert isinstance(record, ObjectsCommitted)
    (only,) = record.objects
    older = ObjectCommitted(
        object_id=only.object_id,
        size=only.size,
        node=record.node,
        epoch=record.epoch,
        trim_to=record.trim_to,
        ranges=(
            RecordedRange(STREAM, Offset(0), Offset(10), 10, 10, True),
            RecordedRange(STREAM, Offset(10), Offset(15), 5, 15, False),
        ),
        refused=record.refused,
    )
    assert after(BASE, older) == after(BASE, record)


def pieces(image: MetadataImage) -> list[tuple[int, int]]:
    return list(unpack_refs(image.streams[STREAM].checkpoints))


def test_so_many_pieces_of_checkpoints_are_kept_as_the_newest_says() -> None:
    image = BASE
    for number, kept in enumerate([1, 2, 3, 0, 9, 2], start=1):
        item = structs.replace(a_range(number, number + 1), start=Offset(number - 1), end=Offset(number))
        image, _ = commit(image, request(structs.replace(item, checkpoint=kept), object_id=number))
        expected = {1: [1], 2: [1, 2], 3: [1, 2, 3], 4: [1, 2, 3], 5: [1, 2, 3, 5], 6: [5, 6]}[number]
        assert pieces(image) == [(piece, piece) for piece in expected]
    image = trimmed(image, 6)

    assert sorted(image.unreferenced) == [1, 2, 3, 4]
    state = image.stream_state(STREAM)
    assert state is not None
    assert [piece.is_alone for piece in state.checkpoints] == [True, True]


def test_an_object_with_records_of_anybody_lives_not_for_its_checkpoints_alone() -> None:
    wanted = request(a_range(0, 5, checkpoint=True), a_range(0, 5, stream=SECOND, checkpoint=True))
    image, _ = commit(BASE, wanted)
    image = trimmed(image, 5)
    state = image.stream_state(STREAM)
    assert state is not None
    assert [piece.is_alone for piece in state.checkpoints] == [False]


class Model:
    """Knows for every single offset of one stream which object holds it."""

    def __init__(self) -> None:
        self.holder: dict[int, int] = {}
        self.given = 0
        self.trim = 0

    def commit(self, number: int, start: int, end: int) -> RangeVerdict:
        left = [offset for offset in range(start, end) if offset >= self.trim]
        first_free = max(self.given, self.trim)
        if not left and start < self.trim:
            verdict = CLIPPED
        elif left and left[0] == first_free or not left and start == first_free:
            verdict = ACCEPTED if start == max(start, self.trim) else CLIPPED
        else:
            return REFUSED
        self.given = max(self.given, end)
        self.holder.update(dict.fromkeys(left, number))
        return verdict

    def cut(self, start: int) -> None:
        self.trim = max(self.trim, start)
        self.holder = {offset: holder for offset, holder in self.holder.items() if offset >= self.trim}


STEPS = st.lists(
    st.tuples(st.sampled_from(["commit", "commit", "commit", "trim"]), st.integers(-4, 4), st.integers(0, 9)),
    max_size=25,
)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_every_offset_is_held_by_the_object_that_the_model_says(steps: Sequence[tuple[str, int, int]]) -> None:
    image, model, number = BASE, Model(), 0
    for action, shift, length in steps:
        if action == "trim":
            start = max(0, model.given + shift + length // 3)
            image, _ = trimmed(image, start), model.cut(start)
            continue
        number += 1
        start = max(0, max(model.given, model.trim if length % 2 else 0) + (shift if length > 5 else 0))
        image, result = commit(image, request(a_range(start, start + length), object_id=number))
        assert list(result.verdicts) == [model.commit(number, start, start + length)]
        stream = image.streams[STREAM]
        spans = image.spans_of(STREAM)
        held = {offset: s.object_id for s in spans for offset in range(max(s.start, stream.start), s.end)}
        assert held == model.holder
        assert (stream.end, stream.start) == (model.given, model.trim)


def test_b17_a_commit_that_fits_no_slot_is_refused_with_what_fits() -> None:
    ranges = [a_range(0, 1)] * (RANGES_MAX + 1)
    with pytest.raises(CommitTooLarge) as caught:
        judge(committed(), request(*ranges))
    assert (caught.value.ranges, caught.value.ranges_max) == (RANGES_MAX + 1, RANGES_MAX)


def test_b17_the_largest_commit_fits_into_a_slot() -> None:
    """Every number as long as it can be, and every range refused besides."""
    widest = 2**63 - 1
    wide = (0, *[widest] * (RANGES_MAX - 1))
    counts = (1, *wide[1:])
    ranges = pack_columns(range(0, RANGES_MAX << 33, 1 << 33), wide, counts, wide, wide)
    assert len(ranges) > 5 * 8 * RANGES_MAX
    record = ObjectsCommitted(
        node=NodeId(widest),
        epoch=BrokerEpoch(widest),
        trim_to=widest,
        objects=(CommittedObject(ObjectId(widest), widest, ranges, checkpoints=bytes(RANGES_MAX)),),
        refused=(StreamId(widest),) * RANGES_MAX,
    )
    assert len(encode_record(record)) <= APPEND_BYTES_MAX
