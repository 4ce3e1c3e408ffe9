"""What brokers hold in memory, counted by walking over it, against what their settings allow.

The engine's own counters are not asked: a budget that forgets to count would agree with itself.

    arenas        made by a pool, ever: they are never given back        `arena_bytes`
    data blocks   in the block cache: the memory that their views keep   `block_cache_bytes`, or one block
    indexes       of objects, their roots and pages                      `index_cache_bytes`, or one of them
    cold reads    ranged GETs that are under way                         `cold_read_bytes`, or one of them alone

and then every account of the broker's memory by what it says itself, where its limit is above what one thing may be.

`watch` is to be called once in a process, before any broker is made.
"""

import asyncio
import collections
import weakref
from collections.abc import Iterable
from typing import Any

from automq.runtime.ledger import Account, MemoryLedger
from automq.s3stream.arena import Arena, ArenaPool
from automq.s3stream.objects.reader import ObjectReader
from tests.support.cluster import Cluster

LOOK_S = 0.25
# No upload, recovery group, block or request of a seed is so large.
ALONE_BYTES_MAX = 1 << 20

_ARENAS: "weakref.WeakKeyDictionary[ArenaPool, int]" = weakref.WeakKeyDictionary()
"""Bytes of the arenas that each pool has made."""
_LOADS: "weakref.WeakKeyDictionary[ObjectReader, collections.Counter[int]]" = weakref.WeakKeyDictionary()
"""Bytes of each load that is under way, by its number."""


def watch() -> None:
    """From now on count what cannot be walked over."""
    make_arena, load, load_share = Arena.__init__, ObjectReader.load, ObjectReader.load_share

    def counted_arena(self: Arena, pool: ArenaPool, size: int) -> None:
        _ARENAS[pool] = _ARENAS.get(pool, 0) + size
        make_arena(self, pool, size)

    async def counted_load(self: ObjectReader, object_id: Any, entries: Any) -> Any:
        return await counted(self, sum(entry.size for entry in entries), load(self, object_id, entries))

    async def counted_share(self: ObjectReader, object_id: Any, stream: Any, start: int, end: int) -> Any:
        return await counted(self, end - start, load_share(self, object_id, stream, start, end))

    async def counted(reader: ObjectReader, size: int, loading: Any) -> Any:
        loads = _LOADS.setdefault(reader, collections.Counter())
        number = max(loads, default=0) + 1
        loads[number] = size
        try:
            return await loading
        finally:
            del loads[number]

    Arena.__init__ = counted_arena  # type: ignore[method-assign]
    ObjectReader.load = counted_load  # type: ignore[method-assign]
    ObjectReader.load_share = counted_share  # type: ignore[method-assign]


async def look_on(cluster: Cluster) -> None:
    """Look again and again; each account that is overdrawn is one violation."""
    known: set[str] = set()
    while True:
        for made in cluster.live:
            components = made.broker._components if made.broker is not None else None
            storage = components.storage if components is not None else None
            if storage is None:
                continue
            for account, held, limit in (*accounts(storage), *booked(storage.ledger)):
                if held > limit and account not in known:
                    known.add(account)
                    cluster.violation(f"{made.process.name} holds {held} bytes of {account}, its limit is {limit}")
        await asyncio.sleep(LOOK_S)


def accounts(storage: Any) -> Iterable[tuple[str, int, int]]:
    """(account, bytes held, bytes allowed)."""
    settings = storage.settings
    # A pool has four arenas at least.
    arenas_max = max(4 * settings.arena_unit_bytes, settings.arena_bytes)
    yield "arenas", _ARENAS.get(storage.append.pool, 0), arenas_max
    blocks = {id(block._data.obj): len(block._data.obj) for block in storage.read.blocks._blocks.values()}
    yield "data blocks", *_or_one(blocks.values(), settings.block_cache_bytes)
    indexes = [part.size for part in storage.read.reader.index._parts.values()]
    yield "indexes", *_or_one(indexes, settings.index_cache_bytes)
    yield "cold reads", *_or_one(_LOADS.get(storage.read.reader, {}).values(), settings.cold_read_bytes)


def booked(ledger: MemoryLedger) -> Iterable[tuple[str, int, int]]:
    """The same, as the ledger says it: whoever is larger than an account's limit is let in alone."""
    for account in Account:
        budget = ledger[account]
        if budget.limit >= ALONE_BYTES_MAX:
            yield f"account {account.value}", budget.used, budget.limit


def _or_one(sizes: Iterable[int], limit: int) -> tuple[int, int]:
    """What there is, and what may be: a thing that is larger than the limit may be there alone."""
    sizes = list(sizes)
    return sum(sizes), limit if len(sizes) > 1 else max(limit, sum(sizes))
