"""A group with very many offsets: read, deleted and looked through in bounded turns, and still one group."""

import asyncio

import pytest

from automq.coordinators.group.model import GroupSettings
from automq.coordinators.group.shard import DELETED_A_TURN
from automq.coordinators.group.shard_runner import ShardRunner
from automq.protocol.apis import APIS, ApiKey, encode_response_in_parts
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.messages.offset import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetFetchRequestGroup,
    OffsetFetchResponse,
    OffsetFetchResponseGroup,
)
from automq.runtime.turns import in_turns
from tests.support.group_world import GroupWorld
from tests.support.state_world import Work, a_runner, a_shard
from tests.support.turns import check_turns

OFFSETS = 30_000
OFFSET_FETCH = APIS[ApiKey.OFFSET_FETCH]


async def fetched(runner: ShardRunner) -> OffsetFetchResponseGroup:
    request = OffsetFetchRequestGroup(group_id="group-0", topics=None)
    return await runner.read(lambda shard: shard.fetch(request))


async def test_a6_all_offsets_of_a_large_group_are_read_and_encoded_in_bounded_turns() -> None:
    disk = a_shard(OFFSETS, is_one_group=True)

    async def prepare() -> Work:
        runner = await a_runner(disk)

        async def work() -> None:
            response = OffsetFetchResponse(groups=[await fetched(runner)])
            assert sum(len(topic.partitions) for topic in response.groups[0].topics) == OFFSETS
            assert len(await in_turns(encode_response_in_parts(OFFSET_FETCH, 8, 1, response))) > 20 * OFFSETS
            assert response.groups == [None]
            runner.close()

        return work

    assert (await check_turns(prepare)).turns > 10


async def test_a6_a_large_group_is_deleted_in_bounded_turns() -> None:
    async def prepare() -> Work:
        runner = await a_runner(a_shard(OFFSETS, is_one_group=True))

        async def work() -> None:
            assert await runner.delete_group("group-0") is ErrorCode.NONE
            assert runner.shard.groups == {}
            assert runner.shard.offsets.count("group-0") == 0
            assert (await fetched(runner)).topics == []
            runner.close()

        return work

    assert (await check_turns(prepare)).turns > OFFSETS / DELETED_A_TURN


async def test_a_group_that_is_being_deleted_is_told_to_come_again_and_its_deletion_outlives_who_asked() -> None:
    runner = await a_runner(a_shard(4 * DELETED_A_TURN, is_one_group=True))
    asked = asyncio.ensure_future(runner.delete_group("group-0"))
    while runner.shard.offsets.count("group-0") == 4 * DELETED_A_TURN:
        await asyncio.sleep(0)
    assert runner.shard.offsets.count("group-0") > 0
    partition = OffsetCommitRequestPartition(partition_index=0, committed_offset=5)
    commit = OffsetCommitRequest(
        group_id="group-0", topics=[OffsetCommitRequestTopic(name="topic-0", partitions=[partition])]
    )
    for refused in (
        runner.answer(lambda shard, turn: shard.commit(turn, commit, knows_group_errors=True)),
        fetched(runner),
    ):
        with pytest.raises(ApiError) as caught:
            await refused
        assert caught.value.code is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS

    asked.cancel()
    while runner.shard.offsets.count("group-0"):
        await asyncio.sleep(0)

    assert await runner.delete_group("group-0") is ErrorCode.GROUP_ID_NOT_FOUND
    await runner.answer(lambda shard, turn: shard.commit(turn, commit, knows_group_errors=True))
    assert [topic.name for topic in (await fetched(runner)).topics] == ["topic-0"]
    runner.close()


async def test_a_deletion_that_a_lost_log_ends_is_told_of() -> None:
    disk = a_shard(4 * DELETED_A_TURN, is_one_group=True)
    runner = await a_runner(disk)
    disk.is_instant = False
    asked = asyncio.ensure_future(runner.delete_group("group-0"))
    while runner.shard.offsets.count("group-0"):
        await asyncio.sleep(0)
    assert not asked.done()
    disk.lose(RuntimeError("no log any more"))

    with pytest.raises(ApiError) as caught:
        await asked
    assert caught.value.code is ErrorCode.NOT_COORDINATOR


@pytest.mark.parametrize("comes_back", [False, True])
def test_b6_a_sweep_looks_at_a_large_group_some_offsets_a_turn(
    monkeypatch: pytest.MonkeyPatch, comes_back: bool
) -> None:
    """And the group goes with its last offset, unless somebody has committed to it meanwhile."""
    monkeypatch.setattr("automq.coordinators.group.shard.SWEEP_OFFSETS_A_TURN", 100)
    world = GroupWorld(GroupSettings(offsets_retention_ms=1_000))
    partitions = [OffsetCommitRequestPartition(partition_index=index, committed_offset=1) for index in range(1_000)]

    def commit(*partitions: OffsetCommitRequestPartition) -> None:
        turn = world.turn()
        topics = [OffsetCommitRequestTopic(name="t", partitions=list(partitions))]
        world.shard.commit(turn, OffsetCommitRequest(group_id="g", topics=topics), knows_group_errors=True)
        world.carry_out(turn)

    commit(*partitions)
    world.now_ms = 2_000
    turn = world.turn()

    world.shard.sweep(turn, lambda _name, _id: True)

    assert len(turn.records) == 100
    world.carry_out(turn)
    if comes_back:
        commit(OffsetCommitRequestPartition(partition_index=5_000, committed_offset=1))
    world.advance(0)
    assert world.shard.offsets.count("g") == comes_back
    assert list(world.shard.groups) == ["g"] * comes_back
