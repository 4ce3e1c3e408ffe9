"""The shell across loads and losses: a new coordinator finds everything, an old one answers nothing."""

import asyncio
from dataclasses import replace

import pytest

from automq.coordinators.group.coordinator import OFFSETS_TOPIC
from automq.coordinators.group.model import shard_of
from automq.ids import NodeId, StreamEpoch
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.messages.group import (
    HeartbeatRequest,
)
from automq.s3stream.model import BrokerFenced
from tests.support.group_shell import (
    World,
    a_commit,
    a_join,
    a_stable_member,
    a_sync,
    a_topic,
    fetched,
    until_loaded,
    world,
)

__all__ = ["world"]

NODE = NodeId(1)
SHARDS = 4


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
    (section,) = world.disk.checkpoints[index, "group"]
    world.disk.checkpoints[index, "group"] = [section._replace(payload=b"\x07nonsense")]
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
async def test_members_of_a_group_that_is_being_loaded_are_told_what_clients_do_not_give_up_at(world: World) -> None:
    """aiokafka and Java's consumer end at COORDINATOR_LOAD_IN_PROGRESS as the answer to Heartbeat and SyncGroup."""
    member = await a_stable_member(world)
    world.restart()
    world.partitions.is_open = False
    await asyncio.sleep(1)

    beat = await world.coordinator.heartbeat(HeartbeatRequest(group_id="g", member_id=member, generation_id=1))
    assert beat.error_code == ErrorCode.NONE
    with pytest.raises(ApiError) as caught:
        await world.coordinator.sync_group(a_sync(member, 1))
    assert caught.value.code is ErrorCode.REBALANCE_IN_PROGRESS

    world.partitions.is_open = True
    await until_loaded(world)
    with pytest.raises(ApiError) as caught:
        await world.coordinator.heartbeat(HeartbeatRequest(group_id="g", member_id="other", generation_id=1))
    assert caught.value.code is ErrorCode.UNKNOWN_MEMBER_ID


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


async def test_b5_other_topics_are_no_work_for_the_coordinator(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    offsets, other = a_topic(OFFSETS_TOPIC, 9, partitions=SHARDS), a_topic("t", 1)
    world.show(offsets)
    await until_loaded(world)
    calls: list[str] = []
    monkeypatch.setattr(type(world.coordinator), "_follow", lambda self, image: calls.append("follow"))
    for runner in world.coordinator._runners.values():
        monkeypatch.setattr(runner, "sweep_soon", lambda: calls.append("sweep"))

    world.metadata.replace(world.metadata.image.with_record_number(world.metadata.image.record_number + 1))
    world.show(offsets, other)
    assert calls == []
    world.show(offsets)
    assert calls == ["sweep"] * SHARDS
    world.show(replace(offsets, replication_factor=3))
    assert calls == ["sweep"] * SHARDS + ["follow"]
