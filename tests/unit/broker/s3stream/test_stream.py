"""Streams: append, read from wherever the batches are, trim, lookups, life and death."""

import asyncio

import pytest

from automq.ids import NodeId, ObjectId, Offset, StreamId
from automq.metadata.records import StreamTrimmed
from automq.metadata.spans import NOTHING_HELD
from automq.s3stream.cache import block_cache
from automq.s3stream.model import (
    CorruptData,
    DataMissing,
    OffsetOutOfRange,
    Segment,
    StoreDamaged,
    StreamClosed,
    StreamFenced,
    StreamNotFound,
)
from automq.s3stream.objects.format import BLOCK_HEAD_BYTES, FOOTER_BYTES, ROOT_HEAD, ROOT_LINE, ROW_BYTES, object_key
from automq.s3stream.store.memory import MemoryStore
from automq.s3stream.stream import Stream
from automq.s3stream.upload.builder import ObjectBuilder
from tests.support.engine import (
    CLUSTER,
    Engine,
    HeldStore,
    Ledger,
    a_batch,
    a_piece,
    append,
    durable,
    read_all,
    stored,
)

pytestmark = pytest.mark.looptime


def an_engine() -> tuple[Engine, Stream, HeldStore]:
    ledger = Ledger()
    store = HeldStore(MemoryStore())
    engine = Engine(ledger, store)
    engine.storage.start()
    return engine, engine.storage.open_stream(ledger.create_stream(1)), store


async def cold(engine: Engine, stream: Stream, batches: int, *, per_object: int = 4) -> None:
    """Batches of two records that only objects hold."""
    for number in range(batches):
        append(stream, 2, timestamp_ms=number * 10)
        if number % per_object == per_object - 1:
            await engine.storage.upload.flush()
    await engine.storage.upload.flush()
    while engine.storage.append.cache.evict():
        pass
    assert stream.tail.start is None


async def test_append_advances_the_end_and_durability_the_confirmed_offset() -> None:
    engine, stream, _ = an_engine()
    advanced: list[Offset] = []
    stream.on_advance = lambda: advanced.append(stream.confirmed_offset)
    append(stream, 3)
    position = append(stream, 2)
    assert (stream.next_offset, stream.confirmed_offset) == (5, 0)

    await durable(engine.storage, position)

    assert (stream.confirmed_offset, stream.last_position, advanced) == (5, position, [5])


async def test_nothing_above_the_confirmed_offset_is_read() -> None:
    engine, stream, store = an_engine()
    await durable(engine.storage, append(stream))
    append(stream)

    result = stream.read_cached(Offset(0), Offset(99), 10_000)
    assert result is not None
    assert (result.batches, result.end_offset) == ([a_batch(1, 0)], 1)

    with pytest.raises(OffsetOutOfRange):
        stream.read_cached(Offset(2), Offset(99), 10_000)


async def test_read_at_the_end_is_empty() -> None:
    engine, stream, _ = an_engine()
    await durable(engine.storage, append(stream))

    result = await stream.read(Offset(1), Offset(99), 10_000)

    assert (result.batches, result.start_offset, result.end_offset, result.size) == ([], 1, 1, 0)


async def test_read_from_inside_a_batch_returns_it_whole() -> None:
    engine, stream, _ = an_engine()
    append(stream, 5)
    await durable(engine.storage, append(stream, 5))

    for read in (stream.read_cached(Offset(7), Offset(8), 10_000), await stream.read(Offset(7), Offset(8), 10_000)):
        assert read is not None
        assert (read.batches, read.start_offset, read.end_offset) == ([a_batch(1, 5)], 5, 10)


async def test_pinned_read_survives_upload_and_eviction() -> None:
    engine, stream, _ = an_engine()
    await durable(engine.storage, append(stream))
    result = stream.read_cached(Offset(0), Offset(1), 100)
    assert result is not None
    await engine.storage.upload.flush()
    while engine.storage.append.cache.evict():
        pass
    for _ in range(500):
        append(stream, size=5000)
        await asyncio.sleep(0.001)

    assert result.batches == [a_batch(1, 0)]
    result.release()


async def test_cold_read_returns_what_was_appended() -> None:
    engine, stream, _ = an_engine()
    await cold(engine, stream, 20)
    assert stream.read_cached(Offset(0), Offset(40), 1000) is None

    assert await read_all(stream, max_bytes=250) == list(range(0, 40, 2))
    assert await read_all(stream, max_bytes=1) == list(range(0, 40, 2))


async def test_read_crosses_from_objects_into_the_log_cache() -> None:
    engine, stream, _ = an_engine()
    await cold(engine, stream, 6)
    for _ in range(3):
        append(stream, 2)
    await durable(engine.storage, stream.last_position)

    assert await read_all(stream) == list(range(0, 18, 2))


