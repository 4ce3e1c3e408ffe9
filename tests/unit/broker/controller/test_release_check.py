"""When a stream that its owner has sealed gets its new one, clause by clause."""

import uuid
from collections.abc import Sequence

import pytest

from automq.controller.commit_check import judge
from automq.ids import BrokerEpoch, NodeId, ObjectId, Offset, StreamEpoch, StreamId, TopicId
from automq.metadata.image import EMPTY, MetadataImage
from automq.metadata.move_records import MoveCause, MovingPartition, NamedMove, ReleasedStream
from automq.metadata.records import (
    BrokerFenced,
    BrokerRegistered,
    BrokerStopping,
    MetadataRecord,
    MovesCancelled,
    NewPartition,
    ObjectsPrepared,
    PartitionLeaderChanged,
    PartitionsCreated,
    PartitionsMoving,
    StreamsDeleted,
    StreamsQuarantined,
    StreamsReleased,
    StreamTrimmed,
    TopicCreated,
    TopicDeleted,
)
from automq.metadata.replay import replay_all
from automq.metadata.snapshot_records import to_records
from automq.s3stream.model import CommitObject, CommitRange, CommitRequest, CommitResult, RangeVerdict, StreamRelease
from tests.support.metadata_worlds import check

ME, TARGET, THIRD = (NodeId(1), BrokerEpoch(1)), (NodeId(2), BrokerEpoch(2)), (NodeId(3), BrokerEpoch(3))
TOPIC = TopicId(uuid.UUID(int=1))
FIRST, SECOND = StreamId(1), StreamId(2)
ACCEPTED, REFUSED = RangeVerdict.ACCEPTED, RangeVerdict.REFUSED


def moving(*streams: StreamId, target: tuple[NodeId, BrokerEpoch] = TARGET) -> PartitionsMoving:
    partitions = tuple(MovingPartition(stream, (target[0], ME[0])) for stream in streams)
    return PartitionsMoving(*ME, *target, MoveCause.OPERATOR, partitions)


BASE = replay_all(
    EMPTY,
    [
        *(BrokerRegistered(node=node, epoch=epoch, rack=None, endpoints=()) for node, epoch in (ME, TARGET, THIRD)),
        TopicCreated(topic_id=TOPIC, name="t", is_internal=False, replication_factor=1),
        PartitionsCreated(
            topic_id=TOPIC,
            partitions=(
                NewPartition(index=0, stream=FIRST, leader=ME[0]),
                NewPartition(index=1, stream=SECOND, leader=ME[0]),
            ),
        ),
        ObjectsPrepared(first=ObjectId(1), count=9, node=ME[0], epoch=ME[1], expires_ms=1),
    ],
)
BOTH = replay_all(BASE, [moving(FIRST, SECOND)])
MOVE = BOTH.record_number


def a_release(stream: StreamId = FIRST, *, end: int = 5, move: int = MOVE, epoch: int = 0) -> StreamRelease:
    return StreamRelease(stream=stream, epoch=StreamEpoch(epoch), move=move, end=Offset(end))


def a_range(stream: StreamId = FIRST, start: int = 0, end: int = 5) -> CommitRange:
    return CommitRange(
        stream=stream, epoch=StreamEpoch(0), start=Offset(start), end=Offset(end), size=9, max_timestamp_ms=0
    )


def request(
    *releases: StreamRelease, ranges: Sequence[CommitRange] = (a_range(),), object_id: int = 1, trim_to: int = 1
) -> CommitRequest:
    objects = [CommitObject(object_id=ObjectId(object_id), size=10, ranges=ranges)] if ranges else []
    return CommitRequest(objects=objects, node=ME[0], epoch=ME[1], trim_to=trim_to, releasing=releases)


def commit(image: MetadataImage, wanted: CommitRequest) -> tuple[MetadataImage, CommitResult]:
    decision = judge(image, wanted)
    after = replay_all(image, decision.records)
    check(after)
    rebuilt = replay_all(EMPTY, to_records(after)).with_record_number(after.record_number)
    assert rebuilt == after
    return after, decision.response


def test_ranges_new_owner_and_epoch_come_in_one_append() -> None:
    after, result = commit(BOTH, request(a_release()))
    assert result == CommitResult(verdicts=[ACCEPTED], trimmed_to=1, released=(True,))
    stream, part = after.streams[FIRST], after.topic_map[TOPIC].partitions[0]
    assert (stream.owner, stream.epoch, stream.end) == (TARGET[0], 1, 5)
    assert (part.leader, part.leader_epoch, part.replicas) == (TARGET[0], 1, (TARGET[0], ME[0]))
    assert list(after.moves) == [SECOND]
    assert dict(after.leader_counts) == {ME[0]: 1, TARGET[0]: 1}
    assert judge(BOTH, request(a_release())).records[1] == StreamsReleased(
        *ME, (ReleasedStream(FIRST, MOVE, Offset(5), *TARGET, StreamEpoch(1)),)
    )


def test_streams_are_released_without_an_object_where_everything_is_committed() -> None:
    after, _ = commit(BOTH, request(ranges=[a_range()]))
    after, result = commit(after, request(a_release(), a_release(SECOND, end=0), ranges=(), trim_to=3))
    assert result == CommitResult(verdicts=[], trimmed_to=3, released=(True, True))
    assert {stream.owner for stream in after.streams.values()} == {TARGET[0]}
    assert not after.moves


