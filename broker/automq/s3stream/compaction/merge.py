"""Does a compaction job: reads each source once, from front to end, and writes the outputs one after the other.

Blocks lie in an object by stream and offset, and so do the pieces of the outputs: a cursor on each source moves forward
only, by large ranged GETs. Memory is one output and one such GET a source, however large the job is. Every batch's
checksum is checked before it is written again, and goes along: a damaged source stops the job and loses nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Final

from automq.ids import Offset
from automq.s3stream.compaction.job import CompactionJob, Output, Piece, Share, Source, WrittenObject
from automq.s3stream.model import CorruptData, DataMissing
from automq.s3stream.objects.creation import put_object
from automq.s3stream.objects.format import ROW, ROW_BYTES, IndexEntry, check_block, object_key
from automq.s3stream.objects.index import ObjectIndex
from automq.s3stream.objects.index_cache import read_index
from automq.s3stream.objects.writer import DATA_BLOCK_BYTES, Batch, ObjectWriter
from automq.s3stream.ports import ObjectNotFound, ObjectStorage

# One GET: few requests a GB, and with the most sources of a job still a bounded amount of memory.
READ_BYTES: Final = 8 * 1024 * 1024
# Batches handled in one turn of the loop: about a millisecond.
_TURN_BATCHES: Final = 256

WHAT: Final = "an object of a compaction job"

Pace = Callable[[int], Awaitable[None]]
"""Is told how many bytes were read, and returns when more may be."""


class _Cursor:
    """One source, read forward."""

    def __init__(
        self, *, store: ObjectStorage, key: str, source: Source, index: ObjectIndex, read_bytes: int, pace: Pace
    ) -> None:
        self._store = store
        self.key = key
        self._size = source.size
        self.index = index
        self._read_bytes = read_bytes
        self._pace = pace
        self._data = memoryview(b"")
        self._start = 0

    async def block(self, entry: IndexEntry) -> memoryview:
        """The block's bytes, checked. Raises StoreDamaged, StoreError."""
        data = await self._bytes(entry)
        try:
            check_block(self.key, entry, data)
        except CorruptData:
            # A bit that flipped on its way is not one that flipped at rest.
            self._data = memoryview(b"")
            data = await self._bytes(entry)
            check_block(self.key, entry, data)
        return data

    async def _bytes(self, entry: IndexEntry) -> memoryview:
        end = entry.position + entry.size
        if not self._start <= entry.position or end > self._start + len(self._data):
            until = min(self._size, max(end, entry.position + self._read_bytes))
            try:
                self._data = memoryview(await self._store.get_range(self.key, entry.position, until))
            except ObjectNotFound:
                raise DataMissing(key=self.key, what=WHAT) from None
            self._start = entry.position
            await self._pace(len(self._data))
        at = entry.position - self._start
        return self._data[at : at + entry.size]


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
        for source in self._job.sources:
            key = object_key(self._job.cluster_id, source.object_id)
            try:
                index = await read_index(
                    self._store,
                    cluster_id=self._job.cluster_id,
                    object_id=source.object_id,
                    object_size=source.size,
                )
            except ObjectNotFound:
                raise DataMissing(key=key, what=WHAT) from None
            self._cursors.append(
                _Cursor(
                    store=self._store,
                    key=key,
                    source=source,
                    index=index,
                    read_bytes=self._read_bytes,
                    pace=self._pace,
                )
            )
        return [await self._write(output) for output in self._job.outputs]

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
