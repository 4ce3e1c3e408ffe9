"""Whether wall time may decide what cannot be undone: deleting by age.

A clock that is set wrong, by a month for instance, makes everything old at once; what retention deletes then is gone
when the clock is put right. So wall time is watched against the time since boot, which nobody sets and which goes on
while the machine sleeps: when the two disagree by more than an hour from one look to the next, nothing is old any more,
until wall time is back where it was, or has kept its new pace for an hour.

What a process trusts it notes in the controller's lease, for its successor: in the same boot of
the same machine a restart is no way around. Anywhere else a process takes the time that it finds for right.
"""

import logging
from dataclasses import dataclass
from typing import Final

from automq.runtime.clock import Clock
from automq.runtime.telemetry import Metrics

log = logging.getLogger(__name__)

JUMP_MS: Final = 3_600_000
"""Summer time and its like are no wall time; a clock that is kept right moves by milliseconds."""
HELD_MS: Final = 3_600_000
LOOK_S: Final = 60.0
"""To be looked at this often at least: what jumped and came back in between was not noticed, and did nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedTime:
    """What wall time was less the time since boot, in one boot of one machine."""

    boot_id: str
    offset_ms: int


class WallTimeGuard:
    """Watches one clock. Everything here is synchronous and cheap."""

    def __init__(self, clock: Clock, metrics: Metrics, *, boot_id: str = "", before: TrustedTime | None = None) -> None:
        """`boot_id` names this boot of this machine, "" where nothing does; `before` is what a predecessor noted."""
        self._clock = clock
        self._boot_id = boot_id
        self._offset_ms = clock.wall_ms() - self._boot_ms()
        """Wall time less time since boot, as it is trusted."""
        if before is not None and boot_id and before.boot_id == boot_id:
            self._offset_ms = before.offset_ms
        self._other_ms: int | None = None
        """The same, of a wall time that is in doubt."""
        self._other_since_ms = 0
        metrics.gauge(
            "automq_retention_paused", "1 while the wall clock has jumped and nothing is deleted by age"
        ).set_function(lambda: float(self._other_ms is not None))

    @property
    def trusted(self) -> TrustedTime:
        """For a successor."""
        return TrustedTime(boot_id=self._boot_id, offset_ms=self._offset_ms)

    def aging_ms(self) -> int:
        """Wall time, to tell how old something is; 0 while it is in doubt: nothing is old then."""
        return 0 if self.is_in_doubt() else self._clock.wall_ms()

    def is_in_doubt(self) -> bool:
        """Look at the clock once."""
        boot_ms = self._boot_ms()
        offset_ms = self._clock.wall_ms() - boot_ms
        if abs(offset_ms - self._offset_ms) <= JUMP_MS:
            self._trust(offset_ms, "wall time is as before the jump, retention goes on")
        elif self._other_ms is None or abs(offset_ms - self._other_ms) > JUMP_MS:
            self._other_ms, self._other_since_ms = offset_ms, boot_ms
            log.warning(
                "wall time has jumped: nothing is deleted by age until it is back, or has held for an hour",
                extra={"by_s": (offset_ms - self._offset_ms) // 1000},
            )
        elif boot_ms - self._other_since_ms >= HELD_MS:
            self._trust(offset_ms, "wall time has held since it jumped, retention goes on")
        return self._other_ms is not None

    def _trust(self, offset_ms: int, event: str) -> None:
        if self._other_ms is not None:
            log.warning(event, extra={"after_s": (self._boot_ms() - self._other_since_ms) // 1000})
        # Followed: a clock that is slewed slowly never jumps.
        self._offset_ms, self._other_ms = offset_ms, None

    def _boot_ms(self) -> int:
        return int(self._clock.boottime() * 1000)
