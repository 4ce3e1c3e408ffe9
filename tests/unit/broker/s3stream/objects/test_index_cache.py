"""Indexes in memory: what a lookup costs, one load in flight, within budgets; damage is contained and remembered."""

import asyncio
from typing import Any

import pytest
from crc32c import crc32c

from automq.ids import ObjectId, Offset, StreamId
from automq.runtime.budget import ByteBudget
from automq.s3stream.model import CorruptData
from automq.s3stream.objects.format import ENTRY_BYTES, FOOTER_BYTES, PAGE_ENTRIES, IndexEntry, object_key
from automq.s3stream.objects.index_cache import INDEX_OVERHEAD_BYTES, TAIL_BYTES, IndexCache, read_index
from automq.s3stream.objects.writer import ObjectWriter
from automq.s3stream.ports import ObjectNotFound, StoreUnavailable
from tests.support.engine import CLUSTER, HeldStore, stored
from tests.support.object_reads import CountedStore, read_objects
from tests.support.old_objects import OldObjectWriter

OBJECT = ObjectId(7)
KEY = object_key(CLUSTER, OBJECT)
PAGE_BYTES = PAGE_ENTRIES * ENTRY_BYTES
MANY = 10_000


class World:
    """One object of many streams, each with one batch and every third with a checkpoint."""

    def __init__(self, *, account: int = 1_000_000, loading: int = 1_000_000) -> None:
        self.store = CountedStore()
        self.account, self.loading = ByteBudget(account), ByteBudget(loading)
        self.size = 0

    async def write(self, *, streams: int = MANY, old: bool = False) -> "World":
        writer = (OldObjectWriter if old else ObjectWriter)(CLUSTER, OBJECT)
        for stream in range(1, streams + 1):
            writer.add_block(StreamId(stream), [stored(stream, 0, 2, 0, size=20)])
            if not stream % 3:
                writer.add_checkpoint(StreamId(stream), Offset(2), [b"state"], crc=crc32c(b"state"))
        await self.store.put(KEY, writer.finish())
        self.size = writer.size
        self.store.calls.clear()
        return self

    @property
    def cache(self) -> IndexCache:
        if not hasattr(self, "_cache"):
            self._cache = read_objects(self.store, account=self.account, loading=self.loading).index
        return self._cache

    async def entries(self, stream: int) -> list[IndexEntry]:
        entries, more = await self.cache.entries_from(OBJECT, self.size, StreamId(stream), Offset(0))
        assert not more
        return list(entries)

    async def spoil(self, position: int) -> None:
        data = bytearray(await self.store.get(KEY))
        data[position] ^= 1
        await self.store.put(KEY, [data])
        self.store.calls.clear()


async def test_b7_one_stream_of_ten_thousand_costs_a_root_and_a_page() -> None:
    world = await World().write()

    assert [entry.stream for entry in await world.entries(5000)] == [5000]

    assert len(world.store.ranges) == 2
    assert world.store.fetched == TAIL_BYTES + PAGE_BYTES


async def test_b7_neighbours_share_the_root_and_the_page() -> None:
    world = await World().write()
    await world.entries(5000)
    world.store.ranges.clear()

    for stream in range(4990, 5010):
        assert [entry.stream for entry in await world.entries(stream)] == [stream]
    assert len(world.store.ranges) <= 1
    assert (await world.cache.checkpoint_entry(OBJECT, world.size, StreamId(5001), Offset(2))) is not None
    assert (await world.cache.checkpoint_entry(OBJECT, world.size, StreamId(5002), Offset(2))) is None


async def test_the_index_of_a_small_object_comes_with_its_root() -> None:
    world = await World().write(streams=40)

    for stream in range(1, 41):
        assert len(await world.entries(stream)) == 1

    assert len(world.store.ranges) == 1


async def test_a_root_longer_than_the_guess_is_read_in_a_second_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("automq.s3stream.objects.index_cache.TAIL_BYTES", 100)
    world = await World().write()

    assert len(await world.entries(5000)) == 1

    assert len(world.store.ranges) == 3


