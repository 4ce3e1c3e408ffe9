"""Time, as a port: wall time for what users see, monotonic time for everything that waits."""

import time
from typing import Protocol


class Clock(Protocol):
    """Safety never rests on either reading; epochs decide."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970 UTC. For record timestamps and retention; may jump."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back. For time-outs and intervals."""
        ...


class SystemClock:
    """The machine's own clock."""

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()
