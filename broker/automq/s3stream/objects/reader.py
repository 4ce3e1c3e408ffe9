"""Reads objects: index and blocks by ranged GETs, every byte checked before it is used."""

from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final, TypeVar

from crc32c import crc32c

from automq.ids import ClusterId, ObjectId, Offset, StreamId
from automq.runtime.budget import ByteBudget
from automq.runtime.clock import Clock
from automq.runtime.turns import Pace
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
from automq.s3stream.ports import Buffer, ObjectNotFound, ObjectStorage

T = TypeVar("T")

# The index of a 64 MiB object with a thousand streams fits; one GET does then.
TAIL_BYTES = 64 * 1024
# Objects around a block and around an index: the views, the arrays, the entry in the cache.
BLOCK_OVERHEAD_BYTES: Final = 900
INDEX_OVERHEAD_BYTES: Final = 500
# Whoever mends the store by hand is believed after so long at the latest.
REEXAMINE_S: Final = 30.0
# Checked in a microsecond, about.
BATCHES_A_US: Final = 2
# Damaged objects that are remembered at once; beyond them the oldest is looked at again when it is asked for.
KNOWN_MAX: Final = 1000


class DataBlock:
    """A data block whose batches are checked, each for itself. Its bytes are its own: nothing needs to be pinned.

    A batch that fails its checksum is never read, its neighbours are. Where the table itself fails, the whole block
    counts as one such batch.
    """

    __slots__ = (
        "_bases",
        "_damaged",
        "_data",
        "_key",
        "_position",
        "_positions",
        "_timestamps",
        "end",
        "size",
        "start",
    )

    def __init__(self, key: str, entry: IndexEntry, data: memoryview) -> None:
        self._key = key
        self._position = entry.position
        self._data = data
        self.start, self.end = entry.start, entry.end
        self.size = len(data)
        self._bases = array("q")
        self._timestamps = array("q")
        self._positions = array("q")
        self._damaged: dict[int, str] = {}
        """What is wrong with a batch, by its number."""
        if not self._read_table(entry, data):
            self._bases = array("q", [entry.start])
            self._timestamps = array("q", [entry.max_timestamp_ms])
            self._positions = array("q", [0, entry.size])
            self._damaged = {0: "data block"}

    def _read_table(self, entry: IndexEntry, data: memoryview) -> bool:
        """Whether it is the table that was written."""
        position = entry.batches * ROW_BYTES
        if len(data) != entry.size or position > len(data) or crc32c(data[:position]) != entry.crc:
            return False
        for number, (base, timestamp, _, length, crc) in enumerate(ROW.iter_unpack(data[:position])):
            self._bases.append(base)
            self._timestamps.append(timestamp)
            self._positions.append(position)
            if crc32c(data[position : position + length], 0, 0) != crc:
                self._damaged[number] = "record batch"
            position += length
        self._positions.append(position)
        return position == len(data) and bool(self._bases) and self._bases[0] == entry.start

    @property
    def memory_bytes(self) -> int:
        """What it takes in memory: its bytes, the three arrays, and the objects around them."""
        arrays = sum(len(held) * held.itemsize for held in (self._bases, self._timestamps, self._positions))
        # An array that grows keeps an eighth in reserve.
        return self.size + arrays + arrays // 8 + BLOCK_OVERHEAD_BYTES

    @property
    def damage(self) -> CorruptData | None:
        """The first batch that cannot be read."""
        return self._error(min(self._damaged)) if self._damaged else None

    def _error(self, number: int) -> CorruptData:
        start, end = self._positions[number], self._positions[number + 1]
        error = CorruptData(
            key=self._key, offset=self._position + start, length=end - start, what=self._damaged[number]
        )
        error.hidden = (Offset(self._bases[number]), self._base_after(number))
        return error

    def _base_after(self, number: int) -> Offset:
        return Offset(self._bases[number + 1]) if number + 1 < len(self._bases) else self.end

    def read(self, start: Offset, end: Offset, max_bytes: int) -> ReadResult:
        """Batches from the one that holds `start`, or the next, to the last that begins below `end`.

        At least one if there is any, then as many as fit `max_bytes` and are whole. Raises CorruptData where the first
        is not.
        """
        bases, positions = self._bases, self._positions
        first = max(0, bisect_right(bases, start) - 1)
        if first in self._damaged:
            raise self._error(first)
        stop = bisect_left(bases, end)
        last = first
        batches: list[memoryview] = []
        origin = positions[first]
        while last < stop and (last == first or positions[last + 1] - origin <= max_bytes):
            if last in self._damaged:
                break
            batches.append(self._data[positions[last] : positions[last + 1]])
            last += 1
        return ReadResult(
            batches,
            start_offset=Offset(bases[first]),
            end_offset=Offset(bases[last]) if last < len(bases) else self.end,
            size=positions[last] - origin,
        )

    def timestamps(self) -> Iterator[tuple[Offset, int]]:
        """(base offset, max timestamp) of each batch."""
        return ((Offset(base), timestamp) for base, timestamp in zip(self._bases, self._timestamps, strict=True))

    def find_timestamp(self, timestamp_ms: int, start: Offset) -> Offset | None:
        """Base offset of the first batch not wholly below `start` with a max timestamp >= `timestamp_ms`."""
        first = max(0, bisect_right(self._bases, start) - 1)
        for index in range(first, len(self._bases)):
            if self._timestamps[index] >= timestamp_ms:
                return Offset(self._bases[index])
        return None


