"""An upload of thousands of partitions, from sealing to the commit's publication, is bounded turns."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from automq.s3stream.settings import StorageSettings
from tests.support.batches import build_batch
from tests.support.growth_world import GrowthWorld, growth_world
from tests.support.turns import check_turns

PARTITIONS = 3_000
SETTINGS = StorageSettings(upload_interval_ms=10**8)


async def appended(world: GrowthWorld) -> None:
    """One record in each partition, durable."""
    await world.create_topics(PARTITIONS)
    await world.opened(PARTITIONS)
    for partition in world.partitions.all():
        partition.append(memoryview(bytearray(build_batch([b"value"], timestamp_ms=0))))
    while any(partition.high_watermark != 1 for partition in world.partitions.all()):
        await asyncio.sleep(0.01)


async def test_b1_sealing_and_committing_many_partitions_is_bounded_turns() -> None:
    async with AsyncExitStack() as stack:

        async def prepare() -> Callable[[], Awaitable[object]]:
            world = await stack.enter_async_context(growth_world(storage_settings=SETTINGS))
            await appended(world)

            async def work() -> None:
                await world.storage.upload.flush()
                assert {stream.end for stream in world.metadata.image.streams.values()} == {1}

            return work

        await check_turns(prepare)
