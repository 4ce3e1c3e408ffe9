"""Pure: timers of one shard on a single heap.

Setting a timer again or cancelling it leaves the old entry in the heap, to be passed over when its time comes; the
heap is rebuilt when more than half of it is such leftovers.
"""

import heapq
from collections.abc import Sequence
from typing import Final

from automq.coordinators.group.model import Timer
from automq.coordinators.group.turn import TimerChange

LEFTOVERS_MIN: Final = 64


class TimerHeap:
    """When each timer is due. Equal times are due in the order of setting."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Timer]] = []
        self._current: dict[Timer, tuple[int, int]] = {}
        self._sequence = 0

    def __len__(self) -> int:
        return len(self._current)

    def apply(self, changes: Sequence[TimerChange]) -> None:
        """Set and cancel."""
        for change in changes:
            if change.at_ms is None:
                self._current.pop(change.timer, None)
                continue
            self._sequence += 1
            self._current[change.timer] = (change.at_ms, self._sequence)
            heapq.heappush(self._heap, (change.at_ms, self._sequence, change.timer))
        if len(self._heap) > LEFTOVERS_MIN + 2 * len(self._current):
            self._heap = [(at_ms, sequence, timer) for timer, (at_ms, sequence) in self._current.items()]
            heapq.heapify(self._heap)

    def next_ms(self) -> int | None:
        """When the next timer is due; None when there is none."""
        while self._heap:
            at_ms, sequence, timer = self._heap[0]
            if self._current.get(timer) == (at_ms, sequence):
                return at_ms
            heapq.heappop(self._heap)
        return None

    def pop_due(self, now_ms: int) -> Timer | None:
        """The next timer that is due by now, which is then no longer set."""
        at_ms = self.next_ms()
        if at_ms is None or at_ms > now_ms:
            return None
        _, _, timer = heapq.heappop(self._heap)
        del self._current[timer]
        return timer
