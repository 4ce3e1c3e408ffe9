"""The shell: durability before answers, loading and unloading of shards, fencing, timers."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from uuid import UUID

import pytest
from immutables import Map

from automq.coordinators.group.coordinator import OFFSETS_TOPIC, GroupCoordinator
from automq.coordinators.group.model import GroupSettings, JoinCommand, Protocol, shard_of
from automq.ids import NodeId, StreamEpoch, StreamId, TopicId
from automq.metadata.image import MetadataImage, PartitionImage, TopicImage
from automq.metadata.publisher import MetadataPublisher
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.messages.group import (
    HeartbeatRequest,
    LeaveGroupRequest,
    MemberIdentity,
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
from automq.s3stream.model import BrokerFenced
from tests.support.offsets_partitions import Disk, MemoryPartitions

NODE = NodeId(1)
SHARDS = 4


class LoopClock:
    """Follows the loop's time, which looptime makes virtual."""

    def wall_ms(self) -> int:
        return 1_700_000_000_000 + int(self.monotonic() * 1000)

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


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
        self.metadata.publish(an_image(*topics, number=self.metadata.image.record_number + 1))

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


@pytest.mark.looptime
async def test_the_offsets_topic_is_made_once_for_all_who_ask(world: World) -> None:
    found = await asyncio.gather(*(world.coordinator.find_coordinator(f"g{n}") for n in range(10)))
    assert found == [NODE] * 10
    assert world.topics_made == 1


@pytest.mark.looptime
async def test_a_group_elsewhere_is_not_ours(world: World) -> None:
    world.show(a_topic(OFFSETS_TOPIC, 9, partitions=SHARDS, leader=NodeId(2)))
    assert await world.coordinator.find_coordinator("g") == NodeId(2)
    with pytest.raises(ApiError) as caught:
        await world.coordinator.heartbeat(HeartbeatRequest(group_id="g", member_id="m", generation_id=1))
    assert caught.value.code is ErrorCode.NOT_COORDINATOR


@pytest.mark.looptime
async def test_members_join_sync_and_commit(world: World) -> None:
    member = await a_stable_member(world)
    beat = await world.coordinator.heartbeat(HeartbeatRequest(group_id="g", member_id=member, generation_id=1))
    assert beat.error_code == ErrorCode.NONE
    await world.coordinator.offset_commit(a_commit(7, member_id=member, generation=1), knows_group_errors=True)
    assert await fetched(world) == [7]


@pytest.mark.looptime
async def test_heartbeats_write_nothing(world: World) -> None:
    member = await a_stable_member(world)
    written = world.disk.appends
    for _ in range(100):
        await asyncio.sleep(5)
        await world.coordinator.heartbeat(HeartbeatRequest(group_id="g", member_id=member, generation_id=1))
    assert world.disk.appends == written


@pytest.mark.looptime
async def test_a_commit_is_answered_when_it_is_durable_and_reads_wait_for_it(world: World) -> None:
    await world.coordinator.find_coordinator("g")
    await until_loaded(world)
    world.disk.is_instant = False
    commit = asyncio.create_task(world.coordinator.offset_commit(a_commit(7), knows_group_errors=True))
    await asyncio.sleep(1)
    fetch = asyncio.create_task(fetched(world))
    refused = asyncio.create_task(world.coordinator.delete_group("none"))
    await asyncio.sleep(1)
    # Another shard has nothing to wait for.
    assert refused.done() == (shard_of("none", SHARDS) != shard_of("g", SHARDS))
    assert not commit.done()
    assert not fetch.done()
    world.disk.make_durable()
    await commit
    assert await fetch == [7]
    await refused


@pytest.mark.looptime
async def test_in_an_outage_heartbeats_go_on_and_commits_are_told_to_come_again(world: World) -> None:
    member = await a_stable_member(world)
    world.disk.is_instant = False
    started = asyncio.get_running_loop().time()
    with pytest.raises(ApiError) as caught:
        await world.coordinator.offset_commit(a_commit(7, member_id=member, generation=1), knows_group_errors=True)
    assert caught.value.code is ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert asyncio.get_running_loop().time() - started == pytest.approx(5.0)
    beat = asyncio.create_task(
        world.coordinator.heartbeat(HeartbeatRequest(group_id="g", member_id=member, generation_id=1))
    )
    await asyncio.sleep(0)
    assert beat.done()
    assert beat.result().error_code == ErrorCode.NONE
    # What was decided stands, and is answered once the store is back.
    world.disk.make_durable()
    assert await fetched(world) == [7]