@pytest.mark.parametrize("streams", [40, 3000])
async def test_an_index_of_version_1_is_read_whole(streams: int) -> None:
    world = await World().write(streams=streams, old=True)

    for stream in (1, streams // 2, streams):
        assert [entry.stream for entry in await world.entries(stream)] == [stream]
    assert (await world.cache.checkpoint_entry(OBJECT, world.size, StreamId(3), Offset(2))) is not None

    assert len(world.store.ranges) == (1 if streams == 40 else 2)


@pytest.mark.parametrize("old", [False, True])
async def test_the_whole_index_is_read_in_two_requests(old: bool) -> None:
    world = await World().write(streams=3000, old=old)
    index = await read_index(world.store.get_range, cluster_id=CLUSTER, object_id=OBJECT, object_size=world.size)

    assert index.count == 4000
    assert len(world.store.ranges) == 2


async def test_b7_two_hundred_readers_of_one_object_share_its_root_and_pages() -> None:
    world = await World().write()

    found = await asyncio.gather(*(world.entries(5000) for _ in range(200)))

    assert {len(entries) for entries in found} == {1}
    assert len(world.store.ranges) == 2


async def test_who_gives_up_takes_nothing_away_from_the_others() -> None:
    world = await World().write()
    gate = asyncio.Event()
    world.store.before = lambda _name, _key: gate.wait()
    impatient = asyncio.ensure_future(world.entries(5000))
    patient = asyncio.ensure_future(world.entries(5000))
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.sleep(0)
    gate.set()

    assert len(await patient) == 1
    assert len(world.store.ranges) == 2
    assert world.loading.used == 0


async def test_b7_what_is_on_its_way_is_within_the_budget_of_cold_reads() -> None:
    world = await World(loading=PAGE_BYTES * 2).write()
    in_flight = most = 0

    async def begin(_name: str, _key: str) -> None:
        nonlocal in_flight, most
        in_flight += 1
        most = max(most, in_flight)
        await asyncio.sleep(0.001)

    async def end(_name: str, _key: str) -> None:
        nonlocal in_flight
        in_flight -= 1

    world.store.before, world.store.after = begin, end
    await asyncio.gather(*(world.entries(stream) for stream in range(1, MANY, 500)))

    assert most == 2


async def test_what_is_kept_is_within_its_account_and_the_oldest_goes_first() -> None:
    world = await World(account=5 * (PAGE_BYTES + INDEX_OVERHEAD_BYTES)).write()
    for stream in range(1, MANY, 500):
        await world.entries(stream)

    assert 3 * PAGE_BYTES < world.account.used <= world.account.limit

    world.store.ranges.clear()
    await world.entries(MANY - 499)
    assert not world.store.ranges
    await world.entries(1)
    assert world.store.ranges

    world.cache.forget(OBJECT)
    assert world.account.used == 0


async def test_without_any_room_every_lookup_is_answered_all_the_same() -> None:
    world = await World(account=0, loading=0).write(streams=1000)

    for stream in range(1, 1001, 97):
        assert len(await world.entries(stream)) == 1


@pytest.mark.looptime
async def test_f8_a_damaged_page_hides_its_streams_alone_until_it_is_mended() -> None:
    world = await World().write()
    whole = await world.store.get(KEY)
    await world.entries(5000)
    page = world.store.ranges[1]
    world.cache.forget(OBJECT)
    await world.spoil(page[0] + 7)
    world.store.ranges.clear()

    for _ in range(3):
        with pytest.raises(CorruptData) as caught:
            await world.entries(5000)
    assert (caught.value.key, caught.value.offset, caught.value.length) == (KEY, page[0], PAGE_BYTES)
    assert len(world.store.ranges) == 3, "read once more before it counts as damaged, then remembered"
    assert len(await world.entries(1)) == 1
    assert len(await world.entries(MANY)) == 1

    await world.store.put(KEY, [whole])
    await asyncio.sleep(31)
    assert len(await world.entries(5000)) == 1


@pytest.mark.looptime
@pytest.mark.parametrize("from_the_end", [FOOTER_BYTES - 9, FOOTER_BYTES + 9])
async def test_a_damaged_root_or_footer_is_looked_at_again_after_a_while_and_not_before(from_the_end: int) -> None:
    world = await World().write(streams=10)
    whole = await world.store.get(KEY)
    await world.spoil(world.size - from_the_end)

    for _ in range(3):
        with pytest.raises(CorruptData, match="root|footer"):
            await world.entries(1)
    assert len(world.store.ranges) == 2

    await world.store.put(KEY, [whole])
    await asyncio.sleep(31)
    assert len(await world.entries(1)) == 1


@pytest.mark.parametrize("from_the_end", range(1, FOOTER_BYTES + 1))
async def test_f8_every_byte_of_the_footer_that_flips_is_damage(from_the_end: int) -> None:
    world = await World().write(streams=2)
    await world.spoil(world.size - from_the_end)

    with pytest.raises(CorruptData):
        await world.entries(1)


async def test_each_who_waits_gets_a_damage_of_his_own() -> None:
    world = await World().write(streams=2)
    await world.spoil(world.size - 1)

    found = await asyncio.gather(*(world.entries(1) for _ in range(3)), return_exceptions=True)

    assert len({id(error) for error in found}) == 3


async def test_truncated_object_is_reported() -> None:
    world = await World().write(streams=2)
    await world.store.put(KEY, [(await world.store.get(KEY))[:-1]])

    with pytest.raises(CorruptData, match="too short"):
        await world.entries(1)


@pytest.mark.looptime
async def test_a_missing_object_is_told_apart_from_a_damaged_one_and_costs_one_request() -> None:
    world = World()
    world.size = 1000

    for _ in range(3):
        with pytest.raises(ObjectNotFound):
            await world.entries(1)
    assert len(world.store.ranges) == 1
    with pytest.raises(ObjectNotFound):
        world.cache.check_known(OBJECT)

    await world.write(streams=2)
    await asyncio.sleep(31)
    world.cache.check_known(OBJECT)
    assert len(await world.entries(1)) == 1


async def test_an_outage_is_told_and_not_remembered() -> None:
    world = await World().write(streams=2)

    async def fail(_name: str, _key: str) -> Any:
        raise StoreUnavailable("no store")

    world.store.before = fail
    with pytest.raises(StoreUnavailable):
        await world.entries(1)

    world.store.before = HeldStore(world.store).before
    assert len(await world.entries(1)) == 1
    assert world.loading.used == 0
