"""Cold reads of streams that trickle among thousands: requests and bytes are counted, never times."""

import asyncio
from collections.abc import Sequence

import pytest

from automq.ids import Offset, StreamId
from automq.s3stream.cache.cold_read import FIRST_SPANS_MAX, SPANS_MAX
from automq.s3stream.settings import StorageSettings
from automq.s3stream.stream import Stream
from tests.support.growth_world import GrowthWorld, growth_world
from tests.support.object_reads import CountedStore

PARTITIONS = 10_000
OBJECTS = 8
BATCH_BYTES = 480
"""As in the measurement of what it was before: 13,232 bytes were fetched for each byte."""
BYTES_A_BYTE_MAX = 20
GETS_AN_OBJECT_MAX = 1.2
READ_BYTES = 1 << 20


async def read_all(stream: Stream, end: int) -> tuple[int, int]:
    """As a consumer does: the bytes, and how many reads it took."""
    size = reads = 0
    position = stream.start_offset
    while position < end:
        result = await stream.read(position, Offset(end), READ_BYTES)
        assert result.batches
        size, reads, position = size + result.size, reads + 1, result.end_offset
        result.release()
    return size, reads


async def trickle(world: GrowthWorld, streams: Sequence[StreamId], objects: int) -> None:
    for _ in range(objects):
        await world.upload_batches(streams, batch_bytes=BATCH_BYTES)


async def with_streams(world: GrowthWorld, count: int) -> list[StreamId]:
    await world.create_topics(count)
    await world.opened(count)
    return list(world.streams)


def stream_of(world: GrowthWorld, stream_id: StreamId) -> Stream:
    return next(part._stream for part in world.partitions.all() if part.stream_id == stream_id)


async def test_b7_a_trickling_partition_among_ten_thousand_costs_one_request_an_object() -> None:
    store = CountedStore()
    async with growth_world(storage_settings=StorageSettings(), objects=store) as world:
        streams = await with_streams(world, PARTITIONS)
        await trickle(world, streams, OBJECTS)

        for stream_id in (streams[0], streams[PARTITIONS // 2], streams[-1]):
            store.ranges.clear()
            size, reads = await read_all(stream_of(world, stream_id), OBJECTS)

            assert (size, reads) == (OBJECTS * BATCH_BYTES, 1)
            assert len(store.ranges) <= GETS_AN_OBJECT_MAX * OBJECTS
            assert store.fetched <= BYTES_A_BYTE_MAX * size

        # What must be looked up costs the root of an index and a page of it, whoever else is in the object.
        store.ranges.clear()
        assert await stream_of(world, streams[77]).find_timestamp(0) == 0
        assert len(store.ranges) == 1


async def test_b7_many_readers_of_trickling_partitions_fetch_nothing_twice() -> None:
    """A cache that holds a part of what all of them are about to read: who is loaded ahead for costs no more."""
    store = CountedStore()
    objects, count = 200, 100
    settings = StorageSettings(block_cache_bytes=4 << 20)
    async with growth_world(storage_settings=settings, objects=store) as world:
        streams = await with_streams(world, count)
        await trickle(world, streams, objects)
        store.ranges.clear()

        sizes = await asyncio.gather(*(read_all(stream_of(world, stream), objects) for stream in streams))

        assert {size for size, _ in sizes} == {objects * BATCH_BYTES}
        assert len(store.ranges) <= GETS_AN_OBJECT_MAX * objects * count
        assert store.fetched <= 2 * objects * count * BATCH_BYTES


async def test_b7_a_stream_of_ten_thousand_ranges_is_read_in_few_answers() -> None:
    store = CountedStore()
    async with growth_world(storage_settings=StorageSettings(), objects=store) as world:
        streams = await with_streams(world, 1)
        await trickle(world, streams, PARTITIONS)
        store.ranges.clear()

        size, reads = await read_all(stream_of(world, streams[0]), PARTITIONS)

        assert size == PARTITIONS * BATCH_BYTES
        assert reads <= 2 + (PARTITIONS - FIRST_SPANS_MAX) // SPANS_MAX
        assert len(store.ranges) == PARTITIONS


@pytest.mark.parametrize("readers", [200])
async def test_b7_readers_of_one_partition_share_what_is_on_its_way(readers: int) -> None:
    store = CountedStore()
    async with growth_world(storage_settings=StorageSettings(), objects=store) as world:
        streams = await with_streams(world, 10)
        await trickle(world, streams, OBJECTS)
        store.ranges.clear()
        stream = stream_of(world, streams[3])

        found = await asyncio.gather(*(read_all(stream, OBJECTS) for _ in range(readers)))

        assert set(found) == {(OBJECTS * BATCH_BYTES, 1)}
        assert len(store.ranges) == OBJECTS