@pytest.mark.looptime
async def test_a_heartbeat_waits_for_its_own_groups_membership_to_be_durable(world: World) -> None:
    await world.coordinator.find_coordinator("g")
    await until_loaded(world)
    joined = await world.coordinator.join_group(a_join())
    world.disk.is_instant = False
    synced = asyncio.create_task(world.coordinator.sync_group(a_sync(joined.member_id, 1, c_1="all")))
    await asyncio.sleep(0.1)
    beat = asyncio.create_task(
        world.coordinator.heartbeat(HeartbeatRequest(group_id="g", member_id=joined.member_id, generation_id=1))
    )
    await asyncio.sleep(0.1)
    assert not beat.done()
    world.disk.make_durable()
    assert (await beat).error_code == ErrorCode.NONE
    assert (await synced).assignment == b"all"


@pytest.mark.looptime
async def test_what_is_under_way_has_a_limit(world: World) -> None:
    world.settings = replace(world.settings, under_way_bytes_max=500)
    world.restart()
    await world.coordinator.find_coordinator("g")
    await until_loaded(world)
    world.disk.is_instant = False
    commits = [
        asyncio.create_task(world.coordinator.offset_commit(a_commit(n), knows_group_errors=True)) for n in range(20)
    ]
    await asyncio.sleep(0.1)
    refused = [commit for commit in commits if commit.done()]
    assert 0 < len(refused) < 20
    assert world.disk.appends == 20 - len(refused)
    world.disk.make_durable()
    outcomes = await asyncio.gather(*commits, return_exceptions=True)
    codes = [outcome.code for outcome in outcomes if isinstance(outcome, ApiError)]
    assert codes == [ErrorCode.COORDINATOR_NOT_AVAILABLE] * len(refused)


@pytest.mark.looptime
async def test_a_lost_append_unloads_the_shard_and_answers_nothing(world: World) -> None:
    await world.coordinator.find_coordinator("g")
    await until_loaded(world)
    await world.coordinator.offset_commit(a_commit(7), knows_group_errors=True)
    world.disk.is_instant = False
    commit = asyncio.create_task(world.coordinator.offset_commit(a_commit(8), knows_group_errors=True))
    fetch = asyncio.create_task(fetched(world))
    await asyncio.sleep(1)
    world.disk.lose(RuntimeError("the store is gone"))
    for answer in (commit, fetch):
        with pytest.raises(ApiError) as caught:
            await answer
        assert caught.value.code is ErrorCode.NOT_COORDINATOR
    world.disk.error = None
    await until_loaded(world)
    assert await fetched(world) == [7]


@pytest.mark.looptime
async def test_parked_members_are_answered_only_when_the_assignment_is_durable(world: World) -> None:
    member = await a_stable_member(world)
    second = asyncio.create_task(world.coordinator.join_group(replace(a_join(), member_id_suffix="2")))
    await asyncio.sleep(0.1)
    first = await world.coordinator.join_group(a_join(member))
    assert first.generation_id == 2
    follower = await second
    waiting = asyncio.create_task(world.coordinator.sync_group(a_sync(follower.member_id, 2)))
    await asyncio.sleep(0.1)
    world.disk.is_instant = False
    leading = asyncio.create_task(world.coordinator.sync_group(a_sync(member, 2, c_1="a", c_2="b")))
    await asyncio.sleep(1)
    assert not leading.done()
    assert not waiting.done()
    world.disk.make_durable()
    assert (await leading).assignment == b"a"
    assert (await waiting).assignment == b"b"


@pytest.mark.looptime
async def test_a_leader_whose_connection_breaks_does_not_leave_the_others_waiting(world: World) -> None:
    member = await a_stable_member(world)
    second = asyncio.create_task(world.coordinator.join_group(replace(a_join(), member_id_suffix="2")))
    await asyncio.sleep(0.1)
    await world.coordinator.join_group(a_join(member))
    follower = await second
    waiting = asyncio.create_task(world.coordinator.sync_group(a_sync(follower.member_id, 2)))
    await asyncio.sleep(0.1)
    world.disk.is_instant = False
    leading = asyncio.create_task(world.coordinator.sync_group(a_sync(member, 2, c_1="a", c_2="b")))
    await asyncio.sleep(1)
    leading.cancel()
    await asyncio.sleep(1)
    world.disk.make_durable()
    assert (await waiting).assignment == b"b"


