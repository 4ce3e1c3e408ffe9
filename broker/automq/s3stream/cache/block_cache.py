"""Data blocks of objects in memory: least recently used go first, one load of each in flight.

Loading has a byte budget of its own and happens in tasks of its own: a reader that gives up does not take the load away
from others who wait for it.

Blocks are loaded one way or the other. With entries of the object's index, neighbours by one request. Or as a *share*:
all that an object holds of a stream, where it is little and the metadata say where it lies; that takes one request and
no index. What a share's blocks do not prove of themselves, the index is asked for.

What is loaded ahead of a reader has a limit of its own, which shrinks when blocks go before anybody has read them: so
many readers together that the cache cannot hold what is to come for each of them are not loaded ahead for.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client import Counter

from automq.ids import ObjectId, StreamId
from automq.runtime.budget import ByteBudget
from automq.runtime.clock import Clock
from automq.runtime.tasks import Tasks
from automq.runtime.telemetry import Metrics
from automq.s3stream.cache.ahead import Ahead
from automq.s3stream.model import ObjectSpan, StreamError
from automq.s3stream.objects.block import DataBlock
from automq.s3stream.objects.format import IndexEntry
from automq.s3stream.objects.index_cache import REEXAMINE_S
from automq.s3stream.objects.reader import ObjectReader
from automq.s3stream.ports import StoreError

BlockKey = tuple[ObjectId, int]
"""Object and position."""

# One ranged GET fetches at most this much: enough to hide the latency of a request, little enough to share a budget.
LOAD_BYTES_MAX = 4 * 1024 * 1024
# A share up to this is fetched whole, wherever in it a reader is: two blocks, which is as much as its first read takes.
SHARE_BYTES_MAX = 1024 * 1024
# What a request on its way takes besides its bytes.
LOAD_OVERHEAD_BYTES: Final = 4 * 1024


def is_small_share(span: ObjectSpan) -> bool:
    """Whether it is loaded as a whole, and without the object's index."""
    return span.position > 0 and 0 < span.size <= SHARE_BYTES_MAX and span.position + span.size <= span.object_size


