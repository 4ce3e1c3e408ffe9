"""Committed offsets, where the scenarios do not reach."""

import uuid

import pytest

from automq.coordinators.group.model import CommittedOffset, GroupSettings, OffsetStored
from automq.coordinators.group.offsets import OffsetTable
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.messages.offset import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from tests.support.group_world import GroupWorld

OFFSET = CommittedOffset(offset=1, leader_epoch=None, metadata="", commit_ms=0)


def a_commit(*topics: OffsetCommitRequestTopic) -> OffsetCommitRequest:
    return OffsetCommitRequest(group_id="g", topics=list(topics))


def test_deleting_the_last_offset_leaves_nothing_behind() -> None:
    table = OffsetTable()
    table.replay(OffsetStored("g", "t", 0, OFFSET))
    assert table.get("g", "t", 0) == OFFSET
    table.replay(OffsetStored("g", "t", 0, None))
    table.replay(OffsetStored("g", "t", 0, None))
    assert table.groups() == []
    assert not table.has_any("g")


def test_one_partition_with_too_much_metadata_does_not_stop_the_others() -> None:
    world = GroupWorld(GroupSettings(offset_metadata_length_max=2))
    partitions = [
        OffsetCommitRequestPartition(partition_index=index, committed_offset=5, committed_metadata=text)
        for index, text in enumerate(["ab", "abc", None])
    ]
    turn = world.turn()
    request = a_commit(OffsetCommitRequestTopic(name="t", partitions=partitions))
    response = world.shard.commit(turn, request, knows_group_errors=True)
    world.carry_out(turn)
    assert [done.error_code for done in response.topics[0].partitions] == [0, ErrorCode.OFFSET_METADATA_TOO_LARGE, 0]
    assert [partition for _, partition, _ in world.shard.offsets.entries("g")] == [0, 2]


def test_b3_commit_of_a_hundred_thousand_partitions_is_taken() -> None:
    world = GroupWorld()
    partitions = [OffsetCommitRequestPartition(partition_index=index, committed_offset=5) for index in range(1000)]
    topics = [OffsetCommitRequestTopic(name=f"topic-{number:03}" * 3, partitions=partitions) for number in range(100)]
    turn = world.turn()
    response = world.shard.commit(turn, a_commit(*topics), knows_group_errors=True)
    assert len(turn.records) == 100_000
    assert {done.error_code for topic in response.topics for done in topic.partitions} == {ErrorCode.NONE}


def test_commit_beyond_all_bounds_is_refused_whole() -> None:
    world = GroupWorld(GroupSettings(offset_metadata_length_max=1 << 30))
    partitions = [
        OffsetCommitRequestPartition(partition_index=index, committed_offset=5, committed_metadata="m" * (1 << 20))
        for index in range(70)
    ]
    turn = world.turn()
    with pytest.raises(ApiError) as caught:
        world.shard.commit(
            turn, a_commit(OffsetCommitRequestTopic(name="t", partitions=partitions)), knows_group_errors=True
        )
    assert caught.value.code is ErrorCode.INVALID_COMMIT_OFFSET_SIZE
    assert turn.records == []
    assert world.shard.groups == {}


def test_the_offsets_of_a_topic_made_anew_are_not_those_of_the_old_one() -> None:
    world = GroupWorld()
    old, new = uuid.UUID(int=1), uuid.UUID(int=2)
    turn = world.turn()
    partition = OffsetCommitRequestPartition(partition_index=0, committed_offset=5)
    topics = [OffsetCommitRequestTopic(name="t", topic_id=old, partitions=[partition])]
    world.shard.commit(turn, a_commit(*topics), knows_group_errors=True)
    world.carry_out(turn)
    turn = world.turn()
    world.shard.sweep(turn, lambda name, topic_id: topic_id in (None, new))
    world.carry_out(turn)
    assert world.shard.offsets.groups() == []
    assert world.shard.groups == {}