@pytest.mark.looptime
async def test_a_silent_member_is_dropped_when_its_session_ends(world: World) -> None:
    await a_stable_member(world)
    await asyncio.sleep(9.9)
    assert (await world.coordinator.describe_group("g")).group_state == "Stable"
    await asyncio.sleep(0.2)
    assert (await world.coordinator.describe_group("g")).group_state == "Empty"


@pytest.mark.looptime
async def test_a_new_coordinator_finds_members_and_offsets(world: World) -> None:
    member = await a_stable_member(world)
    await world.coordinator.offset_commit(a_commit(7, member_id=member, generation=1), knows_group_errors=True)
    await asyncio.sleep(8)
    world.restart()
    await until_loaded(world)
    assert await fetched(world) == [7]
    # A full session from the load on.
    await asyncio.sleep(9)
    beat = await world.coordinator.heartbeat(HeartbeatRequest(group_id="g", member_id=member, generation_id=1))
    assert beat.error_code == ErrorCode.NONE
    synced = await world.coordinator.sync_group(a_sync(member, 1))
    assert synced.assignment == b"all"


@pytest.mark.looptime
async def test_a_checkpoint_and_the_tail_give_the_same_as_the_whole_log(world: World) -> None:
    await world.coordinator.find_coordinator("g")
    await until_loaded(world)
    await world.coordinator.offset_commit(a_commit(7), knows_group_errors=True)
    index = shard_of("g", SHARDS)
    world.partitions.opened[index].upload()
    # What the checkpoint describes is not read again: the records may be damaged.
    batches = world.disk.batches[index]
    await world.coordinator.offset_commit(a_commit(8), knows_group_errors=True)
    assert len(batches) == 2
    batches[0] = batches[0][:61] + b"\xff" * (len(batches[0]) - 61)
    world.restart()
    await until_loaded(world)
    assert await fetched(world) == [8]


@pytest.mark.looptime
async def test_an_unreadable_checkpoint_costs_only_time(world: World) -> None:
    await world.coordinator.find_coordinator("g")
    await until_loaded(world)
    await world.coordinator.offset_commit(a_commit(7), knows_group_errors=True)
    index = shard_of("g", SHARDS)
    world.partitions.opened[index].upload()
    offset, _ = world.disk.checkpoints[index, "group"]
    world.disk.checkpoints[index, "group"] = (offset, b"\x07nonsense")
    world.restart()
    await until_loaded(world)
    assert await fetched(world) == [7]


@pytest.mark.looptime
async def test_loss_of_leadership_fails_whoever_waits(world: World) -> None:
    member = await a_stable_member(world)
    waiting = asyncio.create_task(world.coordinator.join_group(replace(a_join(), member_id_suffix="2")))
    await asyncio.sleep(0.1)
    world.show(a_topic(OFFSETS_TOPIC, 9, partitions=SHARDS, leader=NodeId(2), epoch=2), a_topic("t", 1))
    with pytest.raises(ApiError) as caught:
        await waiting
    assert caught.value.code is ErrorCode.NOT_COORDINATOR
    with pytest.raises(ApiError):
        await world.coordinator.heartbeat(HeartbeatRequest(group_id="g", member_id=member, generation_id=1))


@pytest.mark.looptime
async def test_a_new_leader_epoch_is_loaded_anew(world: World) -> None:
    member = await a_stable_member(world)
    world.partitions.epochs = {index: StreamEpoch(2) for index in range(SHARDS)}
    world.show(a_topic(OFFSETS_TOPIC, 9, partitions=SHARDS, epoch=2), a_topic("t", 1))
    await until_loaded(world)
    beat = await world.coordinator.heartbeat(HeartbeatRequest(group_id="g", member_id=member, generation_id=1))
    assert beat.error_code == ErrorCode.NONE


@pytest.mark.looptime
async def test_a_shard_waits_for_its_partition_to_open(world: World) -> None:
    world.partitions.is_open = False
    await world.coordinator.find_coordinator("g")
    await asyncio.sleep(1)
    with pytest.raises(ApiError) as caught:
        await fetched(world)
    assert caught.value.code is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    with pytest.raises(ApiError) as caught:
        await world.coordinator.list_groups(states=frozenset(), types=frozenset())
    assert caught.value.code is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    world.partitions.is_open = True
    await until_loaded(world)


