"""Requests that wait for data or time, without a task or a timer for each.

What a waiter needs is counted, not looked for: it says how many bytes are missing, and for each partition how many of
that partition's bytes count (a fetch takes at most so many of one). When a high watermark moves, what came is measured
once and taken from every waiter of that partition: a few additions each, however many partitions a waiter has. It is
completed when nothing is missing, when no partition can bring more, or when a partition is gone; in the turn after that
moment, once. When its time is up, it expires; times are kept in ticks, so that those of a tick expire in one turn.

Who waited in vain mostly comes back for the same. It may rest until then: it is not parked and is called for nothing,
but its partitions still know it. As long as nothing happened to any of them, it is parked again by a new time alone.
"""

import asyncio
import itertools
from collections.abc import Iterable, Mapping
from math import ceil
from typing import Final, Protocol

from automq.partition.partition import Partition

# A wait of more than this is a client's mistake; a timer that far away helps nobody.
WAIT_S_MAX: Final = 24 * 3600.0

# Waits are rounded up to this: a small part of what clients ask for (500 ms), many waiters to a timer.
TICK_S: Final = 0.02

ALL_BYTES: Final = 2**62

# One append may complete a thousand waiters, whose answers leave in the same turn of the event loop: about 2 ms.
WAITERS_PER_TURN: Final = 100
# And fewer where they have very many partitions, of which each is looked for.
PARTITIONS_PER_TURN: Final = 4_000


class Waiter(Protocol):
    """Something parked. Hashed by identity."""

    missing_bytes: int
    """Bytes until it is complete; counted down here."""
    open_partitions: int
    """Partitions whose bytes still count; counted down here."""
    tick: "Tick | None"
    """When its time is up; None while it is not parked. Set here."""
    resting: Mapping[Partition, int] | None
    """What it waited for while it rests; else None. Set here."""

    def force_complete(self) -> None:
        """There is enough, or a partition was lost; it is not parked any more."""
        ...

    def on_expiration(self) -> bool:
        """The time is up: answer with what there is. It is not parked any more.

        Whether it rests: nothing has come, what is missing is what was missing when it was parked, and `park_again`,
        `park` or `forget` will be called for it.
        """
        ...


class _Watched:
    """One partition's waiters: each with the bytes of this partition that it would still count."""

    __slots__ = ("counted_to", "rooms")

    def __init__(self, counted_to: int) -> None:
        self.counted_to = counted_to
        self.rooms: dict[Waiter, int] = {}


class Tick:
    """The waiters whose time is up at one moment, each with its partitions. The timer goes with the last of them."""

    __slots__ = ("number", "timer", "waiters")

    def __init__(self, number: int, timer: asyncio.TimerHandle) -> None:
        self.number = number
        self.timer = timer
        self.waiters: dict[Waiter, Mapping[Partition, int]] = {}


