"""Watches that what must be in the store still is: without it, what is acknowledged now may never be found again.

A store does not tell when its folder, prefix or bucket is removed, or made anew: writes go on to succeed. So small
ranged reads, one every 1.4 s, ask for the keys that must exist, in turn. Whatever takes longer than its turn delays the
next look, never doubles it; a slow answer brings it nearer. A key that is missing is looked at again after a look at
the metadata log: when that shows a fence of ours, somebody else has taken over and may delete; else the store has lost
it, and all acknowledging ends.

Under load the newest slot proves nothing: it was written a moment ago, whatever was lost before. Its turn goes to the
one that was the newest a round ago. Once no slot follows, the newest is looked at besides, at the next turn: it would
have to wait for a second round.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from automq.ids import ClusterId, ControllerEpoch
from automq.metadata.log_format import claim_key
from automq.runtime.clock import Clock
from automq.runtime.tasks import repeat
from automq.s3stream.append_path import AppendPath
from automq.s3stream.model import BrokerFenced, DataMissing, StoreDamaged
from automq.s3stream.ports import ObjectNotFound, ObjectStorage, StoreError
from automq.s3stream.store.layout import CLUSTER_KEY

# With three turns a loss is seen within 4.2 seconds, as what an answer takes comes off: acknowledging ends within five.
LOOK_INTERVAL_S: Final = 1.4
LOOK_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class Expected:
    """One key that must exist now."""

    key: str
    what: str
    is_needed: Callable[[], bool] = lambda: True
    """Whether it still must: it may have become superfluous while it was looked for."""


Expectation = Callable[[], Expected | None]
"""What must exist at this moment; None when nothing must."""


class PresenceWatch:
    """Looks for one expectation after the other. `confirm` raises BrokerFenced when somebody else has taken over."""

    def __init__(
        self,
        *,
        store: ObjectStorage,
        expectations: Sequence[Expectation],
        confirm: Callable[[], Awaitable[None]],
        on_lost: Callable[[StoreDamaged], None],
        clock: Clock,
        interval_s: float = LOOK_INTERVAL_S,
        besides: Expectation = lambda: None,
    ) -> None:
        """`besides` is asked in every turn, after the one whose turn it is."""
        self._store = store
        self._expectations = expectations
        self._besides = besides
        self._confirm = confirm
        self._on_lost = on_lost
        self._clock = clock
        self._interval_s = interval_s
        self._turn = 0
        self._due = self._began = clock.monotonic()

    async def run(self) -> None:
        """Until something is lost, or somebody else has taken over. A store that cannot be read proves nothing."""
        await repeat(
            self.check,
            name="presence watch",
            pause=self._until_due,
            survives=(StoreError,),
            ends=(BrokerFenced, StoreDamaged),
        )

    async def check(self) -> None:
        """One turn. Raises StoreDamaged when a key is lost, after `on_lost` was called, BrokerFenced, StoreError."""
        self._began = self._clock.monotonic()
        await self._require(self._next())
        await self._require(self._besides())

    async def _require(self, expected: Expected | None) -> None:
        if expected is None or await self._exists(expected.key):
            return
        await self._confirm()
        if not await self._exists(expected.key) and expected.is_needed():
            damage = DataMissing(key=expected.key, what=expected.what)
            self._on_lost(damage)
            raise damage

    def _next(self) -> Expected | None:
        for _ in self._expectations:
            expectation = self._expectations[self._turn % len(self._expectations)]
            self._turn += 1
            expected = expectation()
            if expected is not None:
                return expected
        return None

    async def _exists(self, key: str) -> bool:
        try:
            await self._store.get_range(key, 0, LOOK_BYTES)
        except ObjectNotFound:
            return False
        return True

    async def _until_due(self) -> None:
        now = self._clock.monotonic()
        self._due = max(self._due + self._interval_s - (now - self._began), now)
        await asyncio.sleep(self._due - now)


class AcknowledgedSlots:
    """Which slots must exist: one a round, and the newest besides once it is quiet."""

    def __init__(self, append_path: AppendPath) -> None:
        self._append_path = append_path
        self._remembered = self._looked_at = self._newest = -1

    def in_turn(self) -> Expected | None:
        """The one that was the newest a round ago, or the oldest there is: the newest has only just been written."""
        needed = self._append_path.needed_slots
        if not needed:
            return None
        sequence = self._remembered if self._remembered in needed else needed[0]
        self._remembered = needed[-1]
        return self._expected(sequence)

    def when_quiet(self) -> Expected | None:
        """Asked every turn. The newest, if it was that a turn ago and is not the one that was looked at last."""
        needed = self._append_path.needed_slots
        before, self._newest = self._newest, needed[-1] if needed else -1
        if not needed or before != self._newest or self._looked_at == self._newest:
            return None
        return self._expected(self._newest)

    def _expected(self, sequence: int) -> Expected:
        self._looked_at = sequence
        key = self._append_path.wal.slot_id(sequence).key
        return Expected(key, "an acknowledged WAL slot", lambda: sequence in self._append_path.needed_slots)


def expectations(
    *, cluster_id: ClusterId, claimed: Callable[[], ControllerEpoch], slots: AcknowledgedSlots
) -> Sequence[Expectation]:
    """What a serving broker expects: the newest claim that it knows of (`claimed`), whosever it is, an acknowledged
    slot that is still needed, and the key `cluster`.
    """

    def claim() -> Expected:
        return Expected(claim_key(cluster_id, claimed()), "the controller's claim")

    def cluster() -> Expected:
        return Expected(CLUSTER_KEY, "the key that says which cluster this is")

    return claim, slots.in_turn, cluster
