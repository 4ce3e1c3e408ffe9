"""The newest durable slots of the metadata log, as bytes, for brokers that follow the controller: bounded."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from automq.metadata.log_format import LogPosition

KEPT_BYTES: Final = 4 * 1024 * 1024
"""A follower that is further behind reads the bucket; a slot that is larger is kept alone."""
ANSWER_BYTES: Final = 1024 * 1024
"""In one answer, but for a slot that is larger."""


@dataclass(frozen=True, slots=True)
class RecentSlot:
    """What a slot of records holds, and where it lies."""

    position: LogPosition
    first_record: int
    body: bytes


@dataclass(slots=True)
class RecentSlots:
    """Of one claim; `record_number` is how many records are durable."""

    record_number: int
    kept_bytes_max: int = KEPT_BYTES
    _slots: deque[RecentSlot] = field(default_factory=deque)
    _bytes: int = 0
    _waiting: list[asyncio.Future[None]] = field(default_factory=list)

    def add(self, slot: RecentSlot, record_number: int) -> None:
        """`slot` is durable, and the log has so many records with it."""
        self.record_number = record_number
        self._slots.append(slot)
        self._bytes += len(slot.body)
        while self._bytes > self.kept_bytes_max and len(self._slots) > 1:
            self._bytes -= len(self._slots.popleft().body)
        self.wake()

    def skip(self, record_number: int) -> None:
        """The log has so many records, and nobody is there to be told of them: nothing is kept."""
        self.record_number = record_number
        self._slots.clear()
        self._bytes = 0
        self.wake()

    def wake(self) -> None:
        """Whoever waits looks again."""
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    def behind(self, record_number: int) -> Sequence[RecentSlot] | None:
        """Slots that come after so many records, an answer full of them; None where that cannot be told."""
        if record_number == self.record_number:
            return ()
        found: list[RecentSlot] = []
        size = 0
        for slot in self._slots:
            if slot.first_record < record_number:
                continue
            if not found and slot.first_record != record_number:
                return None
            if found and size + len(slot.body) > ANSWER_BYTES:
                break
            found.append(slot)
            size += len(slot.body)
        return found or None

    async def wait(self, timeout_s: float) -> None:
        """Until there is a new one, or `wake` was called, at most so long."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter
        except TimeoutError:
            pass
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
