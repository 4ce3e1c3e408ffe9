"""The controller's lease: a sign of life, one key that is overwritten. No safety rests on it.

Whoever holds the claim renews it; others only look whether it changes. It also says how long the metadata log was, so
that one that has lost its end since is noticed.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from automq.callbacks import ignore
from automq.ids import ClusterId, ControllerEpoch, NodeId
from automq.metadata.sealed import seal, unseal
from automq.runtime.clock import Clock
from automq.runtime.tasks import repeat
from automq.runtime.wall_time import TrustedTime
from automq.s3stream.ports import ObjectNotFound, ObjectStorage, StoreError

log = logging.getLogger(__name__)

# What the log has grown by in this time is not told of anywhere else than in the log.
GROWTH_INTERVAL_S: Final = 1.0
# A wait that is shorter may be no wait at all.
CLOCK_STEP_S: Final = 0.001


def lease_key(cluster_id: ClusterId) -> str:
    """Where the lease lies."""
    return f"{cluster_id}/meta/lease"


@dataclass(frozen=True, slots=True)
class LeaseContent:
    """Who renewed it last."""

    node: NodeId
    epoch: ControllerEpoch
    record_number: int | None = None
    """How many records the metadata log had; None where no checksum vouches for that."""
    time: TrustedTime | None = None
    """Which wall time its holder trusted; None where no checksum vouches for it, or nothing names its boot."""


def decode_lease(data: bytes) -> LeaseContent | None:
    """None where it says nothing that can be read: nothing rests on it."""
    try:
        fields, is_sealed = unseal(data)
        return LeaseContent(
            NodeId(int(fields["node"])),
            ControllerEpoch(int(fields["controllerEpoch"])),
            int(fields["recordNumber"]) if is_sealed else None,
            _decode_time(fields) if is_sealed else None,
        )
    except (ValueError, KeyError, TypeError):
        return None


def _decode_time(fields: Mapping[str, Any]) -> TrustedTime | None:
    if "bootId" not in fields:
        return None
    return TrustedTime(boot_id=str(fields["bootId"]), offset_ms=int(fields["wallOffsetMs"]))


class Lease:
    """Renews the lease for one claim."""

    def __init__(
        self,
        *,
        store: ObjectStorage,
        cluster_id: ClusterId,
        node: NodeId,
        epoch: ControllerEpoch,
        clock: Clock,
        interval_s: float,
        record_number: Callable[[], int],
        on_renewal: Callable[[], None] = ignore,
        trusted_time: Callable[[], TrustedTime | None] = lambda: None,
    ) -> None:
        self._store = store
        self._on_renewal = on_renewal
        self._trusted_time = trusted_time
        self._key = lease_key(cluster_id)
        self._node = node
        self._epoch = epoch
        self._clock = clock
        self._interval_s = interval_s
        self._record_number = record_number
        self._renewal = 0
        self._renewed_record_number = 0
        self._started = float("-inf")

    async def run(self) -> None:
        """Renew until cancelled: one PUT an interval, and one soon after the log has grown; failed ones included."""
        await repeat(self.renew, name="lease", pause=self._until_due, survives=(StoreError,))

    async def renew(self) -> None:
        """One PUT. Raises StoreError."""
        self._started = self._clock.monotonic()
        self._renewal += 1
        self._on_renewal()
        self._renewed_record_number = self._record_number()
        body: dict[str, Any] = {
            "node": self._node,
            "controllerEpoch": self._epoch,
            "renewal": self._renewal,
            "recordNumber": self._renewed_record_number,
        }
        time = self._trusted_time()
        if time is not None:
            body |= {"bootId": time.boot_id, "wallOffsetMs": time.offset_ms}
        await self._store.put(self._key, [seal(body)])

    async def _until_due(self) -> None:
        """Until the interval is over; a log that has grown is told of earlier, at most once a `GROWTH_INTERVAL_S`."""
        while True:
            left_s = self._started + self._interval_s - self._clock.monotonic()
            if left_s < CLOCK_STEP_S:
                return
            await asyncio.sleep(min(left_s, GROWTH_INTERVAL_S))
            if self._record_number() != self._renewed_record_number:
                return


class LeaseWatch:
    """How long a lease has not changed, as far as successful reads and our own clock can tell."""

    def __init__(self, *, store: ObjectStorage, cluster_id: ClusterId, clock: Clock) -> None:
        self._store = store
        self._key = lease_key(cluster_id)
        self._clock = clock
        self._looked = False
        self._seen: bytes | None = None
        self.changes = 0
        """How often a read showed another lease than the one before."""
        self._since: float | None = None
        self._until = 0.0

    @property
    def content(self) -> LeaseContent | None:
        """What the newest successful read showed."""
        return None if self._seen is None else decode_lease(self._seen)

    @property
    def unchanged_s(self) -> float:
        """Seconds from the first to the last of the newest successful reads in a row that showed the same lease."""
        return 0.0 if self._since is None else self._until - self._since

    async def poll(self) -> None:
        """Read once. Raises StoreError: a store that cannot be read proves nothing, and the span begins anew."""
        started = self._clock.monotonic()
        seen: bytes | None
        try:
            seen = await self._store.get(self._key)
        except ObjectNotFound:
            seen = None
        except StoreError:
            self._since = None
            raise
        if self._looked and seen != self._seen:
            self.changes += 1
            self._since = None
        if self._since is None:
            # From the end of this read on: it may have been renewed while we read.
            self._since = self._until = self._clock.monotonic()
        else:
            # Up to the start of this read: what it showed may be as old as that.
            self._until = max(self._until, started)
        self._seen, self._looked = seen, True

    async def wait_unchanged(
        self, span_s: float, *, interval_s: float = 1.0, on_read: Callable[[], None] = ignore
    ) -> None:
        """Return once successful reads over `span_s` showed the same lease; `on_read` is called after each."""
        while self.unchanged_s < span_s:
            try:
                await self.poll()
            except StoreError:
                log.info("the lease cannot be read; watching it begins anew")
            else:
                on_read()
            await asyncio.sleep(interval_s)
