"""The block cache: bounded, one load a block in flight, failures told to who waits and not kept."""

import asyncio

import pytest

from automq.ids import ObjectId, Offset, StreamId
from automq.runtime.budget import BorrowingBudget, ByteBudget
from automq.runtime.tasks import Tasks
from automq.runtime.telemetry import Metrics
from automq.s3stream.cache.block_cache import BlockCache
from automq.s3stream.model import ObjectSpan
from automq.s3stream.objects.block import BLOCK_OVERHEAD_BYTES
from automq.s3stream.objects.format import IndexEntry, object_key
from automq.s3stream.objects.writer import ObjectWriter
from automq.s3stream.ports import StoreUnavailable
from automq.s3stream.store.memory import MemoryStore
from tests.support.engine import CLUSTER, HeldStore, LoopClock, stored
from tests.support.object_reads import read_objects

OBJECT = ObjectId(7)
STREAM = StreamId(1)


class World:
    """One object of four blocks, and a cache before it."""

    def __init__(self, *, bytes_max: int = 1_000_000, cold_bytes: int = 1_000_000) -> None:
        self.store = HeldStore(MemoryStore())
        self.reader = read_objects(self.store)
        self.crashes: list[str] = []
        self.tasks = Tasks("cache", on_crash=lambda name, error: self.crashes.append(name))
        self.account = ByteBudget(bytes_max)
        self.cache = BlockCache(
            reader=self.reader,
            account=self.account,
            loading=ByteBudget(cold_bytes),
            clock=LoopClock(),
            tasks=self.tasks,
            metrics=Metrics(),
        )
        self.size = 0

    async def write(self) -> list[IndexEntry]:
        writer = ObjectWriter(CLUSTER, OBJECT)
        for block in range(4):
            writer.add_block(STREAM, [stored(STREAM, block, 1, 0, size=1000)])
        await self.store.put(object_key(CLUSTER, OBJECT), writer.finish())
        self.size = writer.size
        entries, _ = await self.reader.index.entries_from(OBJECT, writer.size, STREAM, Offset(0))
        self.store.calls.clear()
        return list(entries)


async def test_concurrent_readers_share_one_load() -> None:
    world = World()
    entries = await world.write()

    blocks = await asyncio.gather(*(world.cache.block(OBJECT, entries[0]) for _ in range(5)))

    assert len(world.store.calls) == 1
    assert all(block is blocks[0] for block in blocks)
    assert await world.cache.block(OBJECT, entries[0]) is blocks[0]


async def test_least_recently_used_blocks_go_first() -> None:
    world = World(bytes_max=2 * (1000 + BLOCK_OVERHEAD_BYTES + 200))
    entries = await world.write()
    for number in (0, 1, 0, 2):
        await world.cache.block(OBJECT, entries[number])
    world.store.calls.clear()

    await world.cache.block(OBJECT, entries[0])
    assert world.store.calls == []
    assert world.account.used <= 2 * (1000 + BLOCK_OVERHEAD_BYTES + 200)

    await world.cache.block(OBJECT, entries[1])
    assert len(world.store.calls) == 1


async def test_blocks_go_when_another_account_takes_their_room() -> None:
    world = World()
    entries = await world.write()
    for entry in entries:
        await world.cache.block(OBJECT, entry)
    held = world.account.used
    memory = BorrowingBudget(0, world.account)
    memory.charge(world.account.limit - held // 2)
    assert world.account.used <= world.account.limit
    memory.release(memory.used)
    assert 0 < world.account.used <= held // 2
    world.store.calls.clear()
    await world.cache.block(OBJECT, entries[-1])
    assert world.store.calls == []


async def test_neighbours_loaded_ahead_share_a_request() -> None:
    world = World()
    entries = await world.write()

    world.cache.preload(OBJECT, entries)
    await world.cache.block(OBJECT, entries[3])

    assert len(world.store.calls) == 1


async def test_reader_that_gives_up_does_not_take_the_load_away() -> None:
    world = World()
    entries = await world.write()
    gate = asyncio.Event()
    world.store.before = lambda name, key: gate.wait()
    impatient = asyncio.ensure_future(world.cache.block(OBJECT, entries[0]))
    patient = asyncio.ensure_future(world.cache.block(OBJECT, entries[0]))
    await asyncio.sleep(0)
    impatient.cancel()
    gate.set()

    assert (await patient).start == 0


async def test_failed_load_is_told_and_tried_again_next_time() -> None:
    world = World()
    entries = await world.write()

    async def fail(name: str, key: str) -> None:
        raise StoreUnavailable("no store")

    world.store.before = fail
    with pytest.raises(StoreUnavailable):
        await world.cache.block(OBJECT, entries[0])

    world.store.before = HeldStore(world.store).before
    assert (await world.cache.block(OBJECT, entries[0])).start == 0
    assert world.crashes == []


@pytest.mark.looptime
async def test_a_damaged_block_is_looked_at_again_after_a_while_and_not_before() -> None:
    world = World()
    entries = await world.write()
    key = object_key(CLUSTER, OBJECT)
    whole = await world.store.get(key)
    damaged = bytearray(whole)
    damaged[entries[0].position + 90] ^= 1
    await world.store.put(key, [damaged])
    world.store.calls.clear()

    for _ in range(3):
        assert (await world.cache.block(OBJECT, entries[0])).damage is not None
    assert len(world.store.calls) == 2, "read once more before it counts as damaged, then remembered"

    await world.store.put(key, [whole])
    await asyncio.sleep(31)
    assert (await world.cache.block(OBJECT, entries[0])).damage is None
    assert entries[0].size < world.account.used < entries[0].size + 2 * BLOCK_OVERHEAD_BYTES


async def test_f8_a_damaged_block_takes_nothing_from_its_neighbours() -> None:
    world = World()
    entries = await world.write()
    key = object_key(CLUSTER, OBJECT)
    damaged = bytearray(await world.store.get(key))
    damaged[entries[1].position + 90] ^= 1
    await world.store.put(key, [damaged])

    world.cache.preload(OBJECT, entries)

    blocks = [await world.cache.block(OBJECT, entry) for entry in entries]
    assert [block.damage is None for block in blocks] == [True, False, True, True]


async def test_loads_wait_for_the_cold_read_budget() -> None:
    world = World(cold_bytes=1100)
    entries = await world.write()
    gate = asyncio.Event()
    world.store.before = lambda name, key: gate.wait()
    reads = [asyncio.ensure_future(world.cache.block(OBJECT, entry)) for entry in (entries[0], entries[2])]
    await asyncio.sleep(0.01)
    assert len(world.store.calls) == 1

    gate.set()

    assert [(await read).start for read in reads] == [0, 2]


async def test_object_about_to_be_reached_is_warmed() -> None:
    world = World()
    entries = await world.write()
    span = ObjectSpan(
        object_id=OBJECT, object_size=world.size, start=Offset(0), end=Offset(4), size=4000, max_timestamp_ms=0
    )

    world.cache.warm(span, STREAM, bytes_max=1500)
    await asyncio.sleep(0.01)
    world.store.calls.clear()

    await world.cache.block(OBJECT, entries[1])
    assert world.store.calls == []