@dataclass(frozen=True, slots=True)
class ShareLoad:
    """The blocks of a share: those that were there, and the others on their way. They stay as long as this is held."""

    there: Sequence[DataBlock]
    rest: "asyncio.Future[list[DataBlock]] | None"

    @property
    def is_done(self) -> bool:
        """Whether `blocks` returns at once."""
        return self.rest is None or self.rest.done()

    async def blocks(self) -> Sequence[DataBlock]:
        """All of them, ascending. Raises ObjectNotFound, StoreError, CorruptData: the index must be asked."""
        if self.rest is None:
            return self.there
        return [*self.there, *await asyncio.shield(self.rest)]


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
        account.on_lent = self._make_room
        self._loading = loading
        self._clock = clock
        self._tasks = tasks
        self._due: dict[BlockKey, float] = {}
        """When a damaged block is to be loaded again."""
        self._blocks: OrderedDict[BlockKey, DataBlock] = OrderedDict()
        self._loads: dict[BlockKey, asyncio.Future[DataBlock]] = {}
        self._shares: dict[tuple[BlockKey, StreamId], asyncio.Future[list[DataBlock]]] = {}
        """Loads of shares, or of their ends, by where they begin, and whose they are said to be."""
        self._warming: dict[tuple[ObjectId, StreamId], None] = {}
        self._ahead: Ahead[BlockKey] = Ahead(account.limit)
        self._hits: Counter = metrics.counter("automq_block_cache_hits", "Blocks found in the block cache")
        self._misses: Counter = metrics.counter("automq_block_cache_misses", "Blocks not found in the block cache")
        self._loaded: Counter = metrics.counter("automq_block_cache_loaded_bytes", "Bytes loaded into the block cache")

    async def block(self, object_id: ObjectId, entry: IndexEntry) -> DataBlock:
        """The block, loaded if need be; part of it may be damaged. Raises ObjectNotFound, StoreError."""
        key = (object_id, entry.position)
        cached = self._find(key)
        if cached is not None:
            return cached
        self._misses.inc()
        self.preload(object_id, [entry])
        self._ahead.read(key)
        return await asyncio.shield(self._loads[key])

    def share(self, span: ObjectSpan, stream: StreamId, *, is_ahead: bool = False) -> ShareLoad:
        """Begin to load what the cache lacks of a small share (`is_small_share`). `is_ahead`: nobody waits for it.

        Rule: a place is not believed before the block there proves that it is the stream's, wherever that is found.
        """
        there: list[DataBlock] = []
        position, end = span.position, span.position + span.size
        while position < end:
            key = (span.object_id, position)
            cached = self._blocks.get(key) if is_ahead else self._find(key)
            if cached is None or cached.stream != stream:
                break
            there.append(cached)
            position += cached.size
        else:
            return ShareLoad(there, None)
        key = (span.object_id, position)
        flight = self._shares.get((key, stream))
        if flight is None:
            flight = asyncio.get_running_loop().create_future()
            flight.add_done_callback(_heed)
            self._shares[key, stream] = flight
            if is_ahead:
                self._ahead.begin(key, end - position)
            else:
                self._misses.inc()
            _ = self._tasks.spawn(
                self._load_share(key, stream, end, flight), name=f"load share of object {span.object_id}"
            )
        elif not is_ahead:
            self._ahead.read(key)
        return ShareLoad(there, flight)

    def _find(self, key: BlockKey) -> DataBlock | None:
        """The block if it is there, which counts as read."""
        cached = self._blocks.get(key)
        if cached is None or self._is_due(key):
            return None
        self._blocks.move_to_end(key)
        self._ahead.read(key)
        self._hits.inc()
        return cached

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
        self._ahead.lose(key)

    def preload(self, object_id: ObjectId, entries: Sequence[IndexEntry], ahead: Sequence[IndexEntry] = ()) -> None:
        """Start loading what is neither cached nor on its way, `ahead` if there is room; neighbours share a request."""
        together: list[IndexEntry] = []
        for number, entry in enumerate((*entries, *ahead)):
            key = (object_id, entry.position)
            if key in self._blocks or key in self._loads:
                continue
            if number >= len(entries):
                if not self._ahead.has_room:
                    break
                self._ahead.begin(key, entry.size)
            if together:
                last = together[-1]
                adjacent = last.position + last.size == entry.position
                if not adjacent or entry.position + entry.size - together[0].position > LOAD_BYTES_MAX:
                    self._start(object_id, together)
                    together = []
            together.append(entry)
        if together:
            self._start(object_id, together)

    @property
    def may_load_ahead(self) -> bool:
        """Whether there is room for more that nobody waits for."""
        return self._ahead.has_room

    def warm(self, span: ObjectSpan, stream: StreamId, *, bytes_max: int) -> None:
        """Load the first blocks of `stream` in an object that a sequential reader is about to reach."""
        if is_small_share(span):
            self.share(span, stream, is_ahead=True)
        elif (span.object_id, stream) not in self._warming:
            self._warming[(span.object_id, stream)] = None
            _ = self._tasks.spawn(self._warm(span, stream, bytes_max), name=f"warm object {span.object_id}")

    async def _warm(self, span: ObjectSpan, stream: StreamId, bytes_max: int) -> None:
        try:
            found, _ = await self._reader.index.entries_from(span.object_id, span.object_size, stream, span.start)
            entries: list[IndexEntry] = []
            size = 0
            for entry in found:
                if size >= bytes_max:
                    break
                entries.append(entry)
                size += entry.size
            self.preload(span.object_id, (), entries)
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
            future.add_done_callback(_heed)
            self._loads[(object_id, entry.position)] = future
            futures.append(future)
        _ = self._tasks.spawn(self._load(object_id, entries, futures), name=f"load blocks of object {object_id}")

    async def _load(
        self, object_id: ObjectId, entries: Sequence[IndexEntry], futures: Sequence[asyncio.Future[DataBlock]]
    ) -> None:
        size = sum(entry.size for entry in entries)
        keys = [(object_id, entry.position) for entry in entries]
        try:
            await self._loading.acquire(size + LOAD_OVERHEAD_BYTES)
            try:
                blocks = await self._reader.load(object_id, entries)
            finally:
                self._loading.release(size + LOAD_OVERHEAD_BYTES)
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
                if key not in self._blocks:
                    self._ahead.forget(key)
                future.cancel()

    async def _load_share(
        self, key: BlockKey, stream: StreamId, end: int, flight: "asyncio.Future[list[DataBlock]]"
    ) -> None:
        object_id, position = key
        size = end - position
        try:
            await self._loading.acquire(size + LOAD_OVERHEAD_BYTES)
            try:
                blocks = await self._reader.load_share(object_id, stream, position, end)
            finally:
                self._loading.release(size + LOAD_OVERHEAD_BYTES)
        except (StoreError, StreamError) as error:
            flight.set_exception(error)
        else:
            self._loaded.inc(size)
            for block in blocks:
                self._insert((object_id, block.position), block)
            flight.set_result(blocks)
        finally:
            del self._shares[key, stream]
            if key not in self._blocks:
                self._ahead.forget(key)
            flight.cancel()

    def _insert(self, key: BlockKey, block: DataBlock) -> None:
        if key in self._blocks:
            # It came by another load meanwhile.
            return
        self._blocks[key] = block
        self._account.charge(block.memory_bytes)
        if block.damage is not None:
            self._due[key] = self._clock.monotonic() + REEXAMINE_S
        self._make_room()

    def _make_room(self) -> None:
        while self._account.excess and len(self._blocks) > 1:
            self._drop(next(iter(self._blocks)))


def _heed(done: "asyncio.Future[DataBlock] | asyncio.Future[list[DataBlock]]") -> None:
    """Nobody may be waiting for what is loaded ahead: its failure is not news then."""
    if not done.cancelled():
        done.exception()
