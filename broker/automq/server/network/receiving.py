"""Memory for requests that are still coming in, or that may not start yet: who may read on, and who waits.

A frame that a read brings whole, and that starts at once, takes no memory of its own. What else has arrived must be
kept, within pools that make up the account:

    short    frames up to 128 KiB that are there in part: drawn whole, so that whoever has begun can end
    medium   the same up to 2 MiB
    long     larger ones, which may be announced and never sent: drawn in steps, as their bytes arrive
    heads    what has arrived of frames that wait for one of these, and whole requests that may not start yet
    copies   of requests that are worked on for longer than a turn of the loop: while they are full no Produce starts
    decoded  requests without records that are answered, as objects: a large one waits until there is room, or alone

A connection that waits is not read. Those that wait for one pool are served in the order in which they began. A few
bytes, `ALLOWANCE_BYTES`, belong to the connection itself and are never waited for. Reads become smaller as the heads
fill, so that a head always fits: no byte is taken from a socket without a place to be kept.

Rule of the long pool: a step is drawn only if every frame that began earlier could still be drawn whole when all that
came later stood still. So the oldest always comes to its end, whatever the others hold.

A frame must come in within `PARTS` times the patience, part by part; patience is short while others wait for the pool.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from automq.callbacks import ignore
from automq.protocol.framing import (
    SHARED_BYTES,
    SHORT_BYTES_MAX,
    SIZE_BYTES,
    SPARE_BUFFER_BYTES_MAX,
    FrameReader,
    FrameRefused,
    buffer_bytes,
)
from automq.runtime.budget import ByteBudget, Share

KIB: Final = 1024
MIB: Final = 1024 * KIB

# Requests without records are smaller than this. Part of what `admission.CONNECTION_BYTES` stands for.
ALLOWANCE_BYTES: Final = 2 * KIB

# Of the account.
SHORT_SHARE: Final = 0.08
MEDIUM_SHARE: Final = 0.20
HEADS_SHARE: Final = 0.08
COPIES_SHARE: Final = 0.05
DECODED_SHARE: Final = 0.04

# What a request becomes as objects: a name of one letter in an array is three bytes, and sixty here.
DECODED_FACTOR: Final = 20
# Smaller requests are not counted: so much is decoded in a turn and forgotten.
DECODED_FREE_BYTES: Final = 64 * KIB
# Requests without records are at most this part of the account: a commit of 100,000 partitions is 2 to 5 MB.
DECODED_PART: Final = 16

# Buffers of medium frames that are kept for the next one: fresh memory costs page faults.
SPARE_BYTES_MAX: Final = 16 * MIB

STEP_BYTES: Final = 1 * MIB

# A read takes at most this part of what is left for heads, so that many reads in a row still fit.
READ_PART: Final = 8

PARTS: Final = 60
PATIENCE_S: Final = 30.0
PATIENCE_UNDER_PRESSURE_S: Final = 2.0


def decoded_bytes(size: int) -> int:
    """Pure: what a request of `size` bytes is counted as while it is answered."""
    return DECODED_FACTOR * size if size > DECODED_FREE_BYTES else 0


def spare_bytes_max(limit: int) -> int:
    """Pure: what of an account of `limit` bytes may be spare buffers, which come out of the medium pool's share."""
    return min(SPARE_BYTES_MAX, int(limit * MEDIUM_SHARE) // 4)


def frame_bytes_max(limit: int) -> int:
    """Pure: the largest frame that can be kept in an account of `limit` bytes, without its size: the long pool."""
    others = (SHORT_SHARE, MEDIUM_SHARE, HEADS_SHARE, COPIES_SHARE, DECODED_SHARE)
    return limit - sum(int(limit * share) for share in others) - SIZE_BYTES


class Pool:
    """Memory that is drawn whole, first come first served."""

    def __init__(self, limit: int, account: ByteBudget) -> None:
        self.limit = limit
        self.used = 0
        self._account = account
        self._waiting: deque[Hold] = deque()

    @property
    def has_waiting(self) -> bool:
        """Whether a connection waits."""
        return bool(self._waiting)

    def draw(self, hold: "Hold", size: int) -> bool:
        """Whether `hold` has got `size` bytes; else it waits now, and is told."""
        if not self._waiting and self.used + size <= self.limit:
            self.charge(size)
            return True
        hold.wanted = size
        self._waiting.append(hold)
        return False

    def charge(self, size: int) -> None:
        """Count bytes that are there."""
        self.used += size
        self._account.charge(size)

    def release(self, size: int) -> None:
        """Bytes are free again; `admit` is to be called soon."""
        assert size <= self.used
        self.used -= size
        self._account.release(size)

    def leave(self, hold: "Hold") -> None:
        """`hold` does not wait any more."""
        self._waiting.remove(hold)

    def admit(self) -> None:
        """Serve those that wait, as far as there is room."""
        while self._waiting and self.used + self._waiting[0].wanted <= self.limit:
            hold = self._waiting.popleft()
            self.charge(hold.wanted)
            hold.grant(self, hold.wanted)


class LongPool:
    """Memory that is drawn in steps, so that it cannot be reserved by announcing."""

    def __init__(self, limit: int, account: ByteBudget) -> None:
        self.limit = limit
        self.used = 0
        self._account = account
        self._frames: dict[Hold, None] = {}
        """Oldest first; those that wait for their first step among them."""
        self._waiting: dict[Hold, None] = {}

    @property
    def has_waiting(self) -> bool:
        """Whether a connection waits."""
        return bool(self._waiting)

    def draw(self, hold: "Hold", size: int) -> bool:
        """Whether `hold` has got `size` bytes more; else it waits now, and is told."""
        self._frames.setdefault(hold)
        if self._may_draw(hold, size):
            self._charge(size)
            return True
        hold.wanted = size
        self._waiting[hold] = None
        return False

    def _may_draw(self, hold: "Hold", size: int) -> bool:
        """See the rule of the long pool."""
        older = 0
        for frame in self._frames:
            if frame is hold:
                return True
            older += frame.drawn
            if frame.needed + (self.used - older) + size > self.limit:
                return False
        raise AssertionError("unknown frame")

    def _charge(self, size: int) -> None:
        self.used += size
        assert self.used <= self.limit
        self._account.charge(size)

    def release(self, hold: "Hold") -> None:
        """The frame has gone, with all it drew; `admit` is to be called soon."""
        del self._frames[hold]
        self.used -= hold.drawn
        self._account.release(hold.drawn)

    def leave(self, hold: "Hold") -> None:
        """`hold` does not wait any more."""
        del self._waiting[hold]

    def admit(self) -> None:
        """Serve those that wait, oldest first: what the first of them may not draw, no later one may."""
        for hold in list(self._frames):
            if hold not in self._waiting:
                continue
            if not self._may_draw(hold, hold.wanted):
                return
            del self._waiting[hold]
            self._charge(hold.wanted)
            hold.grant(self, hold.wanted)


@dataclass(slots=True, kw_only=True)
class _Mark:
    """How far a frame was, and when."""

    frames: int
    bytes: int
    since: float


class Hold:
    """What one connection keeps, and whether it may be read. `on_room` is called in a turn of its own."""

    __slots__ = ("_head", "_is_waiting", "_mark", "_on_room", "_pool", "_receiving", "drawn", "needed", "wanted")

    def __init__(self, receiving: "Receiving", on_room: Callable[[], None]) -> None:
        self._receiving = receiving
        self._on_room = on_room
        self._pool: Pool | LongPool | None = None
        """Which it has drawn on, or waits for."""
        self._is_waiting = False
        self._head = 0
        self._mark: _Mark | None = None
        self.needed = 0
        """Size of the frame that it has drawn for."""
        self.drawn = 0
        self.wanted = 0
        """What it waits for."""

    @property
    def held_bytes(self) -> int:
        """Of the account."""
        return self.drawn + self._head

    def update(self, reader: FrameReader) -> bool:
        """What has arrived is worked on as far as may be: whether the connection may read on."""
        unread = reader.unread_bytes
        if not unread:
            if self._pool is not None or self._head:
                self.clear()
            return True
        needed = reader.frame_bytes
        if unread >= needed:
            # Whole requests, which may not start: what was drawn for the first is theirs.
            self._keep_head(unread - self.drawn - ALLOWANCE_BYTES)
            return True
        return self._keep_part(reader, unread, needed)

    def clear(self) -> None:
        """Nothing is kept any more."""
        receiving = self._receiving
        self._let_go()
        self._keep_head(0)
        self._mark = None
        receiving.admit()

    def close(self) -> None:
        """The connection is gone: it is not told of anything any more."""
        self._on_room = ignore

    def grant(self, pool: Pool | LongPool, size: int) -> None:
        """Called by a pool: what it waited for is drawn."""
        assert pool is self._pool
        self._is_waiting = False
        self.drawn += size
        self._keep_head(0)
        self._receiving.call_soon(self._on_room)

    def is_stalled(self, reader: FrameReader, now: float, *, frames: int) -> bool:
        """Once a second, while the connection is read: whether a frame that has begun does not come in.

        `frames` is how many came in before it.
        """
        unread = reader.unread_bytes
        mark = self._mark
        if not unread or self._is_waiting:
            self._mark = None
        elif mark is None or mark.frames != frames or unread - mark.bytes >= max(1, reader.frame_bytes // PARTS):
            self._mark = _Mark(frames=frames, bytes=unread, since=now)
        else:
            under_pressure = self._pool is not None and self._pool.has_waiting
            return now - mark.since >= (PATIENCE_UNDER_PRESSURE_S if under_pressure else PATIENCE_S)
        return False

    def pause(self) -> None:
        """Once a second, while the connection is not read: what does not come in is not the client's fault."""
        self._mark = None

    def _keep_part(self, reader: FrameReader, unread: int, needed: int) -> bool:
        """A frame is there in part."""
        receiving = self._receiving
        pool = receiving.pool_of(needed)
        if pool is None:
            if self._pool is not None:
                self._let_go()
                receiving.admit()
            self._keep_head(unread - ALLOWANCE_BYTES)
            return True
        if isinstance(pool, LongPool):
            return self._keep_long(pool, reader, unread, needed)
        # As large as the buffer, which is used again and so is memory from the start.
        size = buffer_bytes(needed) if pool is receiving.medium else needed
        if self._pool is not pool or self.needed != needed:
            self._let_go()
            self._pool, self.needed = pool, needed
            if pool.draw(self, size):
                self.drawn = size
            else:
                self._is_waiting = True
            self._keep_head(unread - ALLOWANCE_BYTES if self._is_waiting else unread - size)
            receiving.admit()
        return not self._is_waiting

    def _keep_long(self, pool: LongPool, reader: FrameReader, unread: int, needed: int) -> bool:
        if self._pool is not pool or self.needed != needed:
            self._let_go()
            self._pool, self.needed = pool, needed
            self._receiving.admit()
        if not self._is_waiting and self.drawn < needed and self.drawn - unread < STEP_BYTES // 4:
            step = min(needed, unread + STEP_BYTES) - self.drawn
            if pool.draw(self, step):
                self.drawn += step
            else:
                self._is_waiting = True
        if self._is_waiting:
            self._keep_head(unread - self.drawn - ALLOWANCE_BYTES)
        else:
            self._keep_head(0)
        reader.read_to = self.drawn
        return not self._is_waiting

    def _keep_head(self, size: int) -> None:
        """So much is charged to the heads from now on."""
        size = max(0, size)
        if size != self._head:
            self._receiving.change_heads(size - self._head)
            self._head = size

    def _let_go(self) -> None:
        """Of the pool, whether drawn or waited for."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        if self._is_waiting:
            self._is_waiting = False
            pool.leave(self)
        if isinstance(pool, LongPool):
            pool.release(self)
        else:
            pool.release(self.drawn)
        self.drawn = self.needed = 0


class Receiving:
    """The account, split. `call_soon` runs a function in the next turn of the event loop."""

    def __init__(self, account: ByteBudget, *, call_soon: Callable[[Callable[[], None]], object]) -> None:
        limit = account.limit
        self._account = account
        self.call_soon = call_soon
        self.spare_bytes_max = spare_bytes_max(limit)
        self.short = Pool(int(limit * SHORT_SHARE), account)
        self.medium = Pool(int(limit * MEDIUM_SHARE) - self.spare_bytes_max, account)
        self.heads = Pool(int(limit * HEADS_SHARE), account)
        self.copies = Share(account, int(limit * COPIES_SHARE), on_release=self._on_copy_released)
        self.on_room: Callable[[], None] = ignore
        """Called when a copy, or what was decoded, was released."""
        self.decoded = Share(account, int(limit * DECODED_SHARE), on_release=self._on_copy_released)
        self.decoded_bytes_max = limit // DECODED_PART
        """The largest request that is not a Produce."""
        self.long = LongPool(frame_bytes_max(limit) + SIZE_BYTES, account)
        self.read_bytes = SHARED_BYTES
        """How much a read may take from a socket that nothing is kept of."""
        self.change_heads(0)

    @property
    def frame_bytes_max(self) -> int:
        """The largest frame that can be kept."""
        return self.long.limit - SIZE_BYTES

    def pool_of(self, needed: int) -> Pool | LongPool | None:
        """Where a frame of `needed` bytes, its size included, is kept; None: in its connection's allowance."""
        if needed <= ALLOWANCE_BYTES:
            return None
        if needed <= min(SHORT_BYTES_MAX, self.short.limit):
            return self.short
        if needed <= SPARE_BUFFER_BYTES_MAX and buffer_bytes(needed) <= self.medium.limit:
            return self.medium
        return self.long

    def change_heads(self, difference: int) -> None:
        """More or less is kept of frames that wait."""
        heads = self.heads
        if difference >= 0:
            heads.charge(difference)
        else:
            heads.release(-difference)
        self.read_bytes = max(ALLOWANCE_BYTES, min(SHARED_BYTES, (heads.limit - heads.used) // READ_PART))

    def check_decoded(self, size: int) -> None:
        """Raises FrameRefused for a request without records that is too large."""
        if size > self.decoded_bytes_max:
            raise FrameRefused(size, frame_bytes_max=self.decoded_bytes_max)

    def may_decode(self, size: int) -> bool:
        """Whether a request may become objects now; else ask again when there is room."""
        cost, decoded = decoded_bytes(size), self.decoded
        return not cost or not decoded.used or decoded.used + cost <= decoded.limit

    def _on_copy_released(self) -> None:
        self.on_room()

    def change_spares(self, difference: int) -> None:
        """More or less is kept for medium frames to come: a share of their own."""
        if difference >= 0:
            self._account.charge(difference)
        else:
            self._account.release(-difference)

    def admit(self) -> None:
        """Something was released: serve those that wait."""
        for pool in (self.short, self.medium, self.long):
            if pool.has_waiting:
                pool.admit()
