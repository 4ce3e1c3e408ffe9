"""Requests that wait for data or time, without a task for each.

A waiter is parked at the partitions it reads. When the high watermark of one of them moves, it is tried again, once in
a turn of the event loop however many of its partitions moved; when its time is up, it is ended.
"""

import asyncio
from collections.abc import Iterable
from typing import Final, Protocol

from automq.partition.partition import Partition

# A wait of more than this is a client's mistake; a timer that far away helps nobody.
WAIT_S_MAX: Final = 24 * 3600.0


class Waiter(Protocol):
    """Something parked. Hashed by identity."""

    def retry(self) -> bool:
        """A partition advanced or was lost. True when the waiter is done."""
        ...

    def expire(self) -> None:
        """The time is up: answer with what there is."""
        ...


class _Parked:
    """A waiter's places, so that it can be taken out of all of them."""

    __slots__ = ("partitions", "timer")

    def __init__(self, partitions: tuple[Partition, ...], timer: asyncio.TimerHandle) -> None:
        self.partitions = partitions
        self.timer = timer


class Purgatory:
    """All that wait in one broker."""

    def __init__(self) -> None:
        self._parked: dict[Waiter, _Parked] = {}
        self._by_partition: dict[Partition, dict[Waiter, None]] = {}
        self._woken: dict[Waiter, None] = {}
        self._is_scheduled = False

    def __len__(self) -> int:
        return len(self._parked)

    def park(self, waiter: Waiter, partitions: Iterable[Partition], wait_s: float) -> None:
        """Keep `waiter` until `retry` says it is done, it expires, or it is forgotten."""
        assert waiter not in self._parked
        loop = asyncio.get_running_loop()
        # A careless client may name a partition twice.
        places = tuple(dict.fromkeys(partitions))
        self._parked[waiter] = _Parked(places, loop.call_later(min(wait_s, WAIT_S_MAX), self._expire, waiter))
        for partition in places:
            self._by_partition.setdefault(partition, {})[waiter] = None

    def forget(self, waiter: Waiter) -> bool:
        """The waiter is done, or its connection is gone. False when it was not parked."""
        parked = self._parked.pop(waiter, None)
        if parked is None:
            return False
        parked.timer.cancel()
        self._woken.pop(waiter, None)
        for partition in parked.partitions:
            waiters = self._by_partition[partition]
            del waiters[waiter]
            if not waiters:
                del self._by_partition[partition]
        return True

    def advance(self, partition: Partition) -> None:
        """Data became readable in `partition`, or it is gone: try its waiters at the end of this turn."""
        waiters = self._by_partition.get(partition)
        if waiters:
            self._woken.update(waiters)
            if not self._is_scheduled:
                self._is_scheduled = True
                asyncio.get_running_loop().call_soon(self._retry_woken)

    def _retry_woken(self) -> None:
        self._is_scheduled = False
        woken, self._woken = self._woken, {}
        for waiter in woken:
            # An earlier one of this round may have ended it.
            if waiter in self._parked and waiter.retry():
                self.forget(waiter)

    def _expire(self, waiter: Waiter) -> None:
        self.forget(waiter)
        waiter.expire()
