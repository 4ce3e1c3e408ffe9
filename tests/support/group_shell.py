"""A group coordinator over partitions in memory, for tests of its shell."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from uuid import UUID

import pytest
from immutables import Map

from automq.coordinators.group.coordinator import OFFSETS_TOPIC, GroupCoordinator
from automq.coordinators.group.model import GroupSettings, JoinCommand, Protocol
from automq.ids import NodeId, StreamEpoch, StreamId, TopicId
from automq.metadata.image import MetadataImage, PartitionImage, TopicImage
from automq.metadata.publisher import MetadataPublisher
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.messages.group import (
    SyncGroupRequest,
    SyncGroupRequestAssignment,
)
from automq.protocol.messages.offset import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetFetchRequestGroup,
)
from automq.runtime.tasks import Tasks
from automq.runtime.telemetry import Metrics
from automq.runtime.wall_time import WallTimeGuard
from tests.support.offsets_partitions import Disk, MemoryPartitions

NODE = NodeId(1)
SHARDS = 4


class LoopClock:
    """Follows the loop's time, which looptime makes virtual."""

    def wall_ms(self) -> int:
        return 1_700_000_000_000 + int(self.monotonic() * 1000)

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def boottime(self) -> float:
        return self.monotonic()


def a_topic(name: str, number: int, *, partitions: int = 1, leader: NodeId = NODE, epoch: int = 1) -> TopicImage:
    return TopicImage(
        topic_id=TopicId(UUID(int=number)),
        name=name,
        is_internal=name == OFFSETS_TOPIC,
        replication_factor=1,
        partitions=tuple(
            PartitionImage(
                index=index, stream=StreamId(number * 100 + index), leader=leader, leader_epoch=StreamEpoch(epoch)
            )
            for index in range(partitions)
        ),
    )


def an_image(*topics: TopicImage, number: int) -> MetadataImage:
    return MetadataImage(
        record_number=number,
        topic_map=Map({topic.topic_id: topic for topic in topics}),
        topic_ids=Map({topic.name: topic.topic_id for topic in topics}),
    )


@dataclass
class World:
    """One coordinator with everything around it."""

    disk: Disk
    metadata: MetadataPublisher
    partitions: MemoryPartitions
    tasks: Tasks
    crashes: list[str]
    settings: GroupSettings
    coordinator: GroupCoordinator = None  # type: ignore[assignment]
    topics_made: int = 0

    def show(self, *topics: TopicImage) -> None:
        """Publish an image with these topics."""
        self.metadata.replace(an_image(*topics, number=self.metadata.image.record_number + 1))

    async def make_topic(
        self, *, name: str, partitions: int, replication_factor: int, configs: Mapping[str, str]
    ) -> None:
        await asyncio.sleep(0.1)
        assert configs["cleanup.policy"] == "compact"
        self.topics_made += 1
        self.show(a_topic(name, 9, partitions=partitions), a_topic("t", 1))

    def restart(self) -> None:
        """A new coordinator over the same disk; the old one is forgotten as if its process had died."""
        if self.coordinator is not None:
            self.coordinator.fence()
        self.partitions = MemoryPartitions(self.disk)
        self.coordinator = GroupCoordinator(
            node=NODE,
            settings=self.settings,
            metadata=self.metadata,
            partitions=self.partitions,
            when_durable=self.disk.when_durable,
            create_topic=self.make_topic,
            clock=LoopClock(),
            aging=WallTimeGuard(LoopClock(), Metrics()),
            tasks=self.tasks,
            metrics=Metrics(),
        )
        self.coordinator.start()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    disk = Disk()
    crashes: list[str] = []
    tasks = Tasks("test", on_crash=lambda name, error: crashes.append(f"{name}: {error!r}"))
    settings = GroupSettings(offsets_topic_partitions=SHARDS, initial_rebalance_delay_ms=0)
    world = World(disk, MetadataPublisher(), MemoryPartitions(disk), tasks, crashes, settings)
    world.restart()
    yield world
    world.coordinator.close()
    await tasks.close()
    assert crashes == []


def a_join(member_id: str = "", *, client: str = "c", group: str = "g", instance: str | None = None) -> JoinCommand:
    return JoinCommand(
        group_id=group,
        member_id=member_id,
        instance_id=instance,
        client_id=client,
        client_host="/127.0.0.1",
        session_timeout_ms=10_000,
        rebalance_timeout_ms=60_000,
        protocol_type="consumer",
        protocols=(Protocol("range", b""),),
        needs_known_member_id=False,
        can_skip_assignment=True,
        member_id_suffix="1",
    )


def a_sync(member_id: str, generation: int, **assignments: str) -> SyncGroupRequest:
    return SyncGroupRequest(
        group_id="g",
        member_id=member_id,
        generation_id=generation,
        assignments=[
            SyncGroupRequestAssignment(member_id=member.replace("_", "-"), assignment=given.encode())
            for member, given in assignments.items()
        ],
    )


def a_commit(offset: int, *, member_id: str = "", generation: int = -1, group: str = "g") -> OffsetCommitRequest:
    partition = OffsetCommitRequestPartition(partition_index=0, committed_offset=offset)
    return OffsetCommitRequest(
        group_id=group,
        member_id=member_id,
        generation_id_or_member_epoch=generation,
        topics=[OffsetCommitRequestTopic(name="t", topic_id=UUID(int=1), partitions=[partition])],
    )


async def fetched(world: World, group: str = "g") -> list[int]:
    response = await world.coordinator.offset_fetch(OffsetFetchRequestGroup(group_id=group, topics=None))
    return [partition.committed_offset for topic in response.topics for partition in topic.partitions]


async def is_loading(world: World, group: str) -> bool:
    try:
        await world.coordinator.describe_group(group)
    except ApiError as error:
        return error.code is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    return False


async def until_loaded(world: World, group: str = "g") -> None:
    for _ in range(1000):
        if not await is_loading(world, group):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the shard does not load")


async def a_stable_member(world: World) -> str:
    await world.coordinator.find_coordinator("g")
    await until_loaded(world)
    joined = await world.coordinator.join_group(a_join())
    assert joined.error_code == ErrorCode.NONE
    await world.coordinator.sync_group(a_sync(joined.member_id, joined.generation_id, c_1="all"))
    return joined.member_id
