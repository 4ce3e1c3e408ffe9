"""Elections and reassignments, as Kafka's tools ask for them, over a real controller and two brokers."""

import pytest

from automq.ids import NodeId
from automq.protocol.apis import ApiKey
from automq.protocol.errors import ErrorCode
from automq.protocol.messages import admin_cluster as messages
from tests.support.moving_world import TOPIC, MovingWorld

pytestmark = pytest.mark.looptime

FIRST, SECOND = NodeId(1), NodeId(2)


async def altered(
    world: MovingWorld, index: int, replicas: list[int] | None, *, topic: str = TOPIC, allows: bool = True
) -> messages.ReassignablePartitionResponse:
    request = messages.AlterPartitionReassignmentsRequest(
        allow_replication_factor_change=allows,
        topics=[
            messages.ReassignableTopic(
                name=topic, partitions=[messages.ReassignablePartition(partition_index=index, replicas=replicas)]
            )
        ],
    )
    client = world.brokers[FIRST].connect()
    answer = await client.call(ApiKey.ALTER_PARTITION_REASSIGNMENTS, 1, request)
    found: messages.ReassignablePartitionResponse = answer.responses[0].partitions[0]
    return found


async def listed(
    world: MovingWorld, topics: list[messages.ListPartitionReassignmentsTopics] | None = None
) -> dict[int, tuple[list[int], list[int], list[int]]]:
    request = messages.ListPartitionReassignmentsRequest(topics=topics)
    answer = await world.brokers[FIRST].connect().call(ApiKey.LIST_PARTITION_REASSIGNMENTS, 0, request)
    return {
        part.partition_index: (part.replicas, part.adding_replicas, part.removing_replicas)
        for topic in answer.topics
        for part in topic.partitions
    }


async def elected(
    world: MovingWorld, *indexes: int, kind: int = 0, timeout: int = 5_000, everything: bool = False
) -> dict[int, int]:
    named = None if everything else [messages.TopicPartitions(topic=TOPIC, partitions=list(indexes))]
    request = messages.ElectLeadersRequest(election_type=kind, topic_partitions=named, timeout=timeout)
    answer = await world.brokers[FIRST].connect().call(ApiKey.ELECT_LEADERS, 2, request)
    assert answer.error_code == 0
    return {
        part.partition_id: part.error_code
        for topic in answer.replica_election_results
        for part in topic.partition_result
    }


def hold(world: MovingWorld) -> None:
    """Nothing is released."""
    partitions = world.brokers[FIRST].partitions
    partitions._departures.close()


async def test_a_reassignment_is_executed_and_verified() -> None:
    """As kafka-reassign-partitions does: alter, list until nothing is under way, compare the replicas."""
    world = await MovingWorld().start(partitions=2)
    assert (await altered(world, 0, [2, 1])).error_code == 0
    await world.until(lambda: world.leader(0) == SECOND)
    assert await listed(world) == {}
    topic = world.metadata.image.topic(TOPIC)
    assert topic is not None
    assert topic.partitions[0].replicas == (SECOND, FIRST)
    assert world.leader(1) == FIRST
    await world.close()


async def test_what_is_under_way_is_listed_and_can_be_cancelled() -> None:
    world = await MovingWorld().start(partitions=3)
    hold(world)
    await altered(world, 0, [2])
    await altered(world, 2, [2, 1])
    assert await listed(world) == {0: ([2, 1], [2], [1]), 2: ([2, 1], [2], [])}
    named = [messages.ListPartitionReassignmentsTopics(name=TOPIC, partition_indexes=[1, 2])]
    assert list(await listed(world, named)) == [2]
    assert await listed(world, [messages.ListPartitionReassignmentsTopics(name="no", partition_indexes=[0])]) == {}
    assert (await altered(world, 0, None)).error_code == 0
    assert (await altered(world, 0, None)).error_code == ErrorCode.NO_REASSIGNMENT_IN_PROGRESS
    assert list(await listed(world)) == [2]
    assert world.leader(0) == FIRST
    await world.close()


