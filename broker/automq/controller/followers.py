"""Brokers that follow the log over the link: what they are given, and which of them are there."""

from collections.abc import Sequence
from typing import Final

from automq.controller.recent_slots import RecentSlot, RecentSlots
from automq.controller.requests import Followed, FollowedSlot
from automq.ids import NodeId
from automq.metadata.log_format import LogPosition
from automq.replicated.machine import LogFailed
from automq.runtime.clock import Clock

WAIT_S_MAX: Final = 1.0
"""How long a follower may wait for something new: it hears the controller at least so often."""
LIVE_S: Final = 3.0
"""A broker that asked within it is there."""


class Followers:
    """Of one claim."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._recent: RecentSlots | None = None
        self._failure: Exception | None = None
        self._asked_at: dict[NodeId, float] = {}
        self._successor: NodeId | None = None

    def begin(self, record_number: int) -> None:
        """The claim is ours, and the log has so many records."""
        self._recent = RecentSlots(record_number)

    def on_durable(self, position: LogPosition, first_record: int, record_number: int, body: Sequence[bytes]) -> None:
        """A slot is durable, and the log has `record_number` records with it."""
        assert self._recent is not None
        if self.live():
            self._recent.add(RecentSlot(position, first_record, b"".join(body)), record_number)
        else:
            # Whoever comes later reads the bucket first.
            self._recent.skip(record_number)

    def fail(self, error: Exception) -> None:
        """The claim is lost or given up: nobody is answered any more. Idempotent."""
        self._failure = self._failure or error
        if self._recent is not None:
            self._recent.wake()

    async def follow(self, node: NodeId, record_number: int, wait_s: float) -> Followed:
        """Slots behind so many records, once there are any. Raises LogFailed, LogFenced."""
        recent = self._checked()
        self._asked_at[node] = self._clock.monotonic()
        found = recent.behind(record_number)
        if found == () and self._successor is None:
            await recent.wait(min(wait_s, WAIT_S_MAX))
            found = self._checked().behind(record_number)
        slots = [FollowedSlot(slot.position.epoch, slot.position.sequence, slot.body) for slot in found or ()]
        return Followed(slots, is_behind=found is None, successor=self._successor)

    def _checked(self) -> RecentSlots:
        if self._failure is not None:
            raise self._failure
        if self._recent is None:
            raise LogFailed("the controller has not started")
        return self._recent

    def live(self) -> Sequence[NodeId]:
        """Who has asked lately; sorted."""
        now = self._clock.monotonic()
        return sorted(node for node, asked_at in self._asked_at.items() if now - asked_at <= LIVE_S)

    def name_successor(self, node: NodeId) -> None:
        """This controller stops: every follower learns at once who goes on."""
        self._successor = node
        if self._recent is not None:
            self._recent.wake()