async def test_sequential_reader_finds_the_next_blocks_loaded() -> None:
    engine, stream, store = an_engine()
    await cold(engine, stream, 40, per_object=10)
    store.calls.clear()
    position = Offset(0)
    first: list[str] = []
    while position < stream.confirmed_offset:
        before = len(store.calls)
        position = (await stream.read(position, stream.confirmed_offset, 300)).end_offset
        if len(store.calls) > before:
            first.append(f"{position}")
        await asyncio.sleep(0.01)

    # One index and one block an object; all but the first object's are read before they are asked for.
    assert len(store.calls) <= 8 + 1
    assert len(first) <= 4


async def test_object_that_vanished_is_looked_up_again() -> None:
    engine, stream, store = an_engine()
    await cold(engine, stream, 4)
    (span,) = engine.objects.spans(stream.stream_id, Offset(0), Offset(8), limit=9)
    successor = ObjectBuilder(CLUSTER, ObjectId(99))
    batches = [stored(1, base, 2, 0) for base in range(0, 8, 2)]
    await successor.add_run(stream.stream_id, stream.epoch, batches)

    async def compact(name: str, key: str) -> None:
        """The object is replaced between the lookup and the read."""
        if span.object_id in engine.ledger.objects:
            body = await successor.finish()
            await store.inner.put(object_key(CLUSTER, ObjectId(99)), body)
            await store.inner.delete([object_key(CLUSTER, span.object_id)])
            engine.ledger.compact_alone(span.object_id, ObjectId(99), size=sum(map(len, body)))

    store.before = compact

    assert await read_all(stream) == [0, 2, 4, 6]


async def key_at(engine: Engine, stream: Stream, offset: int) -> str:
    (span,) = engine.objects.spans(stream.stream_id, Offset(offset), Offset(offset + 1), limit=1)
    return object_key(CLUSTER, span.object_id)


async def read_until_damage(stream: Stream, start: int = 0) -> tuple[list[int], int, StoreDamaged]:
    """Base offsets that were read, the offset at which nothing more could be, and why."""
    bases: list[int] = []
    position = Offset(start)
    while True:
        try:
            result = await stream.read(position, stream.confirmed_offset, 100_000)
        except StoreDamaged as error:
            return bases, position, error
        bases += [int(bytes(view[:40]).split(b">")[0].split(b":")[1]) for view in result.batches]
        assert result.end_offset > position
        position = result.end_offset


async def test_f8_a_missing_object_is_damage_once_the_image_still_names_it() -> None:
    engine, stream, store = an_engine()
    await cold(engine, stream, 12)
    key = await key_at(engine, stream, 8)
    await store.delete([key])
    store.calls.clear()

    bases, position, error = await read_until_damage(stream)

    assert (bases, position) == ([0, 2, 4, 6], 8)
    assert isinstance(error, DataMissing)
    assert (error.key, error.hidden) == (key, (8, 16))
    assert await read_until_damage_after(stream, 16) == [16, 18, 20, 22]
    lookups = store.calls.count(("get_range", key))
    await read_until_damage(stream, 8)
    assert store.calls.count(("get_range", key)) == lookups, "what is missing is not asked for again at once"


async def read_until_damage_after(stream: Stream, start: int) -> list[int]:
    result = await stream.read(Offset(start), stream.confirmed_offset, 100_000)
    return [int(bytes(view[:40]).split(b">")[0].split(b":")[1]) for view in result.batches]


