"""Bytes on account: counted where they are held already, admitted in order of arrival elsewhere; without threads.

`ByteCount` counts (`charge`): whoever holds the bytes makes room by itself (a cache) or is told to (`is_full`).
`ByteBudget` admits as well (`acquire`, `try_acquire`).
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from automq.callbacks import ignore


class ByteCount:
    """How many bytes are out, and how many should be at the most."""

    def __init__(self, limit: int) -> None:
        """`limit` may be 0: then nothing that is counted fits."""
        assert limit >= 0
        self.limit = limit
        self._used = 0
        self.on_lent: Callable[[], None] = ignore
        """Called when another account has taken room here: whoever holds bytes that can go evicts them."""

    @property
    def used(self) -> int:
        """Bytes that are out."""
        return self._used

    @property
    def free(self) -> int:
        """Bytes that may still be taken; never negative."""
        return max(0, self.limit - self._used)

    @property
    def is_full(self) -> bool:
        """Whether what is out has reached the limit."""
        return self._used >= self.limit

    @property
    def excess(self) -> int:
        """Bytes beyond the limit that are out: what a cache must evict; never negative."""
        return max(0, self._used - self.limit)

    def charge(self, size: int) -> None:
        """Count `size` bytes that are held already, whatever the limit; `release` takes them off again."""
        assert size >= 0
        self._used += size

    @contextmanager
    def counting(self, size: int = 0) -> Iterator[Callable[[int], None]]:
        """`charge` for `size` bytes, and for what is given to the function, until the end of the block."""
        total = 0

        def count(more: int) -> None:
            nonlocal total
            self.charge(more)
            total += more

        count(size)
        try:
            yield count
        finally:
            self.release(total)

    def release(self, size: int) -> None:
        """Give `size` bytes back."""
        assert 0 <= size <= self._used
        self._used -= size


class ByteBudget(ByteCount):
    """At most `limit` bytes are out at once.

    Waiters are served strictly in order. A request larger than the limit is admitted alone, when nothing else is out,
    so that no caller can wait for ever.
    """

    def __init__(self, limit: int) -> None:
        """`limit` may be 0: then one at a time is admitted, and nothing that is counted fits."""
        super().__init__(limit)
        self._waiters: dict[asyncio.Future[None], int] = {}
        """In order of arrival."""

    def try_acquire(self, size: int) -> bool:
        """Take `size` bytes now, unless that would pass the limit or somebody waits already."""
        if self._waiters or not self._fits(size):
            return False
        self._used += size
        return True

    async def acquire(self, size: int) -> None:
        """Take `size` bytes, waiting in line."""
        if self.try_acquire(size):
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = size
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.release(size)
            else:
                # Passed by already when somebody released in the turn of the cancellation.
                self._waiters.pop(waiter, None)
                self._admit()
            raise

    def release(self, size: int) -> None:
        """Give `size` bytes back."""
        assert 0 <= size <= self._used
        self._used -= size
        self._admit()

    def _fits(self, size: int) -> bool:
        return self._used == 0 or self._used + size <= self.limit

    def _admit(self) -> None:
        while self._waiters:
            waiter, size = next(iter(self._waiters.items()))
            if not waiter.done() and not self._fits(size):
                return
            del self._waiters[waiter]
            if not waiter.done():
                self._used += size
                waiter.set_result(None)


class BorrowingBudget(ByteBudget):
    """Counts what must be held, however much it is: what is beyond the limit takes room from `lender`, a cache."""

    def __init__(self, limit: int, lender: ByteBudget) -> None:
        super().__init__(limit)
        self._lender = lender

    @property
    def unmet(self) -> int:
        """Bytes beyond the limit that all of the lender's room does not carry; never negative."""
        return max(0, self.excess - self._lender.limit)

    def charge(self, size: int) -> None:
        """Count `size` bytes that are held already; the lender makes room for what is beyond the limit."""
        before = self.excess
        super().charge(size)
        if self.excess > before:
            self._lender.charge(self.excess - before)
            self._lender.on_lent()

    def release(self, size: int) -> None:
        """Give `size` bytes back, to the lender first."""
        before = self.excess
        super().release(size)
        self._lender.release(before - self.excess)


class Share(ByteCount):
    """A part of another account, with a limit of its own: what is counted here is counted there. It admits nobody."""

    def __init__(self, whole: ByteCount, limit: int, *, on_release: Callable[[], None] = ignore) -> None:
        super().__init__(limit)
        self._whole = whole
        self._on_release = on_release

    def charge(self, size: int) -> None:
        """Count `size` bytes that are held already."""
        super().charge(size)
        self._whole.charge(size)

    def release(self, size: int) -> None:
        """Give `size` bytes back."""
        super().release(size)
        self._whole.release(size)
        self._on_release()
