"""Reads objects: blocks by ranged GETs, every byte checked before it is used."""

from collections.abc import Sequence
from typing import Final

from automq.ids import ClusterId, ObjectId, Offset, StreamId
from automq.runtime.budget import ByteBudget
from automq.runtime.clock import Clock
from automq.runtime.tasks import Tasks
from automq.runtime.turns import Pace
from automq.s3stream.model import CorruptData
from automq.s3stream.objects.block import DataBlock
from automq.s3stream.objects.format import IndexEntry, block_layout, check_block, decode_block_head, object_key
from automq.s3stream.objects.index_cache import IndexCache
from automq.s3stream.ports import Buffer, ObjectNotFound, ObjectStorage

# Checked in a microsecond, about.
BATCHES_A_US: Final = 2


class ObjectReader:
    """Blocks as they lie in the store, and what finds them; keeping them is the block cache's business."""

    def __init__(
        self,
        *,
        store: ObjectStorage,
        cluster_id: ClusterId,
        clock: Clock,
        account: ByteBudget,
        loading: ByteBudget,
        tasks: Tasks,
    ) -> None:
        """`account` limits the parts of indexes that are kept, `loading` those that are on their way."""
        self._store = store
        self._cluster_id = cluster_id
        self.index = IndexCache(
            store=store, cluster_id=cluster_id, clock=clock, account=account, loading=loading, tasks=tasks
        )

    def key(self, object_id: ObjectId) -> str:
        """The object's key in the store."""
        return object_key(self._cluster_id, object_id)

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

    async def load_share(self, object_id: ObjectId, stream: StreamId, start: int, end: int) -> list[DataBlock]:
        """The data blocks of `stream` that fill bytes [start, end), by one ranged GET and without the index.

        A batch that is damaged is none of this; where a head or a table is, CorruptData says that the index must be
        asked. Raises ObjectNotFound, CorruptData, StoreError.
        """
        self.index.check_known(object_id)
        key = self.key(object_id)
        try:
            data = memoryview(await self._store.get_range(key, start, end))
        except ObjectNotFound:
            self.index.missing(object_id)
            raise
        layout = block_layout(self._cluster_id, object_id)
        blocks: list[DataBlock] = []
        pace = Pace()
        at = 0
        while start + at < end:
            entry = decode_block_head(key, data[at:], position=start + at, layout=layout)
            found = data[at : at + entry.size]
            is_alone = at == 0 and entry.size == end - start
            block = DataBlock(key, entry, found if is_alone else memoryview(bytes(found)))
            if block.is_table_damaged or entry.stream != stream or (blocks and entry.start < blocks[-1].end):
                raise CorruptData(key=key, offset=entry.position, length=entry.size, what="data block")
            blocks.append(block)
            at += entry.size
            await pace.spend(entry.batches // BATCHES_A_US)
        return blocks

    async def checkpoint(self, object_id: ObjectId, object_size: int, stream: StreamId, offset: Offset) -> bytes | None:
        """The piece of the stream's checkpoint in this object that describes `offset`; None when it is not in it.

        Raises ObjectNotFound, CorruptData, FormatTooNew, StoreError.
        """
        entry = await self.index.checkpoint_entry(object_id, object_size, stream, offset)
        if entry is None:
            return None
        try:
            return await self._read_checkpoint(object_id, entry)
        except CorruptData:
            # Once more: a bit that flipped on its way is not one that flipped at rest.
            return await self._read_checkpoint(object_id, entry)

    async def _read_checkpoint(self, object_id: ObjectId, entry: IndexEntry) -> bytes:
        key = self.key(object_id)
        data: Buffer = b""
        if entry.size:
            data = await self._store.get_range(key, entry.position, entry.position + entry.size)
        check_block(key, entry, memoryview(data))
        return bytes(data)

    def forget(self, object_id: ObjectId) -> None:
        """The object is gone."""
        self.index.forget(object_id)
