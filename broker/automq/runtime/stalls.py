"""Notices when the event loop stands still, and where: a metric of its lag, and a log line with the stack of a stall.

The loop beats; each beat that comes late is a lag that every client felt. A thread looks at the beats: while one is
overdue it takes the stack of the loop's thread, which afterwards would show nothing.
"""

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Final, Protocol

from automq.runtime.telemetry import Metrics

log = logging.getLogger(__name__)

BEAT_S: Final = 0.05
STALL_S: Final = 0.1
"""A lag that is logged: producers wait for a durable write about as long."""
LOG_PAUSE_S: Final = 10.0
"""Between two stacks in the log: a loop that stalls all the time shows the same ones."""
STACK_FRAMES_MAX: Final = 12


class StallWatch(Protocol):
    """Watches the running loop from `start` to `close`."""

    def start(self) -> None:
        """Called on the loop."""
        ...

    def close(self) -> None:
        """Idempotent."""
        ...


class NoStallWatch:
    """For simulations: virtual time does not stall."""

    def start(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""


class ThreadStallWatch:
    """One loop's beats, and the thread that looks at them."""

    def __init__(self, metrics: Metrics, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lag = metrics.histogram("automq_event_loop_lag_seconds", "How late the event loop came to a timer")
        self._stalls = metrics.counter("automq_event_loop_stalls", "Times that the event loop stood still above 0.1 s")
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop_thread = 0
        self._reported_due = -1.0
        self._reported_at = float("-inf")

    def start(self) -> None:
        self._loop_thread = threading.get_ident()
        self._arm()
        self._thread = threading.Thread(target=self._watch, name="automq-stall-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        if self._timer is not None:
            self._timer.cancel()

    # On the loop.

    def _arm(self) -> None:
        self._due = self._now() + BEAT_S
        self._timer = asyncio.get_running_loop().call_later(BEAT_S, self._beat)

    def _beat(self) -> None:
        lag_s = max(0.0, self._now() - self._due)
        self._lag.observe(lag_s)
        if lag_s >= STALL_S:
            self._stalls.inc()
            if self._reported_due == self._due:
                log.warning("the event loop goes on", extra={"stalled_s": round(lag_s, 2)})
        self._arm()

    # In the thread.

    def _watch(self) -> None:
        while not self._closing.wait(BEAT_S):
            due, now = self._due, self._now()
            if now - due < STALL_S or due == self._reported_due or now - self._reported_at < LOG_PAUSE_S:
                continue
            frame = sys._current_frames().get(self._loop_thread)
            if frame is None or due != self._due:
                continue
            stack = "".join(traceback.format_stack(frame)[-STACK_FRAMES_MAX:])
            self._reported_due, self._reported_at = due, now
            log.warning("the event loop stands still", extra={"for_s": round(now - due, 2), "stack": stack})
