"""The one directory that a broker seems to have."""

from dataclasses import replace

import pytest

from automq.ids import NodeId
from automq.protocol.apis import ApiKey
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.admin_cluster import (
    AlterReplicaLogDir,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirTopic,
    DescribableLogDirTopic,
    DescribeLogDirsPartition,
    DescribeLogDirsRequest,
)
from automq.protocol.records import Record, build_batch
from tests.support.data_path import TOPIC, DataPath, MemoryTransport, produce_request
from tests.support.moving_world import MovingWorld

pytestmark = pytest.mark.looptime


async def sizes(client: MemoryTransport, request: DescribeLogDirsRequest) -> list[DescribeLogDirsPartition]:
    answer = await client.call(ApiKey.DESCRIBE_LOG_DIRS, 1, request)
    (folder,) = answer.results
    assert folder.error_code == ErrorCode.NONE
    return [partition for topic in folder.topics for partition in topic.partitions]


async def test_k8_what_is_not_uploaded_yet_counts() -> None:
    path = await DataPath().start()
    path.create_topic()
    client, batch = path.connect(), build_batch([Record(key=b"k", value=bytes(5000), timestamp=7)])
    everything = DescribeLogDirsRequest(topics=None)
    assert [partition.partition_size for partition in await sizes(client, everything)] == [0]

    await client.call(ApiKey.PRODUCE, 9, produce_request(batch))

    assert path.partitions.get(TOPIC, 0).uncommitted_bytes >= len(batch)
    (before,) = await sizes(client, everything)
    assert before.partition_size >= len(batch)

    await path.engine.storage.upload.flush()
    path.publish(replace(path.metadata.image, streams=path.ledger.image.streams))
    assert path.partitions.get(TOPIC, 0).uncommitted_bytes == 0
    (after,) = await sizes(client, everything)
    assert len(batch) <= after.partition_size < len(batch) + 500, "with what a block adds"
    await path.close()


async def test_only_what_is_asked_for_is_answered() -> None:
    path = await DataPath().start()
    path.create_topic()

    asked = [DescribableLogDirTopic(topic="none", partitions=[0]), DescribableLogDirTopic(topic=TOPIC)]

    assert await sizes(path.connect(), DescribeLogDirsRequest(topics=asked)) == []
    await path.close()


async def test_what_moves_to_a_broker_is_shown_there_as_a_replica_to_be() -> None:
    world = await MovingWorld().start(partitions=2)
    first, second = world.brokers[NodeId(1)], world.brokers[NodeId(2)]
    first.partitions._departures.close()
    everything = DescribeLogDirsRequest(topics=None)
    assert await sizes(second.connect(), everything) == []

    await world.wish(2, 1)

    (arriving,) = await sizes(second.connect(), everything)
    assert (arriving.partition_index, arriving.is_future_key) == (1, True)
    asked = DescribeLogDirsRequest(topics=[DescribableLogDirTopic(topic="orders", partitions=[0])])
    assert await sizes(second.connect(), asked) == []
    assert [part.is_future_key for part in await sizes(first.connect(), everything)] == [False, False]
    await world.close()


async def test_what_a_recovered_log_may_hold_is_shown_at_its_recoverer() -> None:
    world = await MovingWorld().start(partitions=1)
    first, second = world.brokers[NodeId(1)], world.brokers[NodeId(2)]
    await world.controller.fence_broker(first.node, first.epoch, recoverer=(second.node, second.epoch))
    (expected,) = await sizes(second.connect(), DescribeLogDirsRequest(topics=None))
    assert expected.is_future_key
    await world.close()


async def test_replicas_stay_in_the_one_directory() -> None:
    path = await DataPath().start()
    path.create_topic()
    path.create_topic("away", leader=NodeId(9))
    client = path.connect()
    described = await client.call(ApiKey.DESCRIBE_LOG_DIRS, 1, DescribeLogDirsRequest(topics=None))

    async def moved(folder: str) -> dict[str, list[int]]:
        topics = [AlterReplicaLogDirTopic(name=name, partitions=[0, 5]) for name in (TOPIC, "away", "none")]
        request = AlterReplicaLogDirsRequest(dirs=[AlterReplicaLogDir(path=folder, topics=topics)])
        answer = await client.call(ApiKey.ALTER_REPLICA_LOG_DIRS, 2, request)
        return {topic.topic_name: [part.error_code for part in topic.partitions] for topic in answer.results}

    unknown, away = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.REPLICA_NOT_AVAILABLE
    expected = {TOPIC: [ErrorCode.NONE, unknown], "away": [away, unknown], "none": [unknown, unknown]}
    assert await moved(described.results[0].log_dir) == expected
    missing = [ErrorCode.LOG_DIR_NOT_FOUND] * 2
    assert await moved("/elsewhere") == {TOPIC: missing, "away": missing, "none": missing}
    await path.close()
