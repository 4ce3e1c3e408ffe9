"""Reads objects: index and blocks by ranged GETs, every byte checked before it is used."""

from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Sequence

from automq.ids import ClusterId, ObjectId, Offset, StreamId
from automq.s3stream.arena import ReadResult
from automq.s3stream.model import CorruptData
from automq.s3stream.objects.format import (
    FOOTER_BYTES,
    ROW,
    ROW_BYTES,
    IndexEntry,
    ObjectIndex,
    check_block,
    decode_footer,
    object_key,
)
from automq.s3stream.ports import Buffer, ObjectStorage

# The index of a 64 MiB object with a thousand streams fits; one GET does then.
TAIL_BYTES = 64 * 1024
# Indexes of about 4,000 objects.
INDEX_CACHE_BYTES = 32 * 1024 * 1024


class DataBlock:
    """A checked data block. Its bytes are its own: nothing needs to be pinned."""

    __slots__ = ("_bases", "_data", "_positions", "_timestamps", "end", "size", "start")

    def __init__(self, key: str, entry: IndexEntry, data: memoryview) -> None:
        check_block(key, entry, data)
        self._data = data
        self.start, self.end = entry.start, entry.end
        self.size = len(data)
        self._bases = array("q")
        self._timestamps = array("q")
        self._positions = array("q")
        position = entry.batches * ROW_BYTES
        for base, timestamp, _, length, _ in ROW.iter_unpack(data[:position]):
            self._bases.append(base)
            self._timestamps.append(timestamp)
            self._positions.append(position)
            position += length
        self._positions.append(position)
        if position != len(data) or not self._bases or self._bases[0] != entry.start:
            raise CorruptData(key=key, offset=entry.position, length=entry.size, what="data block table")

    def read(self, start: Offset, end: Offset, max_bytes: int) -> ReadResult:
        """Batches from the one that holds `start`, or the next, to the last that begins below `end`.

        At least one if there is any, then as many as fit `max_bytes`.
        """
        bases, positions = self._bases, self._positions
        first = max(0, bisect_right(bases, start) - 1)
        stop = bisect_left(bases, end)
        last = first
        batches: list[memoryview] = []
        origin = positions[first]
        while last < stop and (last == first or positions[last + 1] - origin <= max_bytes):
            batches.append(self._data[positions[last] : positions[last + 1]])
            last += 1
        return ReadResult(
            batches,
            start_offset=Offset(bases[first]),
            end_offset=Offset(bases[last]) if last < len(bases) else self.end,
            size=positions[last] - origin,
        )

    def find_timestamp(self, timestamp_ms: int, start: Offset) -> Offset | None:
        """Base offset of the first batch not wholly below `start` with a max timestamp >= `timestamp_ms`."""
        first = max(0, bisect_right(self._bases, start) - 1)
        for index in range(first, len(self._bases)):
            if self._timestamps[index] >= timestamp_ms:
                return Offset(self._bases[index])
        return None


class ObjectReader:
    """Keeps the indexes it has read; blocks are the block cache's business."""

    def __init__(self, *, store: ObjectStorage, cluster_id: ClusterId) -> None:
        self._store = store
        self._cluster_id = cluster_id
        self._indexes: OrderedDict[ObjectId, ObjectIndex] = OrderedDict()
        self._index_bytes = 0

    async def index(self, object_id: ObjectId, object_size: int) -> ObjectIndex:
        """The object's index. Raises ObjectNotFound, CorruptData, FormatTooNew, StoreError."""
        index = self._indexes.get(object_id)
        if index is not None:
            self._indexes.move_to_end(object_id)
            return index
        index = await self._read_index(object_id, object_size)
        if object_id not in self._indexes:
            self._indexes[object_id] = index
            self._index_bytes += index.size
        while self._index_bytes > INDEX_CACHE_BYTES and len(self._indexes) > 1:
            _, oldest = self._indexes.popitem(last=False)
            self._index_bytes -= oldest.size
        return index

    async def load(self, object_id: ObjectId, entries: Sequence[IndexEntry]) -> list[DataBlock]:
        """Data blocks that lie next to one another, by one ranged GET."""
        key = object_key(self._cluster_id, object_id)
        start = entries[0].position
        end = entries[-1].position + entries[-1].size
        data = memoryview(await self._store.get_range(key, start, end))
        blocks: list[DataBlock] = []
        for entry in entries:
            block = data[entry.position - start : entry.position - start + entry.size]
            # Several blocks of one answer are copied apart: else the last one cached would keep all of it.
            blocks.append(DataBlock(key, entry, block if len(entries) == 1 else memoryview(bytes(block))))
        return blocks

    async def checkpoint(self, object_id: ObjectId, object_size: int, stream: StreamId) -> tuple[Offset, bytes]:
        """The stream's checkpoint in this object, and the offset it describes."""
        key = object_key(self._cluster_id, object_id)
        entry = (await self.index(object_id, object_size)).checkpoint_entry(stream)
        if entry is None:
            raise CorruptData(key=key, offset=0, length=object_size, what=f"index: no checkpoint of stream {stream}")
        data: Buffer = b""
        if entry.size:
            data = await self._store.get_range(key, entry.position, entry.position + entry.size)
        check_block(key, entry, memoryview(data))
        return entry.start, bytes(data)

    def forget(self, object_id: ObjectId) -> None:
        """The object is gone."""
        index = self._indexes.pop(object_id, None)
        if index is not None:
            self._index_bytes -= index.size

    async def _read_index(self, object_id: ObjectId, object_size: int) -> ObjectIndex:
        key = object_key(self._cluster_id, object_id)
        tail_start = max(0, object_size - TAIL_BYTES)
        tail = memoryview(await self._store.get_range(key, tail_start, object_size))
        if len(tail) != object_size - tail_start:
            raise CorruptData(key=key, offset=tail_start, length=len(tail), what="object, which is too short")
        footer = decode_footer(key, tail, size=object_size, cluster_id=self._cluster_id, object_id=object_id)
        if footer.index_position >= tail_start:
            data = tail[footer.index_position - tail_start : -FOOTER_BYTES]
        else:
            end = footer.index_position + footer.index_size
            data = memoryview(await self._store.get_range(key, footer.index_position, end))
        return ObjectIndex(key, bytes(data), footer)
