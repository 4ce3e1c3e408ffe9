"""The read path of one broker incarnation: what is committed, and the caches that it is read through.

    log cache (the stream's own tail) ▸ image: which objects ▸ block cache ▸ index cache ▸ ranged GET

An object may be deleted between looking it up and reading it: then the image names another by now. Or by somebody who
has superseded us, which we may not know yet. So what is missing is missing only once `objects.confirm` has excluded
both.
"""

from typing import Final

from automq.ids import ObjectId, StreamId
from automq.runtime.ledger import Account
from automq.s3stream.cache.block_cache import BlockCache
from automq.s3stream.incarnation import Incarnation
from automq.s3stream.model import CheckpointRef, CorruptData, DataMissing
from automq.s3stream.objects.reader import ObjectReader
from automq.s3stream.ports import ObjectManager, ObjectNotFound, StreamManager


class ReadPath:
    """What every stream of a broker reads with."""

    def __init__(self, incarnation: Incarnation, *, objects: ObjectManager, streams: StreamManager) -> None:
        ledger, clock, tasks = incarnation.ledger, incarnation.clock, incarnation.tasks
        self.block_cache_bytes: Final = incarnation.settings.block_cache_bytes
        self.objects: Final = objects
        self.streams: Final = streams
        self.clock: Final = clock
        self.reader: Final = ObjectReader(
            store=incarnation.store,
            cluster_id=incarnation.cluster_id,
            clock=clock,
            account=ledger[Account.INDEX_CACHE],
            loading=ledger[Account.COLD_READS],
            tasks=tasks,
        )
        self.blocks: Final = BlockCache(
            reader=self.reader,
            account=ledger[Account.BLOCK_CACHE],
            loading=ledger[Account.COLD_READS],
            clock=clock,
            tasks=tasks,
            metrics=incarnation.metrics,
        )
        cached = incarnation.metrics.gauge("automq_block_cache_bytes", "Bytes of data blocks in the block cache")
        cached.set_function(lambda: ledger[Account.BLOCK_CACHE].used)

    def missing(self, object_id: ObjectId) -> DataMissing:
        """The error for an object that the image names and the store does not have."""
        return DataMissing(key=self.reader.key(object_id), what="object")

    async def checkpoint(self, stream_id: StreamId, piece: CheckpointRef) -> bytes:
        """A committed piece of a checkpoint. Raises BrokerFenced, StoreDamaged, StoreError."""
        try:
            found = await self.reader.checkpoint(piece.object_id, piece.object_size, stream_id, piece.offset)
        except ObjectNotFound:
            self.reader.forget(piece.object_id)
            await self.objects.confirm()
            raise self.missing(piece.object_id) from None
        if found is None:
            key = self.reader.key(piece.object_id)
            raise CorruptData(key=key, offset=0, length=piece.object_size, what="object index: no checkpoint")
        return found
