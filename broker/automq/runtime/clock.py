"""Time, as a port: wall time for what users see, monotonic time for everything that waits."""

import time
from functools import partial
from typing import Final, Protocol

# Where a system has no such clock, sleep is not counted: a machine that slept for more than an hour is in doubt then.
_BOOTTIME: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """Safety never rests on either reading; epochs decide."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970 UTC. For record timestamps and retention; may jump."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back. For time-outs and intervals."""
        ...

    def boottime(self) -> float:
        """Seconds since some fixed moment, the machine's sleep included; nobody sets it. To watch wall time against."""
        ...


class SystemClock:
    """The machine's own clock."""

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    # The function itself: it is called several times for every request.
    monotonic = staticmethod(time.monotonic)

    # The same: it is asked whenever answers leave.
    boottime = staticmethod(partial(time.clock_gettime, _BOOTTIME))
