"""Reading objects: lookups by offset and time, and nothing served that fails a check."""

import pytest

from automq.ids import ObjectId, Offset, StreamId
from automq.s3stream.model import CorruptData
from automq.s3stream.objects.format import object_key
from automq.s3stream.objects.reader import ObjectReader
from automq.s3stream.objects.writer import ObjectWriter
from automq.s3stream.ports import ObjectNotFound
from automq.s3stream.store.memory import MemoryStore
from tests.support.engine import CLUSTER, HeldStore, a_batch, stored

OBJECT = ObjectId(7)
STREAM = StreamId(1)
KEY = object_key(CLUSTER, OBJECT)


async def an_object(store: MemoryStore, *, blocks: int = 3, checkpoint: bytes = b"state") -> int:
    """Blocks of four batches of two records each."""
    writer = ObjectWriter(CLUSTER, OBJECT)
    for block in range(blocks):
        bases = range(block * 8, block * 8 + 8, 2)
        writer.add_block(STREAM, [stored(STREAM, base, 2, base * 10) for base in bases])
    writer.add_checkpoint(STREAM, Offset(blocks * 8), checkpoint)
    await store.put(KEY, writer.finish())
    return writer.size


def a_reader(store: MemoryStore | HeldStore) -> ObjectReader:
    return ObjectReader(store=store, cluster_id=CLUSTER)


async def test_block_is_read_from_the_batch_that_holds_the_offset() -> None:
    store = MemoryStore()
    size = await an_object(store)
    reader = a_reader(store)
    index = await reader.index(OBJECT, size)
    entry = next(index.data_entries(STREAM, Offset(11)))
    (block,) = await reader.load(OBJECT, [entry])

    result = block.read(Offset(11), Offset(14), 10_000)

    assert result.batches == [a_batch(STREAM, 10), a_batch(STREAM, 12)]
    assert (result.start_offset, result.end_offset, result.size) == (10, 14, 200)


async def test_one_batch_is_returned_however_little_is_asked_for() -> None:
    store = MemoryStore()
    size = await an_object(store)
    reader = a_reader(store)
    (block,) = await reader.load(OBJECT, list((await reader.index(OBJECT, size)).data_entries(STREAM, Offset(0)))[:1])

    assert block.read(Offset(0), Offset(8), 1).end_offset == 2
    assert block.read(Offset(0), Offset(8), 250).end_offset == 4
    assert block.read(Offset(6), Offset(99), 1000).end_offset == 8


async def test_neighbouring_blocks_share_a_request() -> None:
    store = HeldStore(MemoryStore())
    size = await an_object(store)  # type: ignore[arg-type]
    reader = a_reader(store)
    entries = list((await reader.index(OBJECT, size)).data_entries(STREAM, Offset(0)))
    store.calls.clear()

    blocks = await reader.load(OBJECT, entries)

    assert [block.start for block in blocks] == [0, 8, 16]
    assert store.calls == [("get_range", KEY)]


async def test_index_is_read_once() -> None:
    store = HeldStore(MemoryStore())
    size = await an_object(store)  # type: ignore[arg-type]
    reader = a_reader(store)
    await reader.index(OBJECT, size)
    store.calls.clear()

    await reader.index(OBJECT, size)
    assert store.calls == []

    reader.forget(OBJECT)
    await reader.index(OBJECT, size)
    assert len(store.calls) == 1


async def test_index_longer_than_the_guess_is_read_in_a_second_request() -> None:
    store = MemoryStore()
    size = await an_object(store, blocks=2000)

    index = await a_reader(store).index(OBJECT, size)

    assert index.count == 2001
    assert next(index.data_entries(STREAM, Offset(15_999))).end == 16_000


@pytest.mark.parametrize("checkpoint", [b"state", b""])
async def test_checkpoint_comes_with_the_offset_it_describes(checkpoint: bytes) -> None:
    store = MemoryStore()
    size = await an_object(store, checkpoint=checkpoint)

    assert await a_reader(store).checkpoint(OBJECT, size, STREAM) == (24, checkpoint)


async def test_find_by_timestamp_inside_a_block() -> None:
    store = MemoryStore()
    size = await an_object(store)
    reader = a_reader(store)
    (block,) = await reader.load(OBJECT, list((await reader.index(OBJECT, size)).data_entries(STREAM, Offset(0)))[:1])

    assert block.find_timestamp(21, Offset(0)) == 4
    assert block.find_timestamp(0, Offset(3)) == 2
    assert block.find_timestamp(61, Offset(0)) is None


async def test_damaged_block_is_reported_with_key_and_position() -> None:
    store = MemoryStore()
    size = await an_object(store)
    reader = a_reader(store)
    entry = next((await reader.index(OBJECT, size)).data_entries(STREAM, Offset(8)))
    damaged = bytearray(await store.get(KEY))
    damaged[entry.position + 100] ^= 1
    await store.put(KEY, [damaged])

    with pytest.raises(CorruptData) as caught:
        await reader.load(OBJECT, [entry])
    assert (caught.value.key, caught.value.offset, caught.value.length) == (KEY, entry.position, entry.size)


async def test_truncated_object_is_reported() -> None:
    store = MemoryStore()
    size = await an_object(store)
    await store.put(KEY, [(await store.get(KEY))[:-1]])

    with pytest.raises(CorruptData, match="too short"):
        await a_reader(store).index(OBJECT, size)


async def test_missing_object_is_told_apart_from_a_damaged_one() -> None:
    with pytest.raises(ObjectNotFound):
        await a_reader(MemoryStore()).index(OBJECT, 1000)
