"""Does a compaction job: reads each source once, from front to end, and writes the outputs one after the other.

Blocks lie in an object by stream and offset, and so do the pieces of the outputs: a cursor on each source moves forward
only. It takes a piece at a time out of one long GET, which waits meanwhile: an output of many sources takes little of
each, so a request for every piece would be some hundreds for each GB. Memory is one output and one piece a source,
however large the job is. Every batch's checksum is checked before it is written again, and goes along: a damaged source
stops the job and loses nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Final

from automq.ids import ClusterId, Offset
from automq.s3stream.compaction.job import CompactionJob, Output, Piece, Share, Source, WrittenObject
from automq.s3stream.model import CorruptData, DataMissing
from automq.s3stream.objects.creation import put_object
from automq.s3stream.objects.format import ROW, ROW_BYTES, IndexEntry, check_block, object_key
from automq.s3stream.objects.index import ObjectIndex
from automq.s3stream.objects.index_cache import read_index
from automq.s3stream.objects.writer import DATA_BLOCK_BYTES, Batch, ObjectWriter
from automq.s3stream.ports import Buffer, ObjectNotFound, ObjectStorage, RangeReader
from automq.s3stream.store.ranges import open_range

# Of one source in memory, but for a block that is larger by itself.
READ_BYTES: Final = 1024 * 1024
# So much of a source that no output takes is read for nothing rather than left out by another GET.
GAP_BYTES: Final = 1024 * 1024
# Read from a source's end first: the index of some thousand blocks, or all of a small object.
TAIL_BYTES: Final = 256 * 1024
# Batches handled in one turn of the loop: about a millisecond.
_TURN_BATCHES: Final = 256

WHAT: Final = "an object of a compaction job"

Pace = Callable[[int], Awaitable[None]]
"""Called with how many bytes were read; returns when more may be."""


class _Cursor:
    """One source, read forward."""

    def __init__(
        self, *, store: ObjectStorage, cluster_id: ClusterId, source: Source, read_bytes: int, pace: Pace
    ) -> None:
        self.key = object_key(cluster_id, source.object_id)
        self.index: ObjectIndex
        self._cluster_id = cluster_id
        self._source = source
        self._store = store
        self._read_bytes = read_bytes
        self._pace = pace
        self._data = memoryview(b"")
        self._start = 0
        self._blocks_end = 0
        self._reader: RangeReader | None = None
        """Goes on where the data end."""

    async def open(self) -> None:
        """Read the index, and a small object with it. Raises StoreDamaged, StoreError."""
        size = self._source.size

        async def get(key: str, start: int, end: int) -> Buffer:
            data = await self._store.get_range(key, start, end)
            if (start, end) == (0, size) and len(data) == size:
                self._data = memoryview(data)
                await self._pace(size)
            return data

        try:
            self.index = await read_index(
                get,
                cluster_id=self._cluster_id,
                object_id=self._source.object_id,
                object_size=size,
                tail_bytes=TAIL_BYTES,
            )
        except ObjectNotFound:
            raise DataMissing(key=self.key, what=WHAT) from None
        self._blocks_end = self.index.position

    async def block(self, entry: IndexEntry) -> memoryview:
        """The block's bytes, checked. Raises StoreDamaged, StoreError."""
        try:
            data = await self._bytes(entry)
            try:
                check_block(self.key, entry, data)
            except CorruptData:
                # A bit that flipped on its way is not one that flipped at rest.
                end = entry.position + entry.size
                data = memoryview(await self._store.get_range(self.key, entry.position, end))
                check_block(self.key, entry, data)
        except ObjectNotFound:
            raise DataMissing(key=self.key, what=WHAT) from None
        return data

    def close(self) -> None:
        """Read no more."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    async def _bytes(self, entry: IndexEntry) -> memoryview:
        """What lies where the block is, shorter where the object ends."""
        data_end = self._start + len(self._data)
        end = entry.position + entry.size
        if not self._start <= entry.position or end > data_end:
            if self._reader is None or not self._start <= entry.position <= data_end + GAP_BYTES:
                self.close()
                self._reader = open_range(self._store, self.key, entry.position, max(end, self._blocks_end))
                self._data, data_end = memoryview(b""), entry.position
            await self._read_on(data_end, entry.position, end)
        at = entry.position - self._start
        return self._data[at : at + entry.size]

    async def _read_on(self, data_end: int, start: int, end: int) -> None:
        """Keep what begins at `start`, and read at least up to `end`."""
        assert self._reader is not None
        begin = min(start, data_end)
        kept = self._data[len(self._data) - (data_end - begin) :] if begin < data_end else memoryview(b"")
        wanted = max(end - data_end, min(self._read_bytes, self._blocks_end - data_end))
        buffer = memoryview(bytearray(len(kept) + wanted))
        buffer[: len(kept)] = kept
        count = await self._reader.read_into(buffer[len(kept) :])
        self._start, self._data = begin, buffer[: len(kept) + count].toreadonly()
        await self._pace(count)


class Merge:
    """One job."""

    def __init__(
        self,
        job: CompactionJob,
        *,
        store: ObjectStorage,
        pace: Pace,
        read_bytes: int = READ_BYTES,
    ) -> None:
        self._job = job
        self._store = store
        self._pace = pace
        self._read_bytes = read_bytes
        self._cursors: list[_Cursor] = []
        self._in_turn = 0

    async def run(self) -> Sequence[WrittenObject]:
        """The outputs, all of them put. Raises StoreDamaged, StoreError."""
        try:
            for source in self._job.sources:
                cursor = _Cursor(
                    store=self._store,
                    cluster_id=self._job.cluster_id,
                    source=source,
                    read_bytes=self._read_bytes,
                    pace=self._pace,
                )
                self._cursors.append(cursor)
                await cursor.open()
            return [await self._write(output) for output in self._job.outputs]
        finally:
            for cursor in self._cursors:
                cursor.close()

    async def _write(self, output: Output) -> WrittenObject:
        """One output, put."""
        writer = ObjectWriter(self._job.cluster_id, output.object_id)
        group: list[Batch] = []
        group_bytes = 0
        shares: list[Share] = []
        share_start = writer.size
        for number, piece in enumerate(output.pieces):
            async for batches in self._blocks(piece):
                for batch in batches:
                    group.append(batch)
                    group_bytes += len(batch[4])
                    if group_bytes >= DATA_BLOCK_BYTES:
                        writer.add_block(piece.stream, group)
                        group, group_bytes = [], 0
            if number + 1 < len(output.pieces) and output.pieces[number + 1].stream == piece.stream:
                continue
            if group:
                writer.add_block(piece.stream, group)
                group, group_bytes = [], 0
            shares.append(Share(share_start, writer.size - share_start))
            share_start = writer.size
        await put_object(self._store, object_key(self._job.cluster_id, output.object_id), writer.finish())
        return WrittenObject(writer.size, tuple(shares))

    async def _blocks(self, piece: Piece) -> AsyncIterator[Sequence[Batch]]:
        """The batches of a piece, block by block. Raises CorruptData unless they reach from its start to its end."""
        cursor = self._cursors[piece.source]
        end: int | None = None
        for entry in cursor.index.data_entries(piece.stream, piece.start):
            if entry.start >= piece.end:
                break
            data = await cursor.block(entry)
            batches = [batch for batch in rows_of(entry, data) if piece.start < batch[0] + batch[1] <= piece.end]
            if batches:
                if end is None and batches[0][0] > piece.start:
                    break
                end = batches[-1][0] + batches[-1][1]
                yield batches
            self._in_turn += entry.batches
            if self._in_turn >= _TURN_BATCHES:
                self._in_turn = 0
                await asyncio.sleep(0)
        if end != piece.end:
            size = self._job.sources[piece.source].size
            what = f"index, which lacks some of [{piece.start}, {piece.end}) of stream {piece.stream}"
            raise CorruptData(key=cursor.key, offset=0, length=size, what=what)


def rows_of(entry: IndexEntry, data: memoryview) -> Iterator[Batch]:
    """The batches of a checked block, each with its checksum."""
    table = entry.layout.head_bytes
    position = table + entry.batches * ROW_BYTES
    for base, timestamp, count, length, crc in ROW.iter_unpack(data[table:position]):
        yield Offset(base), count, timestamp, crc, data[position : position + length]
        position += length
