"""Consumers read from their own zone, by the rules that keep them from losing or missing a record."""

import asyncio
from typing import Any

import pytest

from automq.handlers.zone_hint import zone_hint
from automq.handlers.zones import is_behind
from automq.ids import NodeId
from automq.protocol.apis import ApiKey
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.discovery import MetadataRequest
from automq.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from tests.support.batches import build_batch
from tests.support.data_path import MemoryTransport, produce_request
from tests.support.moving_world import TOPIC, MovingWorld

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

RECORD = b"x" * 1_000
RACKS = {1: "a", 2: "b", 3: "b"}


@pytest.mark.parametrize(
    ("client_id", "zone"),
    [
        ("automq_type=consumer&automq_az=us-east-1a&x=1", "us-east-1a"),
        ("orders,diskless_az=az2", "az2"),
        ("zone=b", "b"),
        ("app zone=b;more", "b"),
        ("myzone=b", ""),
        ("plain", ""),
        ("zone=", ""),
        (None, ""),
        ("zone=" + "b" * 300, ""),
    ],
)
async def test_a_client_id_may_tell_a_zone(client_id: str | None, zone: str) -> None:
    assert zone_hint(client_id) == zone


class Reader:
    """A consumer at one broker."""

    def __init__(self, world: MovingWorld, node: int, *, rack: str = "", client_id: str = "test") -> None:
        self.client: MemoryTransport = world.brokers[NodeId(node)].connect()
        self.client.client_id = client_id
        self.world, self.rack = world, rack

    async def fetch(self, offset: int, *, max_bytes: int = 5_000, version: int = 16, wait_ms: int = 0) -> Any:
        """The answer of the one partition."""
        topic = self.world.metadata.image.topic(TOPIC)
        assert topic is not None
        asked = FetchPartition(partition=0, fetch_offset=offset, partition_max_bytes=1 << 20)
        names = {"topic_id": topic.topic_id} if version >= 13 else {"topic": TOPIC}
        request = FetchRequest(
            max_wait=wait_ms,
            min_bytes=1,
            max_bytes=max_bytes,
            topics=[FetchTopic(partitions=[asked], **names)],
            rack_id=self.rack,
        )
        answer = await self.client.call(ApiKey.FETCH, version, request)
        return answer.responses[0].partitions[0]

    async def replicas(self) -> list[int]:
        answer = await self.client.call(ApiKey.METADATA, 12, MetadataRequest(topics=None))
        found: list[int] = answer.topics[0].partitions[0].replica_nodes
        return found


async def filled(*, batches: int = 20, racks: dict[int, str] | None = None, factor: int = 3) -> MovingWorld:
    """A partition of broker 1 with so many batches, all of them committed."""
    world = await MovingWorld().start(nodes=3, racks=RACKS if racks is None else racks, factor=factor)
    client = world.brokers[NodeId(1)].connect()
    for _ in range(batches):
        await client.call(ApiKey.PRODUCE, 9, produce_request(build_batch([RECORD], timestamp_ms=0), topic=TOPIC))
    await uploaded(world)
    return world


async def uploaded(world: MovingWorld) -> None:
    leader = world.brokers[NodeId(1)]
    await leader.storage.upload.flush()
    await world.until(lambda: world.metadata.image.streams[world.stream()].end == leader.partition().next_offset)


async def test_the_leader_names_a_replica_to_who_is_far_behind_and_the_replica_answers() -> None:
    world = await filled()
    answer = await Reader(world, 1, rack="b").fetch(0)
    replica = answer.preferred_read_replica
    assert replica in (2, 3)
    assert not answer.records
    assert answer.error_code == 0
    reader = Reader(world, replica, rack="b")
    offset = 0
    while offset < 20:
        read = await reader.fetch(offset)
        assert (read.error_code, read.preferred_read_replica, read.high_watermark) == (0, -1, 20)
        assert read.records
        offset = last_offset(read.records) + 1
    await world.close()


async def test_nobody_is_sent_away_who_is_near_the_end_or_at_home_or_has_no_zone() -> None:
    world = await filled()
    for reader, offset, limits in (
        (Reader(world, 1, rack="b"), 16, {}),
        (Reader(world, 1, rack="b"), 0, {"max_bytes": 1 << 20}),
        (Reader(world, 1, rack="b"), 0, {"version": 12}),
        (Reader(world, 1, rack="a"), 0, {}),
        (Reader(world, 1, rack="nowhere"), 0, {}),
        (Reader(world, 1), 0, {}),
    ):
        answer = await reader.fetch(offset, **limits)
        assert (answer.error_code, answer.preferred_read_replica) == (0, -1)
        assert answer.records
    await world.close()


