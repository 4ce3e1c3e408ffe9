"""What clients keep in memory by not taking their answers, under one budget.

Three kinds draw on it. *Reads* of objects for answers, for as long as they last: they wait in line, the clients in
turn. *Pins*, records that were read from objects and are not sent yet: they give way to whatever else needs room, the
oldest first, because they can be read again. *Held* bytes, which exist nowhere else (answers of other APIs, what stands
between records): when there is no room for more, the connection that has made no progress for longest is closed. Log
cache arenas are never pinned by readers: they are looked at when the socket takes bytes.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from automq.runtime.budget import ByteBudget


class Pin(Protocol):
    """Bytes that can be read again. Hashed by identity."""

    @property
    def pinned_bytes(self) -> int:
        """What is kept now."""
        ...

    def unpin(self) -> None:
        """Release it."""
        ...


class Holder(Protocol):
    """Whoever holds bytes that cannot be had again. Hashed by identity."""

    def evict(self) -> None:
        """Release everything: a newer one needs the room."""
        ...


class ReaderPins:
    """The account of one broker."""

    def __init__(self, budget: ByteBudget) -> None:
        self.budget = budget
        self._pins: OrderedDict[Pin, int] = OrderedDict()
        self._held: OrderedDict[Holder, int] = OrderedDict()
        self._reading = 0
        """Bytes of reads that are under way."""
        self._waiting: OrderedDict[str, deque[tuple[asyncio.Future[None], int]]] = OrderedDict()
        """Reads by client; the client whose turn it is comes first."""

    # Reads.

    @asynccontextmanager
    async def reading(self, client: str, size: int) -> AsyncIterator[None]:
        """Read so many bytes for `client`, when it is its turn."""
        if self._waiting or not self._begin(size):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(client, deque()).append((turn, size))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._end(size)
                else:
                    self._admit()
                raise
        try:
            yield
        finally:
            self._end(size)

    def _begin(self, size: int) -> bool:
        """Rule: reads leave room for what cannot be read again, but for one read, which is always let in."""
        if self._reading and self._reading + size > self.budget.limit // 4 * 3:
            return False
        if not self._make_room(size):
            return False
        self._reading += size
        return True

    def _end(self, size: int) -> None:
        self._reading -= size
        self._release(size)

    def _admit(self) -> None:
        """Let reads begin, one of each client in turn."""
        while self._waiting:
            client, turns = next(iter(self._waiting.items()))
            turn, size = turns[0]
            if not turn.done():
                if not self._begin(size):
                    return
                turn.set_result(None)
                self._waiting.move_to_end(client)
            turns.popleft()
            if not turns:
                del self._waiting[client]

    # What is read and not sent.

    def keep(self, pin: Pin) -> None:
        """Keep `pin` for as long as nobody else needs the room; it may be gone when this returns."""
        before = self._pins.pop(pin, 0)
        if before:
            self.budget.release(before)
        size = pin.pinned_bytes
        if self._make_room(size):
            self._pins[pin] = size
        else:
            pin.unpin()
        if before > size:
            self._admit()

    def forget(self, pin: Pin) -> None:
        """`pin` keeps nothing any more. Idempotent."""
        size = self._pins.pop(pin, None)
        if size is not None:
            self._release(size)

    # What is nowhere else.

    def hold(self, holder: Holder, size: int) -> None:
        """`holder` has made progress and holds `size` bytes now; 0 when it is done. May give up the oldest holder."""
        before = self._held.pop(holder, 0)
        if before:
            self.budget.release(before)
        taken = size
        while taken and not self._make_room(taken):
            if not self._held:
                # More than there is room for beside reads: let in alone.
                taken = 0
                break
            oldest, held = self._held.popitem(last=False)
            self.budget.release(held)
            oldest.evict()
        if size:
            self._held[holder] = taken
        if before > taken:
            self._admit()

    def _make_room(self, size: int) -> bool:
        """Take `size` bytes, from pins if need be."""
        while not self.budget.try_acquire(size):
            if not self._pins:
                return False
            pin, pinned = self._pins.popitem(last=False)
            self.budget.release(pinned)
            pin.unpin()
        return True

    def _release(self, size: int) -> None:
        self.budget.release(size)
        self._admit()
