"""Reads of committed objects: over their borders, equal to a model; damage, absence, slowness, giving up."""

import asyncio
import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automq.ids import Offset, StreamId
from automq.runtime.ledger import Account
from automq.s3stream import stream as stream_module
from automq.s3stream.arena import ReadResult
from automq.s3stream.cache import block_cache, cold_read, read_ahead
from automq.s3stream.model import CorruptData, DataMissing, ObjectSpan
from automq.s3stream.objects import format as objects
from automq.s3stream.objects import index_cache, writer
from automq.s3stream.objects.format import FOOTER_BYTES, ROOT_HEAD, ROOT_LINE, object_key
from automq.s3stream.ports import StoreUnavailable
from automq.s3stream.upload import builder
from tests.support.engine import CLUSTER, SMALL, Engine, HeldStore, Ledger, a_batch, append
from tests.support.object_reads import CountedStore

pytestmark = pytest.mark.looptime

BATCH_BYTES = 100
MANY = 1 << 20


class World:
    """Streams that trickle: each upload has a batch of a record of each of them."""

    def __init__(self, streams: int = 1, *, cache_bytes: int = SMALL.block_cache_bytes) -> None:
        self.store = CountedStore()
        self.engine = Engine(Ledger(), self.store, settings=replace(SMALL, block_cache_bytes=cache_bytes))
        self.engine.storage.start()
        self.streams = [
            self.engine.storage.open_stream(self.engine.ledger.create_stream(number + 1)) for number in range(streams)
        ]

    async def upload(self, objects: int, *, batches: int = 1) -> "World":
        for _ in range(objects):
            for stream in self.streams:
                for _ in range(batches):
                    append(stream)
            await self.engine.storage.upload.flush()
        while self.engine.storage.append.cache.evict():
            pass
        self.store.ranges.clear()
        return self

    def span(self, number: int, stream: int = 0) -> ObjectSpan:
        spans = self.engine.objects.spans(self.streams[stream].stream_id, Offset(0), Offset(MANY), limit=MANY)
        return spans[number]

    def key(self, number: int) -> str:
        return object_key(CLUSTER, self.span(number).object_id)

    async def flip(self, number: int, position: int) -> None:
        data = bytearray(await self.store.get(self.key(number)))
        data[position] ^= 1
        await self.store.put(self.key(number), [data])

    async def read(self, start: int = 0, max_bytes: int = MANY, stream: int = 0) -> ReadResult:
        of = self.streams[stream]
        return await of.read(Offset(start), of.confirmed_offset, max_bytes)


async def test_b7_one_answer_goes_over_the_borders_of_objects_until_it_is_full() -> None:
    world = await World(streams=3).upload(20)

    whole = await world.read(stream=1)
    assert whole.batches == [a_batch(2, offset) for offset in range(20)]
    assert (whole.start_offset, whole.end_offset, whole.size) == (0, 20, 20 * BATCH_BYTES)
    assert len(world.store.ranges) == 20
    assert world.store.fetched == 20 * world.span(0).size

    part = await world.read(3, 750)
    assert (part.start_offset, part.end_offset, part.size) == (3, 10, 7 * BATCH_BYTES)


async def test_a3_first_cold_read_is_small_and_those_that_follow_it_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "FIRST_READ_BYTES", 2 * BATCH_BYTES)
    monkeypatch.setattr(read_ahead, "FIRST_BYTES", BATCH_BYTES)
    world = await World().upload(1, batches=60)
    counts, start = [], 0
    for _ in range(5):
        read = await world.read(start, 20 * BATCH_BYTES)
        counts.append(len(read.batches))
        start = read.end_offset

    assert counts == [2, 2, 2, 4, 8]
    assert len((await world.read(50, 20 * BATCH_BYTES)).batches) == 2


async def test_an_answer_has_no_more_objects_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cold_read, "FIRST_SPANS_MAX", 3)
    monkeypatch.setattr(cold_read, "SPANS_MAX", 5)
    world = await World().upload(20)

    first = await world.read()
    second = await world.read(first.end_offset)

    assert (first.end_offset, second.end_offset) == (3, 8)


