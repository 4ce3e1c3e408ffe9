"""Pieces of many objects become few: every batch once, in order, checked; whatever is damaged stops the job."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from automq.ids import ObjectId, Offset, StreamId
from automq.s3stream.compaction.job import (
    VERSION,
    CompactionJob,
    FormatMismatch,
    Output,
    Piece,
    Share,
    Source,
    decode_job,
    encode_job,
)
from automq.s3stream.compaction.merge import Merge
from automq.s3stream.model import CorruptData, DataMissing
from automq.s3stream.objects.format import object_key
from automq.s3stream.objects.index_cache import read_index
from automq.s3stream.objects.writer import Batch, ObjectWriter
from automq.s3stream.ports import Buffer, ObjectNotFound, RangeReader
from automq.s3stream.store.memory import MemoryStore
from automq.s3stream.store.ranges import open_range
from automq.s3stream.store.wrapped import WrappedStore
from tests.support.engine import CLUSTER, a_batch, stored
from tests.support.object_reads import read_objects
from tests.support.old_objects import OldObjectWriter

STATE = b"state"
COUNT = 2
"""Records in a batch of these tests."""


async def put_source(
    store: MemoryStore, number: int, streams: Sequence[tuple[int, int, int]], *, old: bool = False
) -> Source:
    """An object with (stream, first offset, batches) each in a block of its own, and a checkpoint behind each."""
    writer = (OldObjectWriter if old else ObjectWriter)(CLUSTER, ObjectId(number))
    for stream, start, batches in streams:
        bases = range(start, start + batches * COUNT, COUNT)
        writer.add_block(StreamId(stream), [stored(StreamId(stream), base, COUNT, base) for base in bases])
        writer.add_checkpoint(StreamId(stream), Offset(start + batches * COUNT), [STATE], crc=crc32c(STATE))
    await store.put(object_key(CLUSTER, ObjectId(number)), writer.finish())
    return Source(ObjectId(number), writer.size)


def a_job(sources: Sequence[Source], outputs: Sequence[Output]) -> CompactionJob:
    return CompactionJob(VERSION, CLUSTER, tuple(sources), tuple(outputs), 0)


async def run(store: MemoryStore, job: CompactionJob, *, read_bytes: int = 1 << 20) -> tuple[Sequence[int], int]:
    """The sizes of the outputs, and how many GETs of data it took."""
    reads = 0

    async def pace(_size: int) -> None:
        nonlocal reads
        reads += 1

    written = await Merge(job, store=store, pace=pace, read_bytes=read_bytes).run()
    for output, put in zip(job.outputs, written, strict=True):
        await check_shares(store, output, put.shares)
    return [put.size for put in written], reads


async def check_shares(store: MemoryStore, output: Output, shares: Sequence[Share]) -> None:
    """Each stream of an output lies where the worker says."""
    reader = read_objects(store)
    streams = sorted({piece.stream for piece in output.pieces})
    for stream, share in zip(streams, shares, strict=True):
        end = share.position + share.size
        blocks = await reader.load_share(output.object_id, stream, share.position, end)
        assert blocks[-1].end == max(piece.end for piece in output.pieces if piece.stream == stream)


async def read_stream(store: MemoryStore, object_id: int, size: int, stream: int) -> list[memoryview]:
    reader = read_objects(store)
    index = await read_index(store.get_range, cluster_id=CLUSTER, object_id=ObjectId(object_id), object_size=size)
    batches: list[memoryview] = []
    for entry in index.data_entries(StreamId(stream), Offset(0)):
        (block,) = await reader.load(ObjectId(object_id), [entry])
        assert block.damage is None
        batches += block.read(block.start, block.end, 1 << 30).batches
    return batches


async def test_pieces_of_one_stream_become_one_block() -> None:
    store = MemoryStore()
    sources = [await put_source(store, number, [(5, number * 4, 2), (9, number * 2, 1)]) for number in range(1, 4)]
    pieces = [Piece(StreamId(5), at, Offset(4 + at * 4), Offset(8 + at * 4)) for at in range(3)]
    pieces += [Piece(StreamId(9), at, Offset(2 + at * 2), Offset(4 + at * 2)) for at in range(3)]

    (size,), reads = await run(store, a_job(sources, [Output(ObjectId(10), tuple(pieces))]))

    assert await read_stream(store, 10, size, 5) == [a_batch(StreamId(5), base) for base in range(4, 16, 2)]
    assert await read_stream(store, 10, size, 9) == [a_batch(StreamId(9), base) for base in range(2, 8, 2)]
    index = await read_index(store.get_range, cluster_id=CLUSTER, object_id=ObjectId(10), object_size=size)
    assert [entry.stream for entry in index.entries()] == [5, 9]
    assert reads == len(sources)


@given(
    objects=st.lists(st.lists(st.integers(0, 4), min_size=4, max_size=4), min_size=1, max_size=5),
    cut=st.integers(0, 20),
    read_bytes=st.sampled_from([1, 300, 5000]),
)
def test_every_batch_is_written_once_and_in_order(objects: list[list[int]], cut: int, read_bytes: int) -> None:
    async def body() -> None:
        store = MemoryStore()
        ends = [0, 0, 0, 0]
        sources: list[Source] = []
        pieces: list[Piece] = []
        for number, counts in enumerate(objects):
            laid = [(stream, ends[stream], count) for stream, count in enumerate(counts) if count]
            # Those of an earlier version are compacted like others.
            sources.append(await put_source(store, number + 1, laid, old=bool((number + cut) % 2)))
            for stream, start, count in laid:
                ends[stream] = start + count * COUNT
                pieces.append(Piece(StreamId(stream), number, Offset(start), Offset(ends[stream])))
        pieces.sort(key=lambda piece: (piece.stream, piece.start))
        outputs = [
            Output(ObjectId(100 + at), tuple(part)) for at, part in enumerate((pieces[:cut], pieces[cut:])) if part
        ]

        sizes, _ = await run(store, a_job(sources, outputs), read_bytes=read_bytes)

        found: dict[int, list[memoryview]] = {stream: [] for stream in range(4)}
        for output, size in zip(outputs, sizes, strict=True):
            for stream in range(4):
                found[stream] += await read_stream(store, output.object_id, size, stream)
        for stream, end in enumerate(ends):
            assert found[stream] == [a_batch(StreamId(stream), base) for base in range(0, end, COUNT)]

    asyncio.run(body())


async def test_source_is_read_front_to_end_by_few_requests() -> None:
    """10 objects of 1,000 streams: not a GET a stream."""
    store = MemoryStore()
    sources = [await put_source(store, at + 1, [(stream, at * 2, 1) for stream in range(1000)]) for at in range(10)]
    pieces = [
        Piece(StreamId(stream), at, Offset(at * 2), Offset(at * 2 + 2)) for stream in range(1000) for at in range(10)
    ]

    _, reads = await run(store, a_job(sources, [Output(ObjectId(99), tuple(pieces))]))

    assert reads == 10


class StreamingStore(WrappedStore):
    """Answers a long range by one request, as a bucket does, and remembers each."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.gets: list[tuple[str, int, int]] = []
        self.opened = 0

    def open_range(self, key: str, start: int, end: int) -> RangeReader:
        self.gets.append((key, start, end))
        self.opened += 1
        pieces = open_range(self._store, key, start, end)
        close = pieces.close

        def closed() -> None:
            self.opened -= 1
            close()

        pieces.close = closed  # type: ignore[method-assign]
        return pieces

    async def get_range(self, key: str, start: int, end: int) -> Buffer:
        self.gets.append((key, start, end))
        return await self._store.get_range(key, start, end)

    async def _perform(self, operation: str, key: str, request: Any, body: Sequence[Buffer] = (), **_: Any) -> Any:
        return await request


