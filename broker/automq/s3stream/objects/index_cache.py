"""Indexes of objects in memory: roots and pages, least recently used go first, one load of each in flight.

Loads happen in tasks of their own and draw on the budget of cold reads, so that who gives up takes nothing away from
others who wait for the same page, and two hundred readers of one object cost one request.

What fails a check is read a second time before it counts as damaged, past every cache: a bit that flipped on its way
is not one that flipped at rest. What counts as damaged, or is missing, is looked at again only after `REEXAMINE_S`: a
reader that comes back and back costs no requests.
"""

import asyncio
import itertools
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, TypeVar

from automq.ids import ClusterId, ObjectId, Offset, StreamId
from automq.runtime.budget import ByteBudget
from automq.runtime.clock import Clock
from automq.runtime.tasks import Tasks
from automq.s3stream.model import CorruptData, StreamError
from automq.s3stream.objects.format import FOOTER_BYTES, BlockKind, IndexEntry, decode_footer, object_key
from automq.s3stream.objects.index import IndexPage, IndexRoot, ObjectIndex
from automq.s3stream.ports import Buffer, ObjectNotFound, ObjectStorage, StoreError

T = TypeVar("T")

# The root of an index of forty thousand blocks, or the whole index of an object of a hundred.
TAIL_BYTES = 8 * 1024
# Objects around a root or a page, and the entry in the cache.
INDEX_OVERHEAD_BYTES: Final = 500
# Whoever mends the store by hand is believed after so long at the latest.
REEXAMINE_S: Final = 30.0
# Damaged things that are remembered at once; beyond them the oldest is looked at again when it is asked for.
KNOWN_MAX: Final = 1000

ROOT: Final = -1
GetRange = Callable[[str, int, int], Awaitable[Buffer]]
"""Key, start and end: as a store's `get_range`."""
PartKey = tuple[ObjectId, int]
"""Object, and the number of a page or `ROOT`."""


class IndexCache:
    """Roots and pages within `account`."""

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
        """`loading` limits what is on its way."""
        self._store = store
        self._cluster_id = cluster_id
        self._clock = clock
        self._account = account
        self._loading = loading
        self._tasks = tasks
        self._parts: OrderedDict[PartKey, IndexRoot | IndexPage] = OrderedDict()
        self._of_object: dict[ObjectId, dict[int, None]] = {}
        """The parts of an object that are kept."""
        self._loads: dict[PartKey, asyncio.Future[Any]] = {}
        self._known: OrderedDict[PartKey, tuple[float, CorruptData | None]] = OrderedDict()
        """Parts that are of no use: until when, and what is wrong; None when the object is missing."""

    async def entries_from(
        self, object_id: ObjectId, object_size: int, stream: StreamId, start: Offset
    ) -> tuple[Iterator[IndexEntry], bool]:
        """Data blocks of `stream` in the object that hold offsets from `start` on, ascending: those of one page.

        And whether there may be more: to be asked for from the end of the last of these. Raises ObjectNotFound,
        CorruptData, FormatTooNew, StoreError.
        """
        root = await self.root(object_id, object_size)
        if not root.page_count:
            return iter(()), False
        number = root.page_of((stream, BlockKind.DATA, start))
        while True:
            entries = (await self.page(object_id, root, number)).data_entries(stream, start)
            first = next(entries, None)
            if first is not None:
                return itertools.chain((first,), entries), root.has_more(number, stream)
            if not root.has_more(number, stream):
                return iter(()), False
            number += 1

    async def checkpoint_entry(
        self, object_id: ObjectId, object_size: int, stream: StreamId, offset: Offset
    ) -> IndexEntry | None:
        """The piece of the stream's checkpoint in the object that describes `offset`. Raises as `entries_from`."""
        root = await self.root(object_id, object_size)
        if not root.page_count:
            return None
        page = await self.page(object_id, root, root.page_of((stream, BlockKind.CHECKPOINT, offset)))
        return page.checkpoint_entry(stream, offset)

    async def root(self, object_id: ObjectId, object_size: int) -> IndexRoot:
        """Raises ObjectNotFound, CorruptData, FormatTooNew, StoreError."""
        found = await self._part((object_id, ROOT), lambda: self._load_root(object_id, object_size))
        assert isinstance(found, IndexRoot)
        return found

    async def page(self, object_id: ObjectId, root: IndexRoot, number: int) -> IndexPage:
        """Raises ObjectNotFound, CorruptData, StoreError."""
        found = await self._part((object_id, number), lambda: self._load_page(object_id, root, number))
        assert isinstance(found, IndexPage)
        return found

    def check_known(self, object_id: ObjectId) -> None:
        """Raises ObjectNotFound for an object that was found missing a moment ago."""
        known = self._known.get((object_id, ROOT))
        if known is not None and known[1] is None and self._clock.monotonic() < known[0]:
            raise ObjectNotFound(object_key(self._cluster_id, object_id))

    def missing(self, object_id: ObjectId) -> None:
        """The object was looked for and is not there."""
        self._remember((object_id, ROOT), None)

    def forget(self, object_id: ObjectId) -> None:
        """The object is gone: nothing of its index is kept."""
        for number in self._of_object.pop(object_id, {}):
            self._release(self._parts.pop((object_id, number)))

    async def _part(self, key: PartKey, load: Callable[[], Awaitable[T]]) -> IndexRoot | IndexPage | T:
        part = self._parts.get(key)
        if part is not None:
            self._parts.move_to_end(key)
            return part
        flight = self._loads.get(key)
        if flight is None:
            known = self._known.get(key)
            if known is not None and self._clock.monotonic() < known[0]:
                raise known[1].again() if known[1] is not None else ObjectNotFound(object_key(self._cluster_id, key[0]))
            flight = asyncio.get_running_loop().create_future()
            # Whoever asked for it may have given up: a failure is not news then.
            flight.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._loads[key] = flight
            _ = self._tasks.spawn(self._fly(key, flight, load), name=f"load index of object {key[0]}")
        try:
            found: T = await asyncio.shield(flight)
        except CorruptData as error:
            # Each who waits says what it hides from him.
            raise error.again() from None
        return found

    async def _fly(self, key: PartKey, flight: "asyncio.Future[T]", load: Callable[[], Awaitable[T]]) -> None:
        try:
            try:
                found = await load()
            except CorruptData:
                found = await load()
        except CorruptData as error:
            self._remember(key, error)
            flight.set_exception(error)
        except ObjectNotFound as error:
            self._remember(key, None)
            self.missing(key[0])
            flight.set_exception(error)
        except (StoreError, StreamError) as error:
            flight.set_exception(error)
        else:
            self._known.pop(key, None)
            flight.set_result(found)
        finally:
            del self._loads[key]
            flight.cancel()

    def _remember(self, key: PartKey, damage: CorruptData | None) -> None:
        self._known[key] = (self._clock.monotonic() + REEXAMINE_S, damage.again() if damage is not None else None)
        self._known.move_to_end(key)
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)

    async def _load_root(self, object_id: ObjectId, object_size: int) -> IndexRoot:
        """The root; pages that came with it are kept, too."""
        key = object_key(self._cluster_id, object_id)
        root, tail, tail_start = await _read_root(
            self._get, key, cluster_id=self._cluster_id, object_id=object_id, object_size=object_size
        )
        self._keep((object_id, ROOT), root)
        for number in reversed(range(root.page_count)):
            start, end = root.bounds(number)
            if start < tail_start:
                break
            try:
                self._keep((object_id, number), root.page(number, bytes(tail[start - tail_start : end - tail_start])))
            except CorruptData:
                # Whoever needs that page reads it once more, and says so.
                continue
        return root

    async def _load_page(self, object_id: ObjectId, root: IndexRoot, number: int) -> IndexPage:
        start, end = root.bounds(number)
        page = root.page(number, bytes(await self._get(object_key(self._cluster_id, object_id), start, end)))
        self._keep((object_id, number), page)
        return page

    async def _get(self, key: str, start: int, end: int) -> Buffer:
        """A ranged GET within the budget."""
        await self._loading.acquire(end - start)
        try:
            return await self._store.get_range(key, start, end)
        finally:
            self._loading.release(end - start)

    def _keep(self, key: PartKey, part: IndexRoot | IndexPage) -> None:
        if key in self._parts:
            return
        self._parts[key] = part
        self._of_object.setdefault(key[0], {})[key[1]] = None
        self._account.charge(part.size + INDEX_OVERHEAD_BYTES)
        while self._account.excess and len(self._parts) > 1:
            oldest, dropped = self._parts.popitem(last=False)
            of_object = self._of_object[oldest[0]]
            del of_object[oldest[1]]
            if not of_object:
                del self._of_object[oldest[0]]
            self._release(dropped)

    def _release(self, part: IndexRoot | IndexPage) -> None:
        self._account.release(part.size + INDEX_OVERHEAD_BYTES)


