"""ListOffsets, OffsetForLeaderEpoch and DeleteRecords."""

from typing import Any

import pytest

from automq.ids import NodeId
from automq.protocol.apis import ApiKey
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.admin import DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic
from automq.protocol.messages.fetch import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
    OffsetForLeaderEpochRequest,
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
)
from tests.support.batches import build_batch
from tests.support.data_path import TOPIC, DataPath, MemoryTransport, produce_request

pytestmark = pytest.mark.looptime

VERSION = 11


async def a_path(*timestamps: int, **configs: str) -> tuple[DataPath, MemoryTransport]:
    """A topic with two partitions; one record with each timestamp in the first."""
    path = await DataPath().start()
    path.create_topic(partitions=2, configs={name.replace("_", "."): value for name, value in configs.items()})
    client = path.connect()
    for timestamp in timestamps:
        await client.call(ApiKey.PRODUCE, 9, produce_request(build_batch([b"v"], timestamp_ms=timestamp)))
    return path, client


async def listed(
    client: MemoryTransport, *asked: tuple[int, int], version: int = VERSION, topic: str = TOPIC, **fields: Any
) -> list[tuple[int, int, int, int]]:
    """(error, timestamp, offset, leader epoch) for each (partition, timestamp)."""
    request = ListOffsetsRequest(
        replica_id=-1,
        topics=[
            ListOffsetsTopic(
                name=topic,
                partitions=[
                    ListOffsetsPartition(partition_index=index, timestamp=timestamp, **fields)
                    for index, timestamp in asked
                ],
            )
        ],
    )
    response = await client.call(ApiKey.LIST_OFFSETS, version, request)
    return [
        (part.error_code, part.timestamp, part.offset, part.leader_epoch)
        for of in response.topics
        for part in of.partitions
    ]


@pytest.mark.parametrize("version", range(1, 12))
async def test_ends_of_the_log(version: int) -> None:
    path, client = await a_path(1000, 2000)
    epoch = 0 if version >= 4 else -1

    assert await listed(client, (0, -1), version=version) == [(0, -1, 2, epoch)]
    assert await listed(client, (0, -2), version=version) == [(0, -1, 0, epoch)]
    await path.close()


async def test_offset_by_time() -> None:
    path, client = await a_path(1000, 3000, 2000)

    assert await listed(client, (0, 0)) == [(0, 1000, 0, 0)]
    assert await listed(client, (0, 1500)) == [(0, 3000, 1, 0)]
    assert await listed(client, (0, 3001)) == [(0, -1, -1, -1)]
    assert await listed(client, (1, 0)) == [(0, -1, -1, -1)]
    await path.close()


async def test_newest_timestamp() -> None:
    path, client = await a_path(1000, 3000, 2000)

    assert await listed(client, (0, -3)) == [(0, 3000, 1, 0)]
    assert await listed(client, (1, -3)) == [(0, -1, -1, -1)]
    await path.close()


async def test_everything_is_local_and_nothing_is_tiered() -> None:
    path, client = await a_path(1000)

    assert await listed(client, (0, -4)) == [(0, -1, 0, 0)]
    assert await listed(client, (0, -5)) == [(0, -1, -1, -1)]
    assert await listed(client, (0, -6)) == [(0, -1, -1, -1)]
    await path.close()


@pytest.mark.parametrize(("timestamp", "version"), [(-3, 6), (-4, 7), (-5, 8), (-6, 10), (-7, 11)])
async def test_special_offset_the_version_does_not_have_is_refused(timestamp: int, version: int) -> None:
    path, client = await a_path()

    assert (await listed(client, (0, timestamp), version=version))[0][0] == ErrorCode.UNSUPPORTED_VERSION
    await path.close()


async def test_partitions_fail_alone() -> None:
    path, client = await a_path(1000)
    path.create_topic("theirs", leader=NodeId(9))

    assert [answer[0] for answer in await listed(client, (0, -1), (5, -1))] == [
        0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    ]  # fmt: skip
    assert (await listed(client, (0, -1), topic="theirs"))[0][0] == ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert (await listed(client, (0, -1), current_leader_epoch=4))[0][0] == ErrorCode.UNKNOWN_LEADER_EPOCH
    await path.close()


async def test_partition_named_twice_is_refused() -> None:
    path, client = await a_path()

    assert [answer[0] for answer in await listed(client, (0, -1), (1, -1), (0, -2))] == [
        ErrorCode.INVALID_REQUEST, 0, ErrorCode.INVALID_REQUEST
    ]  # fmt: skip
    await path.close()


@pytest.mark.parametrize("version", range(2, 5))
async def test_end_of_a_leader_epoch(version: int) -> None:
    path, client = await a_path(1, 2, 3)
    asked = [
        OffsetForLeaderPartition(partition=0, leader_epoch=0),
        OffsetForLeaderPartition(partition=0, leader_epoch=1),
        OffsetForLeaderPartition(partition=0, leader_epoch=0, current_leader_epoch=1),
        OffsetForLeaderPartition(partition=7, leader_epoch=0),
    ]
    request = OffsetForLeaderEpochRequest(topics=[OffsetForLeaderTopic(topic=TOPIC, partitions=asked)])
    response = await client.call(ApiKey.OFFSET_FOR_LEADER_EPOCH, version, request)

    assert [(part.error_code, part.leader_epoch, part.end_offset) for part in response.topics[0].partitions] == [
        (0, 0, 3),
        (0, -1, -1),
        (ErrorCode.UNKNOWN_LEADER_EPOCH, -1, -1),
        (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, -1, -1),
    ]
    await path.close()


async def deleted(client: MemoryTransport, *asked: tuple[int, int]) -> list[tuple[int, int]]:
    request = DeleteRecordsRequest(
        timeout=1000,
        topics=[
            DeleteRecordsTopic(
                name=TOPIC,
                partitions=[DeleteRecordsPartition(partition_index=index, offset=offset) for index, offset in asked],
            )
        ],
    )
    response = await client.call(ApiKey.DELETE_RECORDS, 2, request)
    return [(part.error_code, part.low_watermark) for part in response.topics[0].partitions]


async def test_records_are_deleted_up_to_an_offset() -> None:
    path, client = await a_path(1, 2, 3)

    assert await deleted(client, (0, 2)) == [(0, 2)]
    assert await listed(client, (0, -2)) == [(0, -1, 2, 0)]
    assert await deleted(client, (0, -1)) == [(0, 3)]
    await path.close()


async def test_deletion_that_cannot_be_is_refused() -> None:
    path, client = await a_path(1)

    assert await deleted(client, (0, 2), (9, 0)) == [
        (ErrorCode.OFFSET_OUT_OF_RANGE, -1), (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, -1)
    ]  # fmt: skip
    await path.close()


async def test_compacted_topic_keeps_its_records() -> None:
    path, client = await a_path(cleanup_policy="compact")

    assert await deleted(client, (0, 0)) == [(ErrorCode.POLICY_VIOLATION, -1)]
    await path.close()
