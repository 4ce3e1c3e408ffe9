"""Offsets and elections of a hundred thousand things: answered or refused, they keep nobody waiting."""

import uuid

import pytest

from automq.protocol.messages.admin_cluster import ElectLeadersRequest, TopicPartitions
from automq.protocol.messages.fetch import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from automq.protocol.messages.offset import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
)
from automq.protocol.schema import Message
from tests.support.served import served
from tests.support.turns import LIMIT_MS
from tests.unit.broker.server.network.test_wide_requests import MEMORY, PARTITIONS, frame_of, longest_turn, wide_topics


def fetches_and_deletions(group: str, *, named_since: int) -> list[tuple[Message, int]]:
    """Of 50,000 topics and a partition of each: in every form that the requests have."""
    names = [f"topic-{number}" for number in range(50_000)]
    ids = [uuid.UUID(int=number + 1) for number in range(50_000)]
    named = [OffsetFetchRequestTopic(name=name, partition_indexes=[0]) for name in names]
    by_id = [OffsetFetchRequestTopics(topic_id=topic_id, partition_indexes=[0]) for topic_id in ids]
    deleted = [
        OffsetDeleteRequestTopic(name=name, partitions=[OffsetDeleteRequestPartition(partition_index=0)])
        for name in names
    ]
    return [
        (OffsetFetchRequest(group_id=group, topics=named), named_since),
        (OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id=group, topics=by_id)]), 10),
        (OffsetDeleteRequest(group_id=group, topics=deleted), 0),
    ]


async def test_offsets_of_100_000_things_are_fetched_and_deleted_in_bounded_turns() -> None:
    async with served(**MEMORY) as world:
        await wide_topics(world)
        # Of a group that is coordinated, and of one that cannot be.
        for request, version in (*fetches_and_deletions("g", named_since=7), *fetches_and_deletions("", named_since=1)):
            longest = await longest_turn(world, frame_of(request, version))
            assert longest.turn_ms <= LIMIT_MS, (type(request).__name__, version, longest)
            assert longest.turns > 50


@pytest.mark.parametrize("election_type", [0, 1, 2], ids=["preferred", "unclean", "unknown"])
async def test_leaders_of_100_000_partitions_are_elected_in_bounded_turns(election_type: int) -> None:
    partitions = list(range(99_000))
    request = ElectLeadersRequest(
        election_type=election_type, topic_partitions=[TopicPartitions(topic="wide", partitions=partitions)]
    )
    async with served(**MEMORY) as world:
        await world.create("wide", PARTITIONS)
        longest = await longest_turn(world, frame_of(request, 2))
    assert longest.turn_ms <= LIMIT_MS, longest
    assert longest.turns > 50


@pytest.mark.parametrize("per_topic", [1, 99_000])
async def test_offsets_of_100_000_partitions_are_listed_in_bounded_turns(per_topic: int) -> None:
    count = 50_000 if per_topic == 1 else 1
    request = ListOffsetsRequest(
        replica_id=-1,
        topics=[
            ListOffsetsTopic(
                name=f"topic-{number}",
                partitions=[ListOffsetsPartition(partition_index=index, timestamp=-1) for index in range(per_topic)],
            )
            for number in range(count)
        ],
    )
    async with served(**MEMORY) as world:
        longest = await longest_turn(world, frame_of(request, 10))
    assert longest.turn_ms <= LIMIT_MS, longest
    assert longest.turns > 50