class ObjectReader:
    """Keeps the indexes it has read; blocks are the block cache's business.

    What fails a check is read a second time before it counts as damaged, past every cache: a bit that flipped on its
    way is not one that flipped at rest. What counts as damaged, or is missing, is looked at again only after
    `REEXAMINE_S`: a reader that comes back and back costs no requests.
    """

    def __init__(self, *, store: ObjectStorage, cluster_id: ClusterId, clock: Clock, account: ByteBudget) -> None:
        """`account` limits the indexes that are kept."""
        self._store = store
        self._account = account
        self._cluster_id = cluster_id
        self._clock = clock
        self._indexes: OrderedDict[ObjectId, ObjectIndex] = OrderedDict()
        self._known: OrderedDict[ObjectId, tuple[float, CorruptData | None]] = OrderedDict()
        """Objects without a usable index: until when, and what is wrong with it; None when the object is missing."""

    def key(self, object_id: ObjectId) -> str:
        """The object's key in the store."""
        return object_key(self._cluster_id, object_id)

    async def index(self, object_id: ObjectId, object_size: int) -> ObjectIndex:
        """The object's index. Raises ObjectNotFound, CorruptData, FormatTooNew, StoreError."""
        index = self._indexes.get(object_id)
        if index is not None:
            self._indexes.move_to_end(object_id)
            return index
        known = self._known.get(object_id)
        if known is not None and self._clock.monotonic() < known[0]:
            raise known[1].again() if known[1] is not None else ObjectNotFound(self.key(object_id))
        try:
            index = await self._examine(lambda: self._read_index(object_id, object_size))
        except (ObjectNotFound, CorruptData) as error:
            damage = error.again() if isinstance(error, CorruptData) else None
            self._known[object_id] = (self._clock.monotonic() + REEXAMINE_S, damage)
            self._known.move_to_end(object_id)
            if len(self._known) > KNOWN_MAX:
                self._known.popitem(last=False)
            raise
        self._known.pop(object_id, None)
        if object_id not in self._indexes:
            self._indexes[object_id] = index
            self._account.charge(index.size + INDEX_OVERHEAD_BYTES)
        while self._account.excess and len(self._indexes) > 1:
            self.forget(next(iter(self._indexes)))
        return index

    async def load(self, object_id: ObjectId, entries: Sequence[IndexEntry]) -> list[DataBlock]:
        """Data blocks that lie next to one another, by one ranged GET; each that is damaged by one more.

        A damaged block is no error here: what of it is whole may be read. Raises ObjectNotFound, StoreError.
        """
        blocks = await self._load(object_id, entries)
        for number, block in enumerate(blocks):
            if block.damage is not None:
                (blocks[number],) = await self._load(object_id, entries[number : number + 1])
        return blocks

    async def _load(self, object_id: ObjectId, entries: Sequence[IndexEntry]) -> list[DataBlock]:
        key = self.key(object_id)
        start = entries[0].position
        end = entries[-1].position + entries[-1].size
        data = memoryview(await self._store.get_range(key, start, end))
        blocks: list[DataBlock] = []
        pace = Pace()
        for entry in entries:
            block = data[entry.position - start : entry.position - start + entry.size]
            # Several blocks of one answer are copied apart: else the last one cached would keep all of it.
            blocks.append(DataBlock(key, entry, block if len(entries) == 1 else memoryview(bytes(block))))
            await pace.spend(entry.batches // BATCHES_A_US)
        return blocks

    async def checkpoint(self, object_id: ObjectId, object_size: int, stream: StreamId, offset: Offset) -> bytes | None:
        """The piece of the stream's checkpoint in this object that describes `offset`; None when it is not in it.

        Raises ObjectNotFound, CorruptData, FormatTooNew, StoreError.
        """
        entry = (await self.index(object_id, object_size)).checkpoint_entry(stream, offset)
        if entry is None:
            return None
        found = entry

        async def read() -> bytes:
            key = self.key(object_id)
            data: Buffer = b""
            if found.size:
                data = await self._store.get_range(key, found.position, found.position + found.size)
            check_block(key, found, memoryview(data))
            return bytes(data)

        return await self._examine(read)

    def forget(self, object_id: ObjectId) -> None:
        """The object is gone."""
        index = self._indexes.pop(object_id, None)
        if index is not None:
            self._account.release(index.size + INDEX_OVERHEAD_BYTES)

    async def _examine(self, read: Callable[[], Awaitable[T]]) -> T:
        """Once more, if what was read fails a check."""
        try:
            return await read()
        except CorruptData:
            return await read()

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