async def test_b7_the_requests_of_an_answer_are_under_way_together() -> None:
    world = await World().upload(10)
    gate = asyncio.Event()
    world.store.before = lambda _name, _key: gate.wait()
    reading = asyncio.ensure_future(world.read())
    await asyncio.sleep(0.01)

    assert len(world.store.ranges) == 10

    gate.set()
    assert (await reading).end_offset == 10


async def test_b7_readers_share_what_is_on_its_way_and_who_gives_up_takes_nothing_away() -> None:
    world = await World().upload(10)
    gate = asyncio.Event()
    world.store.before = lambda _name, _key: gate.wait()
    reading = [asyncio.ensure_future(world.read()) for _ in range(20)]
    await asyncio.sleep(0.01)
    for impatient in reading[::2]:
        impatient.cancel()
    await asyncio.sleep(0.01)
    gate.set()

    assert {(await patient).end_offset for patient in reading[1::2]} == {10}
    assert len(world.store.ranges) == 10
    assert world.engine.memory[Account.COLD_READS].used == 0


async def test_what_is_on_its_way_is_within_the_budget_of_cold_reads() -> None:
    world = await World(streams=4).upload(30)
    budget = world.engine.memory[Account.COLD_READS]
    most = 0

    async def begin(_name: str, _key: str) -> None:
        nonlocal most
        most = max(most, budget.used)
        await asyncio.sleep(0.001)

    world.store.before = begin
    await asyncio.gather(*(world.read(stream=number) for number in range(4)))

    assert budget.limit // 2 < most <= budget.limit
    assert budget.used == 0


async def test_a_reader_in_the_middle_of_a_share_gets_what_follows() -> None:
    world = await World(streams=2).upload(3, batches=5)

    result = await world.read(7, 550, stream=1)

    assert result.batches == [a_batch(2, offset) for offset in range(7, 12)]


async def test_f8_a_share_that_does_not_prove_itself_is_looked_up_in_the_index() -> None:
    """A head that is damaged: what the index says is hidden, and nothing else; once more it costs no lookup."""
    world = await World(streams=2).upload(3)
    await world.flip(1, world.span(1).position + 20)

    before = await world.read()
    assert before.end_offset == 1
    for _ in range(2):
        with pytest.raises(CorruptData) as caught:
            await world.read(1)
        assert (caught.value.key, caught.value.hidden) == (world.key(1), (1, 2))
    assert (await world.read(2)).batches == [a_batch(1, 2)]
    assert (await world.read(1, stream=1)).end_offset == 3
    world.store.ranges.clear()
    with pytest.raises(CorruptData):
        await world.read(1)
    assert not world.store.ranges


async def test_a_place_that_is_wrong_is_not_believed() -> None:
    """Another stream lies there, or nothing whole: the index tells where it is."""
    world = await World(streams=3).upload(2, batches=2)
    stream, reader = world.streams[1], world.engine.storage.read.reader
    right, other = world.span(0, 1), world.span(0, 2)
    blocks = await reader.load_share(right.object_id, stream.stream_id, right.position, right.position + right.size)
    assert [(block.start, block.end) for block in blocks] == [(0, 2)]

    for start, end in (
        (other.position, other.position + other.size),
        (right.position, right.position + right.size - 1),
        (right.position + 1, right.position + right.size),
        (right.position, right.position + right.size + 1),
        (right.position, right.object_size + 99),
    ):
        with pytest.raises(CorruptData):
            await reader.load_share(right.object_id, stream.stream_id, start, end)


def misplaced(world: World, monkeypatch: pytest.MonkeyPatch, **wrong: int) -> None:
    """From now on the metadata are wrong about where the second stream lies in objects."""
    spans_from = world.engine.objects.spans_from

    def lying(stream: StreamId, start: Offset) -> Iterator[ObjectSpan]:
        is_second = stream == world.streams[1].stream_id
        return (replace(span, **wrong) if is_second else span for span in spans_from(stream, start))

    monkeypatch.setattr(world.engine.objects, "spans_from", lying)


