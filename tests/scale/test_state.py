"""States of 100,000 producers and of a million committed offsets: bytes and calls are counted, nothing is timed."""

import asyncio
import random
import sys
from asyncio import events
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

import pytest

from automq.coordinators.group.checkpoint import CompactedLog
from automq.protocol.apis import APIS, ApiKey, encode_response_in_parts
from automq.protocol.messages.offset import OffsetFetchRequestGroup, OffsetFetchResponse
from automq.runtime.turns import in_turns
from tests.support.offsets_partitions import Disk
from tests.support.state_world import StateWorld, a_runner, a_shard, loading

PRODUCERS = 100_000
OFFSETS = 1_000_000
CALLS_A_TURN = 40_000
"""Of functions of every kind: some milliseconds on a slow core."""


@pytest.fixture(scope="module")
def shard() -> Disk:
    """A million offsets of one group."""
    return a_shard(OFFSETS, is_one_group=True)


async def test_a6_100_000_producers_of_a_partition_cost_twice_their_records_at_most() -> None:
    dice, world = random.Random(1), StateWorld()
    for producer in range(PRODUCERS):
        world.produce(producer, 0, size=120)
        if producer % 10_000 == 0:
            await world.upload()
    for number in range(PRODUCERS):
        world.produce(dice.randrange(PRODUCERS), 1, size=120)
        if number % 5_000 == 0:
            await world.upload()

    assert world.pieces > 10
    assert world.state_bytes <= 2 * world.record_bytes


async def test_a6_a_million_committed_offsets_cost_twice_their_records_at_most() -> None:
    world, compacted = StateWorld(), CompactedLog()
    world.attach(compacted.entries)
    for number in range(OFFSETS):
        world.commit(compacted, number, 0)
        if number % 100_000 == 0:
            await world.upload()
    for number in range(200_000):
        world.commit(compacted, number * 7 % OFFSETS, number)
        if number % 10_000 == 0:
            await world.upload()

    assert world.state_bytes <= 2 * world.record_bytes


@pytest.mark.parametrize("kind", ["producers", "offsets"])
async def test_a6_an_upload_of_a_large_state_is_many_small_parts(kind: str) -> None:
    world, compacted = StateWorld(), CompactedLog()
    world.attach(compacted.entries)
    for number in range(PRODUCERS if kind == "producers" else OFFSETS):
        if kind == "producers":
            world.produce(number, 0, size=120)
        else:
            world.commit(compacted, number, 0)

    assert await most_calls_in_a_turn(world.upload) <= CALLS_A_TURN


async def test_a6_a_coordinator_loads_a_million_offsets_some_at_a_time(shard: Disk) -> None:
    assert await most_calls_in_a_turn(await loading(shard)) <= CALLS_A_TURN


async def test_a6_all_offsets_of_a_group_of_a_million_are_told_some_at_a_time(shard: Disk) -> None:
    runner = await a_runner(shard)
    request = OffsetFetchRequestGroup(group_id="group-0", topics=None)
    told: list[int] = []

    async def fetch() -> None:
        response = OffsetFetchResponse(groups=[await runner.read(lambda groups: groups.fetch(request))])
        told.append(sum(len(topic.partitions) for topic in response.groups[0].topics))
        frame = await in_turns(encode_response_in_parts(APIS[ApiKey.OFFSET_FETCH], 8, 1, response))
        told.append(len(frame))

    assert await most_calls_in_a_turn(fetch) <= CALLS_A_TURN
    assert told[0] == OFFSETS
    assert told[1] >= 20 * OFFSETS


async def test_a6_a_group_of_a_million_offsets_is_deleted_some_at_a_time(shard: Disk) -> None:
    """The last test: it changes the shard."""
    runner = await a_runner(shard)

    assert await most_calls_in_a_turn(lambda: runner.delete_group("group-0")) <= CALLS_A_TURN
    assert runner.shard.groups == {}
    assert runner.shard.offsets.groups() == []


async def most_calls_in_a_turn(work: Callable[[], Awaitable[object]]) -> int:
    """Of functions, while `work` is done: what a turn of the loop costs, whatever the machine."""
    calls = most = 0
    run: Any = events.Handle._run

    def count(_frame: FrameType, event: str, _arg: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    def counted(handle: Any) -> None:
        nonlocal calls, most
        calls = 0
        sys.setprofile(count)
        try:
            run(handle)
        finally:
            sys.setprofile(None)
        most = max(most, calls)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(events.Handle, "_run", counted)
        await asyncio.get_running_loop().create_task(_awaited(work))
    return most


async def _awaited(work: Callable[[], Awaitable[object]]) -> None:
    await work()
