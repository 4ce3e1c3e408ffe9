"""Data blocks of objects in memory: least recently used go first, one load a block in flight.

Loading has a byte budget of its own and happens in tasks of its own: a reader that gives up does not take the load away
from others who wait for it.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence

from prometheus_client import Counter

from automq.ids import ObjectId, StreamId
from automq.runtime.budget import ByteBudget
from automq.runtime.clock import Clock
from automq.runtime.tasks import Tasks
from automq.runtime.telemetry import Metrics
from automq.s3stream.model import ObjectSpan, StreamError
from automq.s3stream.objects.format import IndexEntry
from automq.s3stream.objects.reader import REEXAMINE_S, DataBlock, ObjectReader
from automq.s3stream.ports import StoreError

BlockKey = tuple[ObjectId, int]
"""Object and position."""

# One ranged GET fetches at most this much: enough to hide the latency of a request, little enough to share a budget.
LOAD_BYTES_MAX = 4 * 1024 * 1024


class BlockCache:
    """Checked blocks within `account`. A damaged one is kept for what is whole of it, and loaded anew in time."""

    def __init__(
        self,
        *,
        reader: ObjectReader,
        account: ByteBudget,
        loading: ByteBudget,
        clock: Clock,
        tasks: Tasks,
        metrics: Metrics,
    ) -> None:
        self._reader = reader
        self._account = account
        self._loading = loading
        self._clock = clock
        self._tasks = tasks
        self._due: dict[BlockKey, float] = {}
        """When a damaged block is to be loaded again."""
        self._blocks: OrderedDict[BlockKey, DataBlock] = OrderedDict()
        self._loads: dict[BlockKey, asyncio.Future[DataBlock]] = {}
        self._warming: dict[tuple[ObjectId, StreamId], None] = {}
        self._hits: Counter = metrics.counter("automq_block_cache_hits", "Blocks found in the block cache")
        self._misses: Counter = metrics.counter("automq_block_cache_misses", "Blocks not found in the block cache")
        self._loaded: Counter = metrics.counter("automq_block_cache_loaded_bytes", "Bytes loaded into the block cache")

    async def block(self, object_id: ObjectId, entry: IndexEntry) -> DataBlock:
        """The block, loaded if need be; part of it may be damaged. Raises ObjectNotFound, StoreError."""
        key = (object_id, entry.position)
        cached = self._blocks.get(key)
        if cached is not None and not self._is_due(key):
            self._blocks.move_to_end(key)
            self._hits.inc()
            return cached
        self._misses.inc()
        self.preload(object_id, [entry])
        return await asyncio.shield(self._loads[key])

    def _is_due(self, key: BlockKey) -> bool:
        """Whether the block is a damaged one that may be whole by now; it is dropped then."""
        due = self._due.get(key)
        if due is None or self._clock.monotonic() < due:
            return False
        self._drop(key)
        return True

    def _drop(self, key: BlockKey) -> None:
        self._due.pop(key, None)
        self._account.release(self._blocks.pop(key).memory_bytes)

    def preload(self, object_id: ObjectId, entries: Sequence[IndexEntry]) -> None:
        """Start loading what is neither cached nor on its way; neighbours share a request."""
        together: list[IndexEntry] = []
        for entry in entries:
            key = (object_id, entry.position)
            if key in self._blocks or key in self._loads:
                continue
            if together:
                last = together[-1]
                adjacent = last.position + last.size == entry.position
                if not adjacent or entry.position + entry.size - together[0].position > LOAD_BYTES_MAX:
                    self._start(object_id, together)
                    together = []
            together.append(entry)
        if together:
            self._start(object_id, together)

    def warm(self, span: ObjectSpan, stream: StreamId, *, bytes_max: int) -> None:
        """Load the first blocks of `stream` in an object that a sequential reader is about to reach."""
        if (span.object_id, stream) not in self._warming:
            self._warming[(span.object_id, stream)] = None
            _ = self._tasks.spawn(self._warm(span, stream, bytes_max), name=f"warm object {span.object_id}")

    async def _warm(self, span: ObjectSpan, stream: StreamId, bytes_max: int) -> None:
        try:
            index = await self._reader.index(span.object_id, span.object_size)
            entries: list[IndexEntry] = []
            size = 0
            for entry in index.data_entries(stream, span.start):
                if size >= bytes_max:
                    break
                entries.append(entry)
                size += entry.size
            self.preload(span.object_id, entries)
        except (StoreError, StreamError):
            # The read itself will meet it again, and report it.
            return
        finally:
            del self._warming[(span.object_id, stream)]

    def _start(self, object_id: ObjectId, entries: Sequence[IndexEntry]) -> None:
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[DataBlock]] = []
        for entry in entries:
            future: asyncio.Future[DataBlock] = loop.create_future()
            # Nobody may be waiting for a block loaded ahead: its failure is not news then.
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._loads[(object_id, entry.position)] = future
            futures.append(future)
        _ = self._tasks.spawn(self._load(object_id, entries, futures), name=f"load blocks of object {object_id}")

    async def _load(
        self, object_id: ObjectId, entries: Sequence[IndexEntry], futures: Sequence[asyncio.Future[DataBlock]]
    ) -> None:
        size = sum(entry.size for entry in entries)
        keys = [(object_id, entry.position) for entry in entries]
        try:
            await self._loading.acquire(size)
            try:
                blocks = await self._reader.load(object_id, entries)
            finally:
                self._loading.release(size)
        except (StoreError, StreamError) as error:
            for future in futures:
                future.set_exception(error)
        else:
            self._loaded.inc(size)
            for key, future, block in zip(keys, futures, blocks, strict=True):
                self._insert(key, block)
                future.set_result(block)
        finally:
            for key, future in zip(keys, futures, strict=True):
                del self._loads[key]
                future.cancel()

    def _insert(self, key: BlockKey, block: DataBlock) -> None:
        self._blocks[key] = block
        self._account.charge(block.memory_bytes)
        if block.damage is not None:
            self._due[key] = self._clock.monotonic() + REEXAMINE_S
        while self._account.excess and len(self._blocks) > 1:
            self._drop(next(iter(self._blocks)))