def large(stream: int, base: int, size: int) -> Batch:
    return stored(StreamId(stream), base, COUNT, base, size=size)


async def put_large(store: MemoryStore, number: int, streams: int, size: int) -> Source:
    """An object with a batch of `size` bytes of each stream."""
    writer = ObjectWriter(CLUSTER, ObjectId(number))
    for stream in range(streams):
        writer.add_block(StreamId(stream), [large(stream, number * COUNT, size)])
    await store.put(object_key(CLUSTER, ObjectId(number)), writer.finish())
    return Source(ObjectId(number), writer.size)


async def no_pace(_size: int) -> None:
    """As fast as it comes."""


async def test_large_source_is_two_requests_however_many_outputs_take_of_it() -> None:
    """Its index, and everything else: an output takes a tenth of each source here."""
    memory = MemoryStore()
    sources = [await put_large(memory, number, 20, 100_000) for number in range(4)]
    outputs = [
        Output(
            ObjectId(100 + part), tuple(piece_of(stream, at) for stream in (2 * part, 2 * part + 1) for at in range(4))
        )
        for part in range(10)
    ]
    store = StreamingStore(memory)

    written = await Merge(a_job(sources, outputs), store=store, pace=no_pace, read_bytes=150_000).run()

    assert len(store.gets) == 2 * len(sources)
    assert store.opened == 0
    for part, put in enumerate(written):
        for stream in (2 * part, 2 * part + 1):
            assert [len(batch) for batch in await read_stream(memory, 100 + part, put.size, stream)] == [100_000] * 4