@pytest.mark.looptime
async def test_a_fenced_broker_answers_nothing(world: World) -> None:
    member = await a_stable_member(world)
    world.disk.is_instant = False
    commit = asyncio.create_task(
        world.coordinator.offset_commit(a_commit(7, member_id=member, generation=1), knows_group_errors=True)
    )
    waiting = asyncio.create_task(world.coordinator.join_group(replace(a_join(), member_id_suffix="2")))
    await asyncio.sleep(0.1)
    world.coordinator.fence()
    # Even if the store says so afterwards.
    world.disk.make_durable()
    for answer in (commit, waiting):
        with pytest.raises(ApiError) as caught:
            await answer
        assert caught.value.code is ErrorCode.NOT_COORDINATOR
    with pytest.raises(ApiError):
        await world.coordinator.heartbeat(HeartbeatRequest(group_id="g", member_id=member, generation_id=1))
    with pytest.raises(ApiError):
        await world.coordinator.list_groups(states=frozenset(), types=frozenset())


@pytest.mark.looptime
async def test_a_fenced_append_closes_the_shard(world: World) -> None:
    await world.coordinator.find_coordinator("g")
    await until_loaded(world)
    world.disk.is_instant = False
    commit = asyncio.create_task(world.coordinator.offset_commit(a_commit(7), knows_group_errors=True))
    await asyncio.sleep(0.1)
    world.disk.lose(BrokerFenced("a newer incarnation took over"))
    with pytest.raises(ApiError) as caught:
        await commit
    assert caught.value.code is ErrorCode.NOT_COORDINATOR


@pytest.mark.looptime
async def test_offsets_of_deleted_topics_go_with_them(world: World) -> None:
    await world.coordinator.find_coordinator("g")
    await until_loaded(world)
    await world.coordinator.offset_commit(a_commit(7), knows_group_errors=True)
    world.show(a_topic(OFFSETS_TOPIC, 9, partitions=SHARDS))
    await asyncio.sleep(0.1)
    assert await fetched(world) == []


@pytest.mark.looptime
async def test_groups_are_listed_by_name_over_all_shards(world: World) -> None:
    await world.coordinator.find_coordinator("g")
    for name in ("zebra", "apple", "mango", "fig"):
        await until_loaded(world, name)
        await world.coordinator.offset_commit(a_commit(1, group=name), knows_group_errors=True)
    for shard in range(SHARDS):
        await until_loaded(world, next(f"x{n}" for n in range(100) if shard_of(f"x{n}", SHARDS) == shard))
    groups = await world.coordinator.list_groups(states=frozenset(), types=frozenset())
    assert [group.group_id for group in groups] == ["apple", "fig", "mango", "zebra"]


@pytest.mark.looptime
async def test_session_timeouts_have_bounds_and_groups_have_names(world: World) -> None:
    await world.coordinator.find_coordinator("g")
    await until_loaded(world)
    with pytest.raises(ApiError) as caught:
        await world.coordinator.join_group(replace(a_join(), session_timeout_ms=5_999))
    assert caught.value.code is ErrorCode.INVALID_SESSION_TIMEOUT
    with pytest.raises(ApiError) as caught:
        await world.coordinator.join_group(a_join(group=""))
    assert caught.value.code is ErrorCode.INVALID_GROUP_ID
    with pytest.raises(ApiError) as caught:
        await world.coordinator.join_group(a_join(group="x" * 10_000))
    assert caught.value.code is ErrorCode.INVALID_GROUP_ID


@pytest.mark.looptime
async def test_leaving_empties_the_group_at_once(world: World) -> None:
    member = await a_stable_member(world)
    response = await world.coordinator.leave_group(
        LeaveGroupRequest(group_id="g", members=[MemberIdentity(member_id=member)])
    )
    assert [left.error_code for left in response.members] == [ErrorCode.NONE]
    assert (await world.coordinator.describe_group("g")).group_state == "Empty"
    assert await world.coordinator.delete_group("g") is ErrorCode.NONE
    assert (await world.coordinator.describe_group("g")).error_code == ErrorCode.GROUP_ID_NOT_FOUND