@pytest.mark.parametrize("others_are", ["not read", "cached", "on their way"])
async def test_a_place_where_another_stream_lies_is_not_believed_however_its_blocks_are_found(
    monkeypatch: pytest.MonkeyPatch, others_are: str
) -> None:
    world = await World(streams=3).upload(1, batches=2)
    other = world.span(0, 0)
    misplaced(world, monkeypatch, position=other.position, size=other.size)
    reading = None
    if others_are == "cached":
        await world.read()
    elif others_are == "on their way":
        reading = asyncio.ensure_future(world.read())
        await asyncio.sleep(0)
    assert (await world.read(stream=1)).batches == [a_batch(2, 0), a_batch(2, 1)]
    if reading is not None:
        assert (await reading).batches == [a_batch(1, 0), a_batch(1, 1)]
    assert (await world.read()).batches == [a_batch(1, 0), a_batch(1, 1)]


async def test_a_place_that_has_only_the_end_of_a_stream_s_share_hides_no_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(builder, "DATA_BLOCK_BYTES", BATCH_BYTES)
    world = await World(streams=3).upload(1, batches=3)
    right = world.span(0, 1)
    reader, stream = world.engine.storage.read.reader, world.streams[1].stream_id
    blocks = await reader.load_share(right.object_id, stream, right.position, right.position + right.size)
    assert len(blocks) == 3
    misplaced(world, monkeypatch, position=right.position + blocks[0].size, size=right.size - blocks[0].size)
    assert (await world.read(stream=1)).batches == [a_batch(2, offset) for offset in range(3)]


@pytest.mark.parametrize("from_the_end", [10, FOOTER_BYTES + 10, FOOTER_BYTES + ROOT_HEAD.size + ROOT_LINE.size + 10])
async def test_what_lies_where_the_metadata_say_is_read_though_the_index_is_damaged(from_the_end: int) -> None:
    world = await World().upload(3)
    await world.flip(1, -from_the_end)

    assert (await world.read()).end_offset == 3
    assert await world.streams[0].find_timestamp(0, Offset(1)) == 1


async def test_f8_an_object_that_is_missing_ends_the_answer_before_it() -> None:
    world = await World().upload(6)
    await world.store.delete([world.key(3)])

    assert (await world.read()).end_offset == 3
    with pytest.raises(DataMissing) as caught:
        await world.read(3)
    assert caught.value.hidden == (3, 4)
    assert (await world.read(4)).end_offset == 6


async def test_an_outage_in_the_middle_ends_the_answer_and_the_next_one_says_so() -> None:
    world = await World().upload(4)
    bad = world.key(2)

    async def fail(_name: str, key: str) -> None:
        if key == bad:
            raise StoreUnavailable("no store")

    world.store.before = fail
    assert (await world.read()).end_offset == 2
    with pytest.raises(StoreUnavailable):
        await world.read(2)

    world.store.before = HeldStore(world.store).before
    assert (await world.read(2)).end_offset == 4


async def test_where_the_store_is_slow_an_answer_has_what_has_come() -> None:
    world = await World().upload(6)
    slow = {world.key(number) for number in (3, 4, 5)}

    async def wait(_name: str, key: str) -> None:
        await asyncio.sleep(30 if key in slow else 0.1)

    world.store.before = wait
    begun = asyncio.get_running_loop().time()

    assert (await world.read()).end_offset == 3
    assert asyncio.get_running_loop().time() - begun < 2 * cold_read.PATIENCE_S
    assert (await world.read(3)).end_offset == 6
    assert len(world.store.ranges) == 6, "what was on its way was not asked for again"