def piece_of(stream: int, at: int) -> Piece:
    return Piece(StreamId(stream), at, Offset(at * COUNT), Offset(at * COUNT + COUNT))


async def test_small_source_is_one_request() -> None:
    memory = MemoryStore()
    sources = [await put_source(memory, at + 1, [(stream, at * 2, 1) for stream in range(100)]) for at in range(3)]
    pieces = [
        Piece(StreamId(stream), at, Offset(at * 2), Offset(at * 2 + 2)) for stream in range(100) for at in range(3)
    ]
    store = StreamingStore(memory)

    await Merge(a_job(sources, [Output(ObjectId(99), tuple(pieces))]), store=store, pace=no_pace).run()

    assert store.gets == [(object_key(CLUSTER, source.object_id), 0, source.size) for source in sources]


async def test_what_no_output_takes_is_left_out_where_it_is_long_and_read_where_it_is_short() -> None:
    memory = MemoryStore()
    source = await put_large(memory, 0, 40, 100_000)
    store = StreamingStore(memory)
    taken = [0, 1, 5, 30, 31]

    (put,) = await Merge(
        a_job([source], [Output(ObjectId(99), tuple(piece_of(stream, 0) for stream in taken))]),
        store=store,
        pace=no_pace,
        read_bytes=100_000,
    ).run()

    # The index, from stream 0 on, and after 2.4 MB that nobody wants from stream 30 on.
    assert len(store.gets) == 3
    for stream in taken:
        assert len(await read_stream(memory, 99, put.size, stream)) == 1


async def test_stream_that_is_taken_twice_is_read_twice() -> None:
    """Spans of a stream that are no neighbours go to different outputs: the second one goes back in the source."""
    memory = MemoryStore()
    source = await put_large(memory, 0, 20, 100_000)
    store = StreamingStore(memory)
    outputs = [Output(ObjectId(number), (piece_of(3, 0), piece_of(15, 0))) for number in (98, 99)]

    written = await Merge(a_job([source], outputs), store=store, pace=no_pace, read_bytes=100_000).run()

    for number, put in zip((98, 99), written, strict=True):
        for stream in (3, 15):
            assert len(await read_stream(memory, number, put.size, stream)) == 1


