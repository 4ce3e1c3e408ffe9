"""Whether there is memory for another append, and who is called when there is again."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from automq.runtime.budget import ByteBudget
from automq.s3stream.arena import ArenaPool
from automq.s3stream.cache.log_cache import LogCache

# Blocks that are committed for longer than this many upload intervals, and so long at least, go: who reads the tail has
# read them.
KEPT_INTERVALS: Final = 2
KEPT_S_MIN: Final = 60.0


class Room:
    """Three things an append takes: arenas, a place in the log cache's index, and a checkpoint at its upload."""

    def __init__(
        self, *, pool: ArenaPool, cache: LogCache, index: ByteBudget, checkpoints: ByteBudget, reserve_bytes: int
    ) -> None:
        """`reserve_bytes` of the arenas are kept from those who ask here."""
        self._pool, self._cache = pool, cache
        self._index, self._checkpoints = index, checkpoints
        self._reserve_bytes = reserve_bytes
        self._waiters: deque[Callable[[], None]] = deque()
        self._handle: asyncio.Handle | None = None
        self.is_there: Callable[[], bool] = lambda: True
        """Asked before the next of those that wait is told."""
        pool.evict = cache.evict
        pool.on_room = self.schedule

    @property
    def free_bytes(self) -> int:
        """Of arenas, for those who ask here; may be negative."""
        return self._pool.room_bytes - self._reserve_bytes

    def whole_bytes(self, size: int) -> int:
        """What `size` bytes take as whole arenas, or all there can ever be where that is less."""
        whole = self._pool.units_of(size) * self._pool.arena_bytes
        return min(whole, (self._pool.arenas_max - 1) * self._pool.arena_bytes - self._reserve_bytes)

    @property
    def is_tight(self) -> bool:
        """Half of something is taken by what is not committed yet: it is time for an upload."""
        return (
            self._pool.held * 2 > self._pool.arenas_max or self._cache.uncommitted_index_bytes * 2 > self._index.limit
        )

    def is_crowded(self, *, uploads_pending: bool) -> bool:
        """What goes with records has no room, though they may have: what is committed was evicted."""
        if self._index.is_full:
            self._cache.shrink(committed_before=0.0)
            if self._index.is_full:
                return True
        return self._checkpoints.is_full and uploads_pending

    def after_commit(self, now: float, *, upload_interval_s: float) -> None:
        """A block was committed: old ones go. An arena shared by the next block is not released and notifies nobody."""
        self._cache.shrink(committed_before=now - max(KEPT_S_MIN, KEPT_INTERVALS * upload_interval_s))
        self.schedule()

    def wait(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, when there is room."""
        self._waiters.append(callback)

    def schedule(self) -> None:
        """There may be room: tell those that wait in the next turn of the loop, as long as there is."""
        if self._waiters and self._handle is None:
            self._handle = asyncio.get_running_loop().call_soon(self._notify)

    def _notify(self) -> None:
        self._handle = None
        for _ in range(len(self._waiters)):
            if not self.is_there():
                return
            self._waiters.popleft()()
