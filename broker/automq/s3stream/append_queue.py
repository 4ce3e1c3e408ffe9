"""Pure: which WAL slots may be acknowledged, and in what order.

Slots are in flight together, but a slot is acknowledged only after every slot before it: recovery reads a run without
holes, so a later slot counts for nothing as long as an earlier one may be missing.
"""

from collections import deque
from typing import Generic, Protocol, TypeVar


class QueuedSlot(Protocol):
    """What the queue needs to know of a slot."""

    sequence: int
    written: bool
    """Its PUT is known to have succeeded."""


S = TypeVar("S", bound=QueuedSlot)


class AppendQueue(Generic[S]):
    """Slots that are not acknowledged yet, in order of sequence, without holes."""

    def __init__(self) -> None:
        self._slots: deque[S] = deque()
        self._next = 0
        self.fenced = False

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def acknowledged_below(self) -> int:
        """Every slot below this sequence is acknowledged, and no other."""
        return self._slots[0].sequence if self._slots else self._next

    def push(self, slot: S) -> None:
        """`slot` takes appends from now on."""
        assert slot.sequence == self._next
        self._next += 1
        self._slots.append(slot)

    def find(self, sequence: int) -> S | None:
        """The slot, unless it is acknowledged already."""
        assert sequence < self._next, "a position that was never given out"
        return next((slot for slot in reversed(self._slots) if slot.sequence == sequence), None)

    def take_acknowledged(self) -> list[S]:
        """Slots that may be acknowledged now, in order; they leave the queue."""
        taken: list[S] = []
        # Rule of the log: once a slot was found taken, no acknowledgement, whatever else was in flight.
        while not self.fenced and (slot := self._next_in_order()) is not None:
            self._slots.remove(slot)
            taken.append(slot)
        return taken

    def fence(self) -> list[S]:
        """Nothing is acknowledged any more; the slots whose waiters must be told."""
        self.fenced = True
        return list(self._slots)

    def _next_in_order(self) -> S | None:
        """Rule of the log: acknowledgement is strictly in slot order, late successes included."""
        return self._slots[0] if self._slots and self._slots[0].written else None
