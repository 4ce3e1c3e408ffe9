"""Reading objects: lookups by offset and time, and nothing served that fails a check."""

from collections.abc import Awaitable, Callable

import pytest
from crc32c import crc32c

from automq.ids import ObjectId, Offset, StreamId
from automq.s3stream.model import CorruptData
from automq.s3stream.objects.format import BLOCK_HEAD_BYTES, FOOTER_BYTES, ROW_BYTES, IndexEntry, object_key
from automq.s3stream.objects.reader import ObjectReader
from automq.s3stream.objects.writer import ObjectWriter
from automq.s3stream.store.memory import MemoryStore
from tests.support.engine import CLUSTER, HeldStore, a_batch, stored
from tests.support.object_reads import read_objects
from tests.support.turns import check_turns

OBJECT = ObjectId(7)
STREAM = StreamId(1)
KEY = object_key(CLUSTER, OBJECT)


async def an_object(store: MemoryStore, *, blocks: int = 3, checkpoint: bytes = b"state") -> int:
    """Blocks of four batches of two records each."""
    writer = ObjectWriter(CLUSTER, OBJECT)
    for block in range(blocks):
        bases = range(block * 8, block * 8 + 8, 2)
        writer.add_block(STREAM, [stored(STREAM, base, 2, base * 10) for base in bases])
    writer.add_checkpoint(STREAM, Offset(blocks * 8), [checkpoint], crc=crc32c(checkpoint))
    await store.put(KEY, writer.finish())
    return writer.size


def a_reader(store: MemoryStore | HeldStore) -> ObjectReader:
    return read_objects(store)


async def entries_of(reader: ObjectReader, size: int, start: int = 0) -> list[IndexEntry]:
    entries, _ = await reader.index.entries_from(OBJECT, size, STREAM, Offset(start))
    return list(entries)


async def test_block_is_read_from_the_batch_that_holds_the_offset() -> None:
    store = MemoryStore()
    size = await an_object(store)
    reader = a_reader(store)
    entry = (await entries_of(reader, size, 11))[0]
    (block,) = await reader.load(OBJECT, [entry])

    result = block.read(Offset(11), Offset(14), 10_000)

    assert result.batches == [a_batch(STREAM, 10), a_batch(STREAM, 12)]
    assert (result.start_offset, result.end_offset, result.size) == (10, 14, 200)


async def test_one_batch_is_returned_however_little_is_asked_for() -> None:
    store = MemoryStore()
    size = await an_object(store)
    reader = a_reader(store)
    (block,) = await reader.load(OBJECT, (await entries_of(reader, size))[:1])

    assert block.read(Offset(0), Offset(8), 1).end_offset == 2
    assert block.read(Offset(0), Offset(8), 250).end_offset == 4
    assert block.read(Offset(6), Offset(99), 1000).end_offset == 8


async def test_neighbouring_blocks_share_a_request() -> None:
    store = HeldStore(MemoryStore())
    size = await an_object(store)  # type: ignore[arg-type]
    reader = a_reader(store)
    entries = await entries_of(reader, size)
    store.calls.clear()

    blocks = await reader.load(OBJECT, entries)

    assert [block.start for block in blocks] == [0, 8, 16]
    assert store.calls == [("get_range", KEY)]


@pytest.mark.parametrize("checkpoint", [b"state", b""])
async def test_checkpoint_comes_with_the_offset_it_describes(checkpoint: bytes) -> None:
    store = MemoryStore()
    size = await an_object(store, checkpoint=checkpoint)

    assert await a_reader(store).checkpoint(OBJECT, size, STREAM, Offset(24)) == checkpoint


async def test_find_by_timestamp_inside_a_block() -> None:
    store = MemoryStore()
    size = await an_object(store)
    reader = a_reader(store)
    (block,) = await reader.load(OBJECT, (await entries_of(reader, size))[:1])

    assert block.find_timestamp(21, Offset(0)) == 4
    assert block.find_timestamp(0, Offset(3)) == 2
    assert block.find_timestamp(61, Offset(0)) is None


async def damaged_at(store: MemoryStore, *positions: int) -> None:
    data = bytearray(await store.get(KEY))
    for position in positions:
        data[position] ^= 1
    await store.put(KEY, [data])