async def test_b7_a_sequential_reader_fetches_nothing_twice_however_small_the_cache() -> None:
    world = await World(streams=8, cache_bytes=4 * 1024).upload(40)

    async def consume(number: int) -> None:
        position = 0
        while position < 40:
            position = (await world.read(position, 3 * BATCH_BYTES, stream=number)).end_offset

    await asyncio.gather(*(consume(number) for number in range(8)))

    # A cache of four blocks is less than what eight readers are about to read: some of it is fetched again.
    assert len(world.store.ranges) <= 2 * 8 * 40


async def test_b7_what_lies_in_many_blocks_is_located_by_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "PAGE_ENTRIES", 4)
    monkeypatch.setattr(index_cache, "TAIL_BYTES", 400)
    monkeypatch.setattr(block_cache, "SHARE_BYTES_MAX", 500)
    for module in (writer, builder):
        monkeypatch.setattr(module, "DATA_BLOCK_BYTES", 200)
    world = await World(streams=2).upload(2, batches=30)

    for start in (0, 7, 29, 30, 59):
        result = await world.read(start, 700, stream=1)
        assert result.batches == [a_batch(2, offset) for offset in range(start, min(60, start + 7))]
    assert await world.streams[1].find_timestamp(0, Offset(31)) is not None


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32),
    share_bytes=st.sampled_from([1, 700, MANY]),
    page_entries=st.sampled_from([1, 3, 128]),
    tail_bytes=st.sampled_from([80, 500, 8192]),
    block_bytes=st.sampled_from([1, 300, 512 * 1024]),
    spans=st.sampled_from([1, 3, 256]),
    cache_bytes=st.sampled_from([0, 2000, MANY]),
)
def test_random_objects_and_reads_equal_a_model(
    seed: int,
    share_bytes: int,
    page_entries: int,
    tail_bytes: int,
    block_bytes: int,
    spans: int,
    cache_bytes: int,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(block_cache, "SHARE_BYTES_MAX", share_bytes)
        patch.setattr(objects, "PAGE_ENTRIES", page_entries)
        patch.setattr(index_cache, "TAIL_BYTES", tail_bytes)
        patch.setattr(writer, "DATA_BLOCK_BYTES", block_bytes)
        patch.setattr(builder, "DATA_BLOCK_BYTES", block_bytes)
        patch.setattr(cold_read, "SPANS_MAX", spans)
        patch.setattr(read_ahead, "FIRST_BYTES", 300)
        asyncio.run(_equals_a_model(random.Random(seed), cache_bytes))


async def _equals_a_model(dice: random.Random, cache_bytes: int) -> None:
    world = World(streams=dice.randint(1, 4), cache_bytes=cache_bytes)
    model: list[list[tuple[int, memoryview]]] = [[] for _ in world.streams]
    for _ in range(dice.randint(1, 8)):
        for number, stream in enumerate(world.streams):
            for _ in range(dice.choice((0, 1, 1, 2, 9))):
                base, count, size = stream.next_offset, dice.randint(1, 3), dice.choice((60, 100, 400))
                append(stream, count, size=size)
                model[number].append((base, a_batch(stream.stream_id, base, size=size)))
        await world.engine.storage.upload.flush()
    while world.engine.storage.append.cache.evict():
        pass

    async def consume(number: int) -> None:
        stream, batches = world.streams[number], model[number]
        end = stream.confirmed_offset
        position = Offset(dice.randint(0, end)) if end else Offset(0)
        while position < end:
            max_bytes = dice.choice((1, 250, 3000, MANY))
            result = await stream.read(position, end, max_bytes)
            first = max(at for at, (base, _) in enumerate(batches) if base <= position)
            expected = [view for _, view in batches[first : first + len(result.batches)]]
            assert result.batches == expected
            assert expected
            assert result.size == sum(map(len, expected))
            assert result.size <= max(max_bytes, len(expected[0]))
            after = first + len(expected)
            assert result.end_offset == (batches[after][0] if after < len(batches) else end)
            position = result.end_offset

    await asyncio.gather(*(consume(number) for number in range(len(world.streams)) for _ in range(2)))
    assert world.engine.memory[Account.COLD_READS].used == 0
    await world.engine.die()
    assert not world.engine.crashes