@pytest.mark.parametrize("what", ["footer", "index", "page", "cut", "emptied"])
async def test_f8_what_an_unusable_object_holds_is_hidden_and_no_more(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of a stream with much in an object only its index knows where.
    monkeypatch.setattr(block_cache, "SHARE_BYTES_MAX", 100)
    engine, stream, store = an_engine()
    await cold(engine, stream, 12)
    key = await key_at(engine, stream, 8)
    data = bytearray(await store.get(key))
    match what:
        case "footer":
            data[-10] ^= 1
        case "index":
            data[-FOOTER_BYTES - 10] ^= 1
        case "page":
            data[-FOOTER_BYTES - ROOT_HEAD.size - ROOT_LINE.size - 10] ^= 1
        case "cut":
            del data[len(data) // 2 :]
        case _:
            data.clear()
    await store.put(key, [data])

    bases, position, error = await read_until_damage(stream)

    assert (bases, position, error.key, error.hidden) == ([0, 2, 4, 6], 8, key, (8, 16))
    assert await read_until_damage_after(stream, 16) == [16, 18, 20, 22]


async def test_f8_everything_before_a_damaged_batch_then_an_error_at_exactly_its_offset() -> None:
    engine, stream, store = an_engine()
    await cold(engine, stream, 8, per_object=8)
    key = await key_at(engine, stream, 0)
    data = bytearray(await store.get(key))
    place = bytes(data).index(bytes(a_batch(stream.stream_id, 10)[:20]))
    data[place + 50] ^= 1
    await store.put(key, [data])

    bases, position, error = await read_until_damage(stream)

    assert (bases, position, error.key, error.hidden) == ([0, 2, 4, 6, 8], 10, key, (10, 12))
    assert isinstance(error, CorruptData)
    assert error.offset == place
    assert await read_until_damage_after(stream, 12) == [12, 14]
    assert await read_until_damage_after(stream, 13) == [12, 14]


async def test_offset_that_no_object_holds_is_an_error_not_a_skip() -> None:
    engine, stream, _ = an_engine()
    await cold(engine, stream, 8)
    engine.ledger.change(stream.stream_id, held=NOTHING_HELD)

    with pytest.raises(DataMissing) as caught:
        await stream.read(Offset(0), Offset(8), 1000)
    assert caught.value.hidden == (0, 8)


def given_up(engine: Engine, stream: Stream, *ranges: tuple[int, int], end: int = 0) -> Stream:
    """The stream opened again, after a person gave these ranges up."""
    engine.ledger.give_up(stream.stream_id, *ranges)
    engine.ledger.change(stream.stream_id, end=Offset(max(end, engine.ledger.streams[stream.stream_id].end)))
    return engine.storage.open_stream(stream.stream_id)


async def test_ranges_that_were_given_up_are_passed_over() -> None:
    engine, stream, store = an_engine()
    await cold(engine, stream, 12)
    await store.delete([await key_at(engine, stream, 8)])
    stream = given_up(engine, stream, (8, 16), (24, 1000), end=1000)
    assert (stream.next_offset, stream.confirmed_offset) == (1000, 1000)

    hole = await stream.read(Offset(9), stream.confirmed_offset, 1000)
    assert (hole.batches, hole.start_offset, hole.end_offset, hole.size) == ([], 9, 16, 0)
    tail = await stream.read(Offset(24), stream.confirmed_offset, 1000)
    assert (tail.batches, tail.end_offset) == ([], 1000)
    assert await read_all(stream) == [0, 2, 4, 6, 16, 18, 20, 22]

    await durable(engine.storage, append(stream))
    assert (await read_all(stream))[-1] == 1000
    assert await stream.find_timestamp(45) == 16
    assert await stream.find_timestamp(30) == 6


async def test_a_batch_that_was_given_up_is_passed_over_inside_its_block() -> None:
    engine, stream, store = an_engine()
    await cold(engine, stream, 8, per_object=8)
    key = await key_at(engine, stream, 0)
    data = bytearray(await store.get(key))
    data[bytes(data).index(bytes(a_batch(stream.stream_id, 10)[:20])) + 50] ^= 1
    await store.put(key, [data])

    stream = given_up(engine, stream, (10, 12))

    assert await read_all(stream) == [0, 2, 4, 6, 8, 12, 14]
    assert await stream.find_timestamp(45) == 12


async def test_f8_a_lookup_by_time_in_a_damaged_object_is_an_error_and_passes_what_it_need_not_read() -> None:
    engine, stream, store = an_engine()
    await cold(engine, stream, 12)
    key = await key_at(engine, stream, 8)
    await store.delete([key])

    assert await stream.find_timestamp(20) == 4
    assert await stream.find_timestamp(95) == 20
    with pytest.raises(DataMissing) as caught:
        await stream.find_timestamp(45)
    assert (caught.value.key, caught.value.hidden) == (key, (8, 16))


async def test_f8_pieces_of_a_checkpoint_are_read_each_for_itself() -> None:
    engine, stream, store = an_engine()
    stream.checkpoint_source = lambda forced: a_piece(b"state at %d" % stream.next_offset, kept=3)
    await cold(engine, stream, 16)
    await store.delete([await key_at(engine, stream, 23)])
    stream = engine.storage.open_stream(stream.stream_id)

    pieces = stream.checkpoints()
    assert [piece.offset for piece in pieces] == [16, 24, 32]
    assert await stream.read_checkpoint(pieces[0]) == b"state at 16"
    with pytest.raises(DataMissing):
        await stream.read_checkpoint(pieces[1])
    assert await stream.read_checkpoint(pieces[2]) == b"state at 32"


async def test_trim_moves_the_start_for_good() -> None:
    engine, stream, _ = an_engine()
    await cold(engine, stream, 8)

    await stream.trim(Offset(6))
    await stream.trim(Offset(4))

    assert stream.start_offset == engine.ledger.streams[stream.stream_id].start == 6
    with pytest.raises(OffsetOutOfRange):
        await stream.read(Offset(5), Offset(8), 1000)
    assert await read_all(stream) == list(range(6, 16, 2))


async def test_read_below_a_trim_that_is_not_answered_yet_is_out_of_range() -> None:
    engine, stream, _ = an_engine()
    await cold(engine, stream, 8)
    engine.ledger.record(StreamTrimmed(stream=stream.stream_id, start=Offset(6)))
    assert stream.start_offset == 0

    with pytest.raises(OffsetOutOfRange):
        await stream.read(Offset(2), Offset(8), 1000)

    assert stream.start_offset == 6
    assert await read_all(stream) == list(range(6, 16, 2))


@pytest.mark.parametrize(
    ("timestamp_ms", "expected"), [(0, 0), (1, 2), (45, 10), (70, 14), (85, 18), (110, 22), (111, None)]
)
async def test_lookup_by_time_spans_objects_and_log_cache(timestamp_ms: int, expected: int | None) -> None:
    engine, stream, _ = an_engine()
    await cold(engine, stream, 8)
    for number in range(8, 12):
        append(stream, 2, timestamp_ms=number * 10)
    await durable(engine.storage, stream.last_position)

    assert await stream.find_timestamp(timestamp_ms) == expected


async def test_lookup_by_time_ignores_what_is_not_confirmed() -> None:
    engine, stream, _ = an_engine()
    append(stream, timestamp_ms=5)

    assert await stream.find_timestamp(0) is None


async def test_segments_are_what_retention_sees() -> None:
    engine, stream, _ = an_engine()
    await cold(engine, stream, 8)
    append(stream, 2, timestamp_ms=99)

    size = BLOCK_HEAD_BYTES + 4 * (100 + ROW_BYTES)
    assert list(stream.segments()) == [
        Segment(start=Offset(0), end=Offset(8), size=size, max_timestamp_ms=30),
        Segment(start=Offset(8), end=Offset(16), size=size, max_timestamp_ms=70),
        Segment(start=Offset(16), end=Offset(18), size=100, max_timestamp_ms=99),
    ]


async def test_checkpoint_survives_the_next_opening() -> None:
    engine, stream, store = an_engine()
    assert list(stream.checkpoints()) == []
    stream.checkpoint_source = lambda forced: a_piece(b"state at %d" % stream.next_offset)
    await cold(engine, stream, 4)
    await engine.die()
    successor = Engine(engine.ledger, store, epoch=2)
    await successor.recover(engine)

    stream = successor.storage.open_stream(stream.stream_id)
    (piece,) = stream.checkpoints()
    assert (piece.offset, await stream.read_checkpoint(piece)) == (8, b"state at 8")


async def test_stream_of_another_owner_is_not_opened() -> None:
    engine, stream, _ = an_engine()
    engine.ledger.reopen(stream.stream_id, owner=NodeId(2))

    with pytest.raises(StreamFenced):
        engine.storage.open_stream(stream.stream_id)


async def test_unknown_stream_is_not_opened() -> None:
    engine, _, _ = an_engine()

    with pytest.raises(StreamNotFound):
        engine.storage.open_stream(StreamId(99))


async def test_stream_that_is_gone_and_asked_again_and_again_remembers_nobody() -> None:
    """What it raises is always the same: it must not collect the frames of everybody who was told."""
    engine, stream, _ = an_engine()
    stream.on_advance = stream.on_lost = lambda: None
    stream.close()
    for _ in range(20):
        with pytest.raises(StreamClosed):
            append(stream, 1)
        with pytest.raises(StreamClosed):
            stream.read_cached(Offset(0), Offset(1), 1)

    with pytest.raises(StreamClosed) as caught:
        await stream.read(Offset(0), Offset(1), 1)

    assert len(caught.traceback) < 6
    assert stream.on_advance is stream.on_lost is stream.checkpoint_source is None


async def test_closed_stream_takes_nothing_and_is_uploaded_all_the_same() -> None:
    engine, stream, _ = an_engine()
    append(stream)
    stream.close()
    stream.close()
    with pytest.raises(StreamClosed):
        append(stream)

    await engine.storage.upload.flush()

    assert engine.ledger.streams[stream.stream_id].end == 1


async def test_next_opening_ends_the_one_before() -> None:
    engine, stream, _ = an_engine()
    append(stream)
    await engine.storage.upload.flush()
    engine.ledger.reopen(stream.stream_id)
    again = engine.storage.open_stream(stream.stream_id)

    with pytest.raises(StreamClosed):
        append(stream)
    append(again)
    await engine.storage.upload.flush()
    assert await read_all(again) == [0, 1]


async def test_stream_opens_above_its_end_when_it_was_trimmed_there() -> None:
    engine, stream, _ = an_engine()
    engine.ledger.record(StreamTrimmed(stream=stream.stream_id, start=Offset(7)))

    again = engine.storage.open_stream(stream.stream_id)

    assert (again.start_offset, again.next_offset, again.confirmed_offset) == (7, 7, 7)