async def test_f8_a_flipped_bit_hides_its_batch_alone() -> None:
    store = MemoryStore()
    size = await an_object(store)
    reader = a_reader(store)
    entry = (await entries_of(reader, size, 8))[0]
    third = entry.position + BLOCK_HEAD_BYTES + 4 * ROW_BYTES + 2 * 100
    await damaged_at(store, third + 7)

    (block,) = await reader.load(OBJECT, [entry])

    before = block.read(Offset(8), Offset(16), 10_000)
    assert (before.batches, before.end_offset) == ([a_batch(STREAM, 8), a_batch(STREAM, 10)], 12)
    for inside in (12, 13):
        with pytest.raises(CorruptData) as caught:
            block.read(Offset(inside), Offset(16), 10_000)
        assert (caught.value.key, caught.value.offset, caught.value.length) == (KEY, third, 100)
        assert caught.value.hidden == (12, 14)
    assert block.read(Offset(14), Offset(16), 10_000).batches == [a_batch(STREAM, 14)]


@pytest.mark.parametrize("at", [5, BLOCK_HEAD_BYTES + 30])
async def test_f8_a_flipped_bit_in_a_head_or_a_table_hides_the_block(at: int) -> None:
    store = MemoryStore()
    size = await an_object(store)
    reader = a_reader(store)
    entry = (await entries_of(reader, size, 8))[0]
    await damaged_at(store, entry.position + at)

    (block,) = await reader.load(OBJECT, [entry])

    with pytest.raises(CorruptData) as caught:
        block.read(Offset(11), Offset(16), 10_000)
    assert (caught.value.key, caught.value.offset, caught.value.length) == (KEY, entry.position, entry.size)
    assert caught.value.hidden == (8, 16)


async def test_f8_a_block_that_is_cut_is_damaged() -> None:
    store = MemoryStore()
    size = await an_object(store)
    reader = a_reader(store)
    entry = (await entries_of(reader, size))[-1]
    await store.put(KEY, [(await store.get(KEY))[: entry.position + 150]])

    (block,) = await reader.load(OBJECT, [entry])

    assert block.damage is not None
    assert block.damage.hidden == (entry.start, entry.end)


async def test_a_bit_that_flips_on_its_way_is_no_damage() -> None:
    store = FlippingStore(MemoryStore())
    size = await an_object(store.inner)
    reader = a_reader(store)  # type: ignore[arg-type]

    store.flips = 1
    entries = await entries_of(reader, size)
    store.flips = 1
    blocks = await reader.load(OBJECT, entries)
    assert [block.damage for block in blocks] == [None, None, None]
    store.flips = 1
    assert await reader.checkpoint(OBJECT, size, STREAM, Offset(24)) == b"state"


class FlippingStore:
    """Flips a bit in the middle of the next so many answers."""

    def __init__(self, inner: MemoryStore) -> None:
        self.inner = inner
        self.flips = 0

    async def get_range(self, key: str, start: int, end: int) -> bytes:
        data = bytearray(await self.inner.get_range(key, start, end))
        if self.flips:
            self.flips -= 1
            data[-FOOTER_BYTES - 3 if len(data) > 2 * FOOTER_BYTES else 1] ^= 4
        return bytes(data)


async def test_an_object_without_a_checkpoint_of_the_stream_has_none() -> None:
    store = MemoryStore()
    size = await an_object(store)

    assert await a_reader(store).checkpoint(OBJECT, size, StreamId(2), Offset(24)) is None
    assert await a_reader(store).checkpoint(OBJECT, size, STREAM, Offset(16)) is None


async def test_b6_many_blocks_of_small_batches_are_checked_in_bounded_turns() -> None:
    """Eight blocks of the smallest batches there are, by one ranged GET of four megabytes."""
    store = MemoryStore()
    batch = memoryview(bytes(61))
    crc = crc32c(batch)
    writer = ObjectWriter(CLUSTER, ObjectId(1))
    count = 512 * 1024 // 61
    entries = [
        writer.add_block(StreamId(1), [(block * count + number, 1, 7, crc, batch) for number in range(count)])
        for block in range(8)
    ]
    await store.create_bulk(object_key(CLUSTER, ObjectId(1)), writer.finish())

    async def prepare() -> Callable[[], Awaitable[object]]:
        reader = a_reader(store)
        return lambda: reader.load(ObjectId(1), entries)

    await check_turns(prepare)
