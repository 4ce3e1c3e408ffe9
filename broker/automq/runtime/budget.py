"""A byte budget: admission in order of arrival, without threads."""

import asyncio


class ByteBudget:
    """At most `limit` bytes are out at once.

    Waiters are served strictly in order. A request larger than the limit is admitted alone, when nothing else is out,
    so that no caller can wait for ever.
    """

    def __init__(self, limit: int) -> None:
        assert limit > 0
        self.limit = limit
        self._used = 0
        self._waiters: dict[asyncio.Future[None], int] = {}
        """In order of arrival."""

    @property
    def used(self) -> int:
        """Bytes that are out."""
        return self._used

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
