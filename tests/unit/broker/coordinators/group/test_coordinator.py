"""The shell: durability before answers, loading and unloading of shards, fencing, timers."""

import asyncio
from dataclasses import replace

import pytest

from automq.coordinators.group.coordinator import OFFSETS_TOPIC
from automq.coordinators.group.model import shard_of
from automq.ids import NodeId
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.messages.group import (
    HeartbeatRequest,
    LeaveGroupRequest,
    MemberIdentity,
)
from automq.s3stream.model import CorruptData
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


@pytest.mark.looptime
async def test_f8_groups_of_a_quarantined_shard_are_unavailable_and_the_others_go_on(world: World) -> None:
    await world.coordinator.find_coordinator("g")
    await until_loaded(world)
    await world.coordinator.offset_commit(a_commit(7), knows_group_errors=True)
    await world.coordinator.offset_commit(a_commit(8, group="other"), knows_group_errors=True)
    shard, others = shard_of("g", SHARDS), shard_of("other", SHARDS)
    assert shard != others

    world.restart()
    quarantined = world.partitions.get(OFFSETS_TOPIC, shard)
    quarantined.is_quarantined = True
    await asyncio.sleep(1)

    with pytest.raises(ApiError) as caught:
        await fetched(world)
    assert caught.value.code is ErrorCode.COORDINATOR_NOT_AVAILABLE
    groups = await world.coordinator.list_groups(states=frozenset(), types=frozenset())
    assert [group.group_id for group in groups] == ["other"]

    quarantined.is_quarantined = False
    await asyncio.sleep(1)
    assert await fetched(world) == [7]


@pytest.mark.looptime
async def test_f8_a_shard_whose_log_cannot_be_read_is_unavailable_until_it_can(world: World) -> None:
    await world.coordinator.find_coordinator("g")
    await until_loaded(world)
    await world.coordinator.offset_commit(a_commit(7), knows_group_errors=True)

    world.restart()
    damaged = world.partitions.get(OFFSETS_TOPIC, shard_of("g", SHARDS))
    damaged.damage = CorruptData(key="k", offset=0, length=1, what="record batch")
    await asyncio.sleep(1)
    with pytest.raises(ApiError) as caught:
        await fetched(world)
    assert caught.value.code is ErrorCode.COORDINATOR_NOT_AVAILABLE

    damaged.damage = None
    await asyncio.sleep(11)
    assert await fetched(world) == [7]
