"""Recycled, page-aligned buffers: WAL buffer, log cache and upload source at once.

An arena is filled front to back, each batch copied into it once, and goes back to its pool as a whole when nothing
refers to it any more. Two kinds of reference:

- a *hold* keeps the bytes: an open or unconfirmed WAL slot, a log-cache block that is not committed yet, a pinned read
  or send;
- a *cached* reference is that of a log-cache block already committed: its bytes may go whenever the room is needed.

Memory is allocated lazily and never given back: a fresh page costs eight times the copy that fills it. Only a batch
that is too large for a shared slot gets memory of its own, which goes when nothing refers to it, and counts as so many
arenas.
"""

import mmap
from collections.abc import Callable, Sequence

from automq.callbacks import ignore
from automq.ids import Offset
from automq.runtime.budget import ByteBudget

PAGE_BYTES = 4096


class Arena:
    """One buffer of the pool. Not frozen, no property: every produced batch passes here."""

    __slots__ = ("_pool", "cached", "holds", "is_own", "size", "units", "view")

    def __init__(self, pool: "ArenaPool", size: int, *, units: int = 1, is_own: bool = False) -> None:
        self._pool = pool
        self.units = units
        """So many arenas of the pool it counts as."""
        self.is_own = is_own
        """It holds one batch, and is not used again."""
        self.view = memoryview(mmap.mmap(-1, size))
        self.size = size
        self.holds = 0
        self.cached = 0

    def hold(self) -> None:
        """Keep the bytes until `release`."""
        if not self.holds:
            self._pool.held += self.units
        self.holds += 1

    def release(self) -> None:
        """Give one hold back; the last one of an arena makes room."""
        assert self.holds > 0
        self.holds -= 1
        if not self.holds:
            self._pool.on_let_go(self)

    def cache(self) -> None:
        """A committed block keeps the bytes as long as nobody needs the room."""
        self.cached += 1

    def forget(self) -> None:
        """The block has been evicted."""
        assert self.cached > 0
        self.cached -= 1
        if not self.cached and not self.holds:
            self._pool.recycle(self)


class ArenaPool:
    """At most `arenas_max` arenas; `evict` drops one committed log-cache block, or says that there is none."""

    def __init__(self, *, arenas_max: int, arena_bytes: int, account: ByteBudget) -> None:
        """`account` counts what is allocated, in bytes."""
        assert arenas_max >= 2
        assert arena_bytes > 0
        assert arena_bytes % PAGE_BYTES == 0
        self.arenas_max = arenas_max
        self.arena_bytes = arena_bytes
        self._account = account
        self.held = 0
        """Arenas with at least one hold; the others can be had at once."""
        self.allocated = 0
        self.evict: Callable[[], bool] = lambda: False
        self.on_room: Callable[[], None] = ignore
        """Called whenever an arena lost its last hold."""
        self._free: list[Arena] = []

    @property
    def room_bytes(self) -> int:
        """Bytes of the arenas that `take` would still give, evicting what is only cached."""
        return (self.arenas_max - self.held) * self.arena_bytes

    def take(self) -> Arena | None:
        """An arena with one hold, evicting committed blocks if need be; None when every arena is held."""
        if self.held >= self.arenas_max:
            return None
        while not self._free:
            if self.allocated < self.arenas_max:
                self.allocated += 1
                self._account.charge(self.arena_bytes)
                self._free.append(Arena(self, self.arena_bytes))
            elif not self.evict():
                raise AssertionError("an arena is neither held, cached nor free")
        arena = self._free.pop()
        arena.hold()
        return arena

    def units_of(self, size: int) -> int:
        """How many arenas `size` bytes in memory of their own count as."""
        return -(-size // self.arena_bytes)

    def take_own(self, size: int) -> Arena | None:
        """Memory of its own for `size` bytes, with one hold, in place of arenas; None when too many are held."""
        units = self.units_of(size)
        if self.held + units > self.arenas_max:
            return None
        while self.allocated + units > self.arenas_max:
            if self._free:
                self._free.pop()
                self.allocated -= 1
                self._account.release(self.arena_bytes)
            elif not self.evict():
                raise AssertionError("an arena is neither held, cached nor free")
        self.allocated += units
        arena = Arena(self, (size + PAGE_BYTES - 1) & -PAGE_BYTES, units=units, is_own=True)
        self._account.charge(arena.size)
        arena.hold()
        return arena

    def on_let_go(self, arena: Arena) -> None:
        """The last hold of `arena` is gone."""
        self.held -= arena.units
        if not arena.cached:
            self.recycle(arena)
        self.on_room()

    def recycle(self, arena: Arena) -> None:
        """Nothing refers to `arena` any more."""
        assert not arena.holds
        assert not arena.cached
        if not arena.is_own:
            self._free.append(arena)
        else:
            self.allocated -= arena.units
            self._account.release(arena.size)


class ReadResult:
    """Whole batches of one stream in offset order; views into memory that stays put until `release`.

    The first batch may begin before the offset asked for. Views of cold reads own their bytes; those of the log cache
    lie in arenas, which are pinned until `release`.
    """

    __slots__ = ("_arenas", "batches", "end_offset", "size", "start_offset")

    def __init__(
        self,
        batches: list[memoryview],
        *,
        start_offset: Offset,
        end_offset: Offset,
        size: int,
        arenas: Sequence[Arena] = (),
    ) -> None:
        self.batches = batches
        self.start_offset = start_offset
        """Base offset of the first batch."""
        self.end_offset = end_offset
        """One past the last offset of the last batch: where the next read starts."""
        self.size = size
        for arena in arenas:
            arena.hold()
        self._arenas = arenas

    @property
    def is_pinned(self) -> bool:
        """Whether the views are of arenas, and keep them until `release`."""
        return bool(self._arenas)

    def release(self) -> None:
        """Unpin; the views must not be used any more. Idempotent."""
        arenas, self._arenas = self._arenas, ()
        for arena in arenas:
            arena.release()