class Purgatory:
    """All that wait in one broker."""

    def __init__(self) -> None:
        self._parked = 0
        """Waiters."""
        self._watched: dict[Partition, _Watched] = {}
        self._complete: dict[Waiter, None] = {}
        self._ticks: dict[int, Tick] = {}
        self._is_scheduled = False

    def __len__(self) -> int:
        return self._parked

    def park(self, waiter: Waiter, rooms: Mapping[Partition, int], wait_s: float) -> None:
        """Keep `waiter` until it is completed, expires, or is forgotten.

        `rooms` says of each partition it reads how many bytes above the high watermark of now would count; it is not
        to be changed from now on.
        """
        self._begin(waiter, rooms, wait_s)
        waiter.open_partitions = self._watch(waiter, rooms)

    def park_again(self, waiter: Waiter, wait_s: float) -> bool:
        """Park one that rests for what it waited for before; False: it does not rest (any more)."""
        rooms = waiter.resting
        if rooms is None:
            return False
        waiter.resting = None
        self._begin(waiter, rooms, wait_s)
        return True

    def park_gradually(self, waiter: Waiter, wait_s: float) -> None:
        """As `park`, of very many partitions: they follow with `watch`, and then `watch_no_more`.

        Meanwhile it may be completed, expire, or be forgotten; it is not completed for a lack of partitions.
        """
        self._begin(waiter, {}, wait_s)
        waiter.open_partitions = 1

    def watch(self, waiter: Waiter, rooms: Mapping[Partition, int]) -> bool:
        """Some more partitions for one that is parked gradually; False: it is not parked any more."""
        if waiter.tick is None:
            return False
        known = waiter.tick.waiters[waiter]
        assert isinstance(known, dict)
        known.update(rooms)
        waiter.open_partitions += self._watch(waiter, rooms)
        return True

    def watch_no_more(self, waiter: Waiter) -> bool:
        """All its partitions are there. False: it is not parked any more, or there is nothing to wait for."""
        waiter.open_partitions -= 1
        return waiter.tick is not None and waiter.open_partitions > 0

    def _begin(self, waiter: Waiter, rooms: Mapping[Partition, int], wait_s: float) -> None:
        assert waiter.tick is None
        if waiter.resting is not None:
            self._end_rest(waiter)
        loop = asyncio.get_running_loop()
        number = ceil((loop.time() + (wait_s if wait_s < WAIT_S_MAX else WAIT_S_MAX)) / TICK_S)
        tick = self._ticks.get(number)
        if tick is None:
            tick = self._ticks[number] = Tick(number, loop.call_at(number * TICK_S, self._expire, number))
        tick.waiters[waiter] = rooms
        waiter.tick = tick
        self._parked += 1

    def _watch(self, waiter: Waiter, rooms: Mapping[Partition, int]) -> int:
        """How many of these partitions have room."""
        open_partitions = 0
        for partition, room in rooms.items():
            watched = self._watched.get(partition)
            if watched is None:
                watched = self._watched[partition] = _Watched(partition.high_watermark)
            watched.rooms[waiter] = room
            if room > 0:
                open_partitions += 1
        return open_partitions

    def forget(self, waiter: Waiter) -> bool:
        """The waiter is done, or its connection is gone. False when it was not parked; it does not rest, either."""
        tick = waiter.tick
        if tick is None:
            if waiter.resting is not None:
                self._end_rest(waiter)
            return False
        waiter.tick = None
        self._parked -= 1
        if self._complete:
            self._complete.pop(waiter, None)
        waiters = tick.waiters
        partitions = waiters.pop(waiter)
        # While it expires it is nobody's any more.
        if not waiters and self._ticks.get(tick.number) is tick:
            tick.timer.cancel()
            del self._ticks[tick.number]
        self._unwatch(waiter, partitions)
        return True

    def _unwatch(self, waiter: Waiter, partitions: Iterable[Partition]) -> None:
        for partition in partitions:
            rooms = self._watched[partition].rooms
            del rooms[waiter]
            if not rooms:
                del self._watched[partition]

    def _end_rest(self, waiter: Waiter) -> None:
        partitions = waiter.resting
        assert partitions is not None
        waiter.resting = None
        self._unwatch(waiter, partitions)

    def advance(self, partition: Partition) -> None:
        """Data became readable in `partition`, or it is gone: count for its waiters, complete them after this turn."""
        watched = self._watched.get(partition)
        if watched is None:
            return
        rooms = watched.rooms
        # Who rests has to look for itself when it comes back.
        for waiter in [waiter for waiter in rooms if waiter.tick is None]:
            self._end_rest(waiter)
        if not rooms:
            return
        came = self._measure(partition, watched)
        if came is None:
            self._complete.update(dict.fromkeys(rooms))
        else:
            for waiter, room in rooms.items():
                if room > 0:
                    counted = min(came, room)
                    rooms[waiter] = room - counted
                    waiter.missing_bytes -= counted
                    if counted == room:
                        waiter.open_partitions -= 1
                    if waiter.missing_bytes <= 0 or not waiter.open_partitions:
                        self._complete[waiter] = None
        if self._complete and not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._complete_waiters)

    @staticmethod
    def _measure(partition: Partition, watched: _Watched) -> int | None:
        """Bytes that became readable since the last time; None when whoever waits here is to look for itself."""
        if not partition.is_open:
            return None
        start, watched.counted_to = watched.counted_to, partition.high_watermark
        return partition.bytes_available(start, end=watched.counted_to, bytes_max=ALL_BYTES)

    def _complete_waiters(self) -> None:
        complete = self._complete
        try:
            for waiter in self._turn_of(complete):
                # An earlier one of this round may have ended it.
                if complete.pop(waiter, False) is None and self.forget(waiter):
                    waiter.force_complete()
        finally:
            # After an error the others are completed all the same.
            self._is_scheduled = bool(complete)
            if complete:
                asyncio.get_running_loop().call_soon(self._complete_waiters)

    @staticmethod
    def _turn_of(waiters: Iterable[Waiter]) -> list[Waiter]:
        """The first ones, as many as one turn may end: one at least."""
        chosen: list[Waiter] = []
        partitions = 0
        for waiter in itertools.islice(waiters, WAITERS_PER_TURN):
            chosen.append(waiter)
            partitions += 0 if waiter.tick is None else len(waiter.tick.waiters[waiter])
            if partitions >= PARTITIONS_PER_TURN:
                break
        return chosen

    def _expire(self, number: int) -> None:
        self._expire_some(self._ticks.pop(number))

    def _expire_some(self, tick: Tick) -> None:
        try:
            pop = tick.waiters.pop
            for waiter in self._turn_of(tick.waiters):
                rooms = pop(waiter, None)
                # An earlier one of this turn may have ended it.
                if rooms is not None:
                    self._expire_one(waiter, rooms)
        finally:
            # After an error the others expire all the same.
            if tick.waiters:
                asyncio.get_running_loop().call_soon(self._expire_some, tick)

    def _expire_one(self, waiter: Waiter, rooms: Mapping[Partition, int]) -> None:
        waiter.tick = None
        self._parked -= 1
        if self._complete:
            self._complete.pop(waiter, None)
        waiter.resting = rooms
        rests = False
        try:
            rests = waiter.on_expiration()
        finally:
            if not rests and waiter.resting is not None:
                self._end_rest(waiter)
