"""States of 100,000 producers and of a million committed offsets: bytes are counted, and turns are short."""

import random

import pytest

from automq.coordinators.group.checkpoint import CompactedLog
from tests.support.state_world import StateWorld, Work, a_shard, loading
from tests.support.turns import check_turns

PRODUCERS = 100_000
OFFSETS = 1_000_000


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
async def test_a6_an_upload_of_a_large_state_takes_no_long_turn(kind: str) -> None:
    async def prepare() -> Work:
        world, compacted = StateWorld(), CompactedLog()
        world.attach(compacted.entries)
        for number in range(PRODUCERS if kind == "producers" else OFFSETS):
            if kind == "producers":
                world.produce(number, 0, size=120)
            else:
                world.commit(compacted, number, 0)
        return world.upload

    await check_turns(prepare)


async def test_a_coordinator_loads_a_million_offsets_without_a_long_turn() -> None:
    disk = a_shard(OFFSETS)
    await check_turns(lambda: loading(disk))