async def test_readers_are_closed_when_a_job_fails() -> None:
    memory = MemoryStore()
    source = await put_large(memory, 0, 20, 100_000)
    key = object_key(CLUSTER, ObjectId(0))
    data = bytearray(await memory.get(key))
    data[1_500_000] ^= 1
    await memory.put(key, [bytes(data)])
    store = StreamingStore(memory)

    with pytest.raises(CorruptData):
        await Merge(
            a_job([source], [Output(ObjectId(99), tuple(piece_of(stream, 0) for stream in range(20)))]),
            store=store,
            pace=no_pace,
        ).run()

    assert store.opened == 0


async def test_a_bit_that_flipped_on_its_way_is_read_again() -> None:
    memory = MemoryStore()
    source = await put_large(memory, 0, 20, 100_000)
    store = StreamingStore(memory)
    opened = store.open_range

    def flipping(key: str, start: int, end: int) -> RangeReader:
        reader = opened(key, start, end)
        read_into = reader.read_into

        async def flipped(buffer: memoryview) -> int:
            count = await read_into(buffer)
            buffer[50_000] ^= 1
            return count

        reader.read_into = flipped  # type: ignore[method-assign]
        return reader

    store.open_range = flipping  # type: ignore[method-assign]

    (put,) = await Merge(
        a_job([source], [Output(ObjectId(99), tuple(piece_of(stream, 0) for stream in range(20)))]),
        store=store,
        pace=no_pace,
    ).run()

    for stream in range(20):
        assert await read_stream(memory, 99, put.size, stream) == [large(stream, 0, 100_000)[4]]


async def test_what_lies_outside_a_piece_stays_behind() -> None:
    store = MemoryStore()
    source = await put_source(store, 1, [(5, 0, 10)])

    (size,), _ = await run(
        store, a_job([source], [Output(ObjectId(2), (Piece(StreamId(5), 0, Offset(5), Offset(12)),))])
    )

    # Offset 5 lies in the batch that begins at 4.
    assert await read_stream(store, 2, size, 5) == [a_batch(StreamId(5), base) for base in range(4, 12, 2)]


@pytest.mark.parametrize("at", [60, 90])
async def test_damaged_source_stops_the_job(at: int) -> None:
    store = MemoryStore()
    source = await put_source(store, 1, [(5, 0, 3)])
    key = object_key(CLUSTER, ObjectId(1))
    data = bytearray(await store.get(key))
    data[at] ^= 1
    await store.put(key, [bytes(data)])

    with pytest.raises(CorruptData) as caught:
        await run(store, a_job([source], [Output(ObjectId(2), (Piece(StreamId(5), 0, Offset(0), Offset(6)),))]))

    assert caught.value.key == key
    with pytest.raises(ObjectNotFound):
        await store.get(object_key(CLUSTER, ObjectId(2)))


async def test_source_that_lacks_what_the_metadata_say_is_damage() -> None:
    store = MemoryStore()
    source = await put_source(store, 1, [(5, 4, 3)])

    for start, end in ((0, 8), (4, 12), (20, 22)):
        with pytest.raises(CorruptData, match="which lacks some of"):
            await run(
                store, a_job([source], [Output(ObjectId(2), (Piece(StreamId(5), 0, Offset(start), Offset(end)),))])
            )


async def test_missing_source_stops_the_job() -> None:
    with pytest.raises(DataMissing):
        await run(
            MemoryStore(),
            a_job([Source(ObjectId(1), 500)], [Output(ObjectId(2), (Piece(StreamId(5), 0, Offset(0), Offset(2)),))]),
        )


def test_job_goes_over_a_wire() -> None:
    job = a_job([Source(ObjectId(1), 500)], [Output(ObjectId(2), (Piece(StreamId(5), 0, Offset(0), Offset(2)),))])

    assert decode_job(encode_job(job)) == job


def test_job_of_another_release_is_refused() -> None:
    job = CompactionJob(VERSION + 1, CLUSTER, (), (), 0)

    with pytest.raises(FormatMismatch, match="version 2"):
        decode_job(encode_job(job))
    with pytest.raises(FormatMismatch, match="no compaction job"):
        decode_job(b"\x93")