@pytest.mark.parametrize("ranges", [(a_range(),), ()])
def test_a_repeated_release_gets_the_same_answer(ranges: Sequence[CommitRange]) -> None:
    """Even of another controller, which has what happened from a snapshot."""
    wanted = request(a_release(end=5 if ranges else 0), a_release(SECOND, end=3), ranges=ranges)
    after, first = commit(BOTH, wanted)
    rebuilt = replay_all(EMPTY, to_records(after)).with_record_number(after.record_number)
    for image in (after, rebuilt):
        again = judge(image, wanted)
        assert again.records == ()
        assert again.response.released == first.released == (True, False)
        assert again.response.trimmed_to == first.trimmed_to
    # The move that was void is still under way: released again, with all of it, it comes to pass.
    _, later = commit(after, request(a_release(SECOND, end=0), ranges=()))
    assert later.released == (True,)


def test_a_release_is_not_taken_for_a_repeat_of_a_commit_without_it() -> None:
    plain = request()
    after, _ = commit(BOTH, plain)
    _, result = commit(after, request(a_release(), ranges=()))
    assert result.released == (True,)


VOID: dict[str, tuple[list[MetadataRecord], StreamRelease]] = {
    "cancelled": ([MovesCancelled((FIRST,), "asked for")], a_release()),
    "replaced": ([MovesCancelled((FIRST,), "asked for"), moving(FIRST, target=THIRD)], a_release()),
    "target fenced": ([BrokerFenced(*TARGET, *THIRD)], a_release()),
    "target superseded": (
        [BrokerRegistered(TARGET[0], BrokerEpoch(9), None, ()), BrokerFenced(*TARGET, TARGET[0], BrokerEpoch(9))],
        a_release(),
    ),
    "target stops": ([BrokerStopping(*TARGET)], a_release()),
    "another opening": ([PartitionLeaderChanged(TOPIC, 0, ME[0], StreamEpoch(1))], a_release()),
    "quarantined": ([StreamsQuarantined((FIRST,), "a key", "a test", 0)], a_release()),
    "a hole before the end": ([], a_release(end=6)),
    "less than was committed": ([], a_release(end=4)),
    "another epoch": ([], a_release(epoch=1)),
    "unknown move": ([], a_release(move=MOVE + 1)),
}


@pytest.mark.parametrize("why", VOID)
def test_a_move_is_void(why: str) -> None:
    records, release = VOID[why]
    before = replay_all(BOTH, records)
    after, result = commit(before, request(release))
    assert result.released == (False,)
    assert after.streams[FIRST].owner == before.streams[FIRST].owner == ME[0]
    assert after.streams[FIRST].epoch == before.streams[FIRST].epoch


def test_a_deleted_stream_is_not_released() -> None:
    gone = replay_all(BOTH, [StreamsDeleted((FIRST, SECOND)), TopicDeleted(TOPIC)])
    assert not gone.moves
    _, result = commit(gone, request(a_release()))
    assert result == CommitResult(verdicts=[RangeVerdict.DROPPED], trimmed_to=1, released=(False,))


def test_a_refused_range_keeps_the_stream_and_the_log() -> None:
    after, result = commit(BOTH, request(a_release(end=9), ranges=[a_range(start=5, end=9)]))
    assert result == CommitResult(verdicts=[REFUSED], trimmed_to=0, released=(False,))
    assert after.moves[FIRST].move == MOVE


def test_a_stream_that_was_trimmed_beyond_its_end_is_whole() -> None:
    trimmed = replay_all(BOTH, [StreamTrimmed(FIRST, Offset(7))])
    _, result = commit(trimmed, request(a_release(end=7), ranges=()))
    assert result.released == (True,)


def test_what_the_old_owner_wrote_after_the_release_is_refused_and_keeps_no_log() -> None:
    """A zombie: its epoch is not the stream's any more, and everything acknowledged under it is committed."""
    after, _ = commit(BOTH, request(a_release()))
    _, late = commit(after, request(ranges=[a_range(start=5, end=9)], object_id=2, trim_to=4))
    assert late == CommitResult(verdicts=[REFUSED], trimmed_to=4)


def test_a_refused_range_of_an_epoch_that_the_metadata_do_not_know_keeps_the_log() -> None:
    """The record that opened the stream is lost: what was written then is in the log alone."""
    unknown = CommitRange(
        stream=FIRST, epoch=StreamEpoch(7), start=Offset(0), end=Offset(5), size=9, max_timestamp_ms=0
    )
    _, result = commit(BOTH, request(ranges=[unknown], trim_to=4))
    assert result == CommitResult(verdicts=[REFUSED], trimmed_to=0)


def test_a_recoverer_releases_nothing() -> None:
    fenced = replay_all(BOTH, [BrokerFenced(*ME, *THIRD)])
    assert not fenced.moves
    wanted = CommitRequest(objects=[], node=ME[0], epoch=ME[1], trim_to=1, recoverer=THIRD, releasing=(a_release(),))
    _, result = commit(fenced, wanted)
    assert result.released == (False,)


def test_the_fence_of_the_source_leaves_the_wish_for_failover() -> None:
    fenced = replay_all(BOTH, [BrokerFenced(*ME, *THIRD)])
    assert {part.replicas for part in fenced.topic_map[TOPIC].partitions} == {(TARGET[0], ME[0])}
    of_target = replay_all(BOTH, [BrokerFenced(*TARGET, *THIRD)])
    assert {part.replicas for part in of_target.topic_map[TOPIC].partitions} == {()}
    assert not of_target.moves


def test_a_void_release_is_named() -> None:
    decision = judge(BOTH, request(a_release(end=6)))
    assert decision.records[1] == StreamsReleased(*ME, (), (NamedMove(FIRST, MOVE),))