async def read_index(
    get_range: GetRange,
    *,
    cluster_id: ClusterId,
    object_id: ObjectId,
    object_size: int,
    tail_bytes: int | None = None,
) -> ObjectIndex:
    """The whole index, for whoever reads all of an object. Read once more where a check fails.

    `tail_bytes` are read first, if they are given: one request is enough where the index is in them.

    Raises ObjectNotFound, CorruptData, FormatTooNew, StoreError.
    """
    key = object_key(cluster_id, object_id)

    async def read() -> ObjectIndex:
        root, tail, tail_start = await _read_root(
            get_range,
            key,
            cluster_id=cluster_id,
            object_id=object_id,
            object_size=object_size,
            tail_bytes=tail_bytes,
        )
        if root.position >= tail_start:
            return ObjectIndex(root, tail[root.position - tail_start : root.end - tail_start])
        return ObjectIndex(root, memoryview(await get_range(key, root.position, root.end)))

    try:
        return await read()
    except CorruptData:
        return await read()


async def _read_root(
    get: GetRange,
    key: str,
    *,
    cluster_id: ClusterId,
    object_id: ObjectId,
    object_size: int,
    tail_bytes: int | None = None,
) -> tuple[IndexRoot, memoryview, int]:
    """The root, the end of the object that it was found in, and where that begins."""
    tail_start = max(0, object_size - (tail_bytes or TAIL_BYTES))
    tail = memoryview(await get(key, tail_start, object_size))
    if len(tail) != object_size - tail_start:
        raise CorruptData(key=key, offset=tail_start, length=len(tail), what="object, which is too short")
    footer = decode_footer(key, tail, size=object_size, cluster_id=cluster_id, object_id=object_id)
    if footer.version == 1:
        return IndexRoot(key, footer, b""), tail, tail_start
    if footer.position >= tail_start:
        data = bytes(tail[footer.position - tail_start : -FOOTER_BYTES])
    else:
        data = bytes(await get(key, footer.position, footer.position + footer.size))
    return IndexRoot(key, footer, data), tail, tail_start