async def test_lists_with_repeats_name_each_broker_that_comes_or_goes_once() -> None:
    """A broker that comes or goes is named once, however often the lists have it."""
    world = await MovingWorld().start(partitions=2)
    await altered(world, 0, [1, 1, 1])
    await altered(world, 1, [1, 2, 1])
    hold(world)
    assert (await altered(world, 0, [2, 2, 2])).error_code == 0
    assert (await altered(world, 1, [2, 1, 2])).error_code == 0
    assert await listed(world) == {0: ([2, 1], [2], [1]), 1: ([2, 1], [], [])}
    assert (await altered(world, 0, None)).error_code == 0
    topic = world.metadata.image.topic(TOPIC)
    assert topic is not None
    assert topic.partitions[0].replicas == (FIRST, FIRST, FIRST)
    await world.close()


@pytest.mark.parametrize(
    ("topic", "index", "replicas", "code"),
    [
        (TOPIC, 0, [1], ErrorCode.NONE),
        (TOPIC, 0, None, ErrorCode.NO_REASSIGNMENT_IN_PROGRESS),
        (TOPIC, 0, [], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (TOPIC, 0, [1, 1], ErrorCode.NONE),
        (TOPIC, 0, [1] * 16, ErrorCode.NONE),
        (TOPIC, 0, [1] * 17, ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (TOPIC, 0, [1, 7, 1], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (TOPIC, 0, [7], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (TOPIC, 9, [1], ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ("no", 0, [1], ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
    ],
)
async def test_what_cannot_be_is_refused_with_its_reason(
    topic: str, index: int, replicas: list[int] | None, code: ErrorCode
) -> None:
    world = await MovingWorld().start()
    result = await altered(world, index, replicas, topic=topic)
    assert (result.partition_index, result.error_code, bool(result.error_message)) == (index, code, bool(code))
    assert await listed(world) == {}
    await world.close()


async def test_the_replication_factor_stays_where_the_client_says_so() -> None:
    world = await MovingWorld().start()
    assert (await altered(world, 0, [1, 2], allows=False)).error_code == ErrorCode.INVALID_REPLICATION_FACTOR
    assert (await altered(world, 0, [1, 2])).error_code == 0
    await world.close()


async def test_the_preferred_leader_is_elected() -> None:
    world = await MovingWorld().start(partitions=2)
    await altered(world, 0, [2, 1])
    await world.until(lambda: world.leader(0) == SECOND)
    assert await elected(world, 0, 1, 7) == {
        0: ErrorCode.ELECTION_NOT_NEEDED,
        1: ErrorCode.ELECTION_NOT_NEEDED,
        7: ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    }
    assert await elected(world, everything=True) == {}
    # Draining has moved it off its preferred leader; later that one takes partitions again.
    moved = world.brokers[SECOND]
    await moved.client.stop_broker(SECOND, moved.epoch)
    await world.until(lambda: world.leader(0) == FIRST)
    assert await elected(world, 0) == {0: ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE}
    await moved.die()
    await world.join(SECOND)
    assert await elected(world, everything=True) == {0: 0}
    assert world.leader(0) == SECOND
    await world.close()


async def test_an_election_that_takes_too_long_says_so() -> None:
    world = await MovingWorld().start()
    await altered(world, 0, [2, 1])
    await world.until(lambda: world.leader(0) == SECOND)
    second = world.brokers[SECOND]
    await second.client.stop_broker(SECOND, second.epoch)
    await world.until(lambda: world.leader(0) == FIRST)
    await second.die()
    await world.join(SECOND)
    hold(world)
    assert await elected(world, 0, timeout=300) == {0: ErrorCode.REQUEST_TIMED_OUT}
    assert await elected(world, 0, kind=1) == {0: ErrorCode.ELECTION_NOT_NEEDED}
    await world.close()


async def test_an_unknown_kind_of_election_is_refused() -> None:
    world = await MovingWorld().start()
    request = messages.ElectLeadersRequest(
        election_type=5, topic_partitions=[messages.TopicPartitions(topic=TOPIC, partitions=[0])]
    )
    answer = await world.brokers[FIRST].connect().call(ApiKey.ELECT_LEADERS, 2, request)
    assert answer.error_code == ErrorCode.INVALID_REQUEST
    assert answer.replica_election_results[0].partition_result[0].error_message == "Unknown election type 5"
    await world.close()