async def test_at_the_committed_end_a_replica_sends_back_to_the_leader_and_never_answers_with_nothing() -> None:
    world = await filled()
    client = world.brokers[NodeId(1)].connect()
    await client.call(ApiKey.PRODUCE, 9, produce_request(build_batch([RECORD], timestamp_ms=0), topic=TOPIC))
    reader = Reader(world, 2, rack="b")
    for offset in (20, 21, 1_000):
        began = asyncio.get_running_loop().time()
        answer = await reader.fetch(offset, wait_ms=500)
        assert answer.error_code == ErrorCode.OFFSET_NOT_AVAILABLE
        assert asyncio.get_running_loop().time() == began
    assert (await Reader(world, 1, rack="b").fetch(20)).records
    await uploaded(world)
    assert (await reader.fetch(20)).records
    await world.close()


async def test_below_the_log_start_a_replica_says_so() -> None:
    world = await filled()
    await world.brokers[NodeId(1)].partition().delete_records(7)
    answer = await Reader(world, 2, rack="b").fetch(3)
    assert answer.error_code == ErrorCode.OFFSET_OUT_OF_RANGE
    assert (await Reader(world, 2, rack="b").fetch(7)).records
    await world.close()


async def test_only_consumers_of_its_zone_read_from_a_replica() -> None:
    world = await filled()
    for reader in (Reader(world, 2), Reader(world, 2, rack="a"), Reader(world, 2, rack="c")):
        assert (await reader.fetch(0)).error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert (await Reader(world, 2, rack="b").fetch(0, version=12)).error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
    await world.close()


async def test_a_replica_that_becomes_the_leader_goes_on_as_such_and_the_leader_as_replica() -> None:
    world = await filled()
    at_second, at_first = Reader(world, 2, rack="b"), Reader(world, 1, rack="a")
    assert (await at_second.fetch(0)).high_watermark == 20
    await world.moved(2, 0)
    client = world.brokers[NodeId(2)].connect()
    await client.call(ApiKey.PRODUCE, 9, produce_request(build_batch([RECORD], timestamp_ms=0), topic=TOPIC))
    assert (await at_second.fetch(20)).high_watermark == 21
    assert (await at_first.fetch(0)).records
    assert (await at_first.fetch(20)).error_code == ErrorCode.OFFSET_NOT_AVAILABLE
    await world.close()


async def test_a_topic_of_one_replica_is_read_elsewhere_only_by_who_tells_a_zone_by_client_id() -> None:
    """Consumers look for the replica in the list of the topic, which has as many as was asked for."""
    world = await filled(factor=1)
    assert await Reader(world, 1, rack="b").replicas() == [1]
    assert (await Reader(world, 1, rack="b").fetch(0)).preferred_read_replica == -1
    hinted = Reader(world, 1, client_id="app,zone=b")
    listed = await hinted.replicas()
    assert listed[0] == 1
    assert listed[1] in (2, 3)
    assert (await hinted.fetch(0)).preferred_read_replica == listed[1]
    at_replica = Reader(world, listed[1], client_id="app,zone=b")
    assert (await at_replica.fetch(0)).records
    assert await Reader(world, 1, client_id="app,zone=nowhere").replicas() == [1]
    await world.close()


async def test_without_racks_everything_is_as_before() -> None:
    world = await filled(racks={})
    assert await Reader(world, 1).replicas() == [1, 1, 1]
    assert (await Reader(world, 1, rack="b").fetch(0)).records
    assert (await Reader(world, 2, rack="b").fetch(0)).error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
    await world.close()


async def test_the_list_of_replicas_goes_over_the_zones() -> None:
    world = await filled(factor=2)
    leader, other = await Reader(world, 1).replicas()
    assert leader == 1
    assert other in (2, 3)
    await world.close()


async def test_bytes_are_counted_by_zone() -> None:
    world = await filled()
    sample = world.brokers[NodeId(1)].metrics.registry.get_sample_value
    await Reader(world, 1, rack="a").fetch(0)
    await Reader(world, 1, rack="b").fetch(18)
    await Reader(world, 1).fetch(0)
    same = sample("automq_zone_bytes_total", {"direction": "out", "zone": "same"})
    other = sample("automq_zone_bytes_total", {"direction": "out", "zone": "other"})
    assert same is not None
    assert same > 4_000
    assert other is not None
    assert 2_000 < other < 2_500
    await world.close()


async def test_how_far_behind_a_reader_is() -> None:
    world = await filled()
    image, stream = world.metadata.image, world.stream()
    stored = image.streams[stream].held.stored_bytes
    assert is_behind(image, stream, 0, stored)
    assert not is_behind(image, stream, 0, stored + 1)
    assert is_behind(image, stream, 10, stored // 2 - 100)
    assert not is_behind(image, stream, 10, stored // 2 + 100)
    assert not is_behind(image, stream, 20, 0)
    await world.close()


def last_offset(records: Any) -> int:
    """Of the batches in an answer."""
    data = bytes(records)
    position, last = 0, -1
    while position < len(data):
        last = int.from_bytes(data[position : position + 8], "big") + int.from_bytes(
            data[position + 23 : position + 27], "big"
        )
        position += 12 + int.from_bytes(data[position + 8 : position + 12], "big")
    return last
