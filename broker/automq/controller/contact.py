"""When a broker last knew for sure that it is who it thinks it is: the youngest proof that nothing has fenced it.

Rule: nothing is answered from state whose last proof began more than a session ago. A broker that was paused, or cut
off, may be fenced and replaced by then, and would tell clients what is not so any more. A proof is a heartbeat's
answer, counted from when the heartbeat was sent less the age of the controller's own proof that it leads, and only once
the image here shows what the controller knew; or a whole look at the metadata log in the bucket, counted from its
beginning. Seconds are of `Clock.boottime`, which counts the machine's sleep.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Final

from prometheus_client import Counter

from automq.callbacks import ignore
from automq.metadata.change import MetadataChange
from automq.metadata.publisher import MetadataPublisher
from automq.runtime.clock import Clock
from automq.runtime.telemetry import Metrics

log = logging.getLogger(__name__)

PROOFS_MAX: Final = 16
"""Proofs whose records the image does not show yet: a heartbeat a second, each better than the one before."""
WAKES_PER_TURN: Final = 64
"""Waiting connections that are flushed in one turn of the event loop: at 12 us each, less than 1 ms."""


class Always:
    """Where nobody else can take over: answers never wait."""

    fresh_until = float("inf")

    def when_fresh(self, callback: Callable[[], None]) -> None:
        raise AssertionError("answers never wait")


ALWAYS: Final = Always()


class Contact:
    """Of one incarnation. `fresh_until` is for whoever answers: one comparison."""

    def __init__(
        self, *, session_s: float, metadata: MetadataPublisher, clock: Clock, metrics: Metrics | None = None
    ) -> None:
        self._own_session_s = self._session_s = session_s
        self._metadata = metadata
        self._clock = clock
        self._pending: list[tuple[int, float]] = []
        """Record number and moment of proofs that the image is behind."""
        self._unsubscribe: Callable[[], None] = ignore
        self._waiting: dict[Callable[[], None], None] = {}
        self._to_wake: deque[Callable[[], None]] = deque()
        """Waited, and are called in the next turns."""
        self._is_waking = False
        self._held_since: float | None = None
        self.fresh_until = float("-inf")
        """From then on answers wait."""
        self._lost: Counter | None = None
        if metrics is not None:
            self._watch(metrics)

    def _watch(self, metrics: Metrics) -> None:
        age = metrics.gauge(
            "automq_contact_age_seconds", "Since the youngest proof that this broker is not fenced; answers wait at 3"
        )
        age.set_function(lambda: self._clock.boottime() - self.fresh_until + self._session_s)
        self._lost = metrics.counter(
            "automq_contact_losses", "How often answers had to wait for a proof that this broker is not fenced"
        )

    def prove(self, began: float, record_number: int = 0) -> None:
        """Whoever was asked at `began` knew so many records, and none that fences this incarnation."""
        if began + self._session_s <= self.fresh_until:
            return
        if self._metadata.image.record_number >= record_number:
            self._extend(began)
            return
        if not self._pending:
            self._unsubscribe = self._metadata.subscribe(self._on_change)
        self._pending = [*self._pending[1 - PROOFS_MAX :], (record_number, began)]

    def follow_session(self, session_s: float) -> None:
        """The controller fences after so long: where that is shorter than our own setting, proofs hold as long."""
        session_s = min(self._own_session_s, session_s)
        self.fresh_until -= max(0.0, self._session_s - session_s)
        self._session_s = session_s

    def when_fresh(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, in a turn of its own after the next proof. It looks for itself whether that is enough.

        What it raises goes to the event loop's exception handler; the others are called all the same.
        """
        self._waiting[callback] = None
        if self._held_since is None:
            self._held_since = self._clock.boottime()
            if self._lost is not None:
                self._lost.inc()
            log.warning("answers wait: nothing shows that this broker is not fenced")

    def close(self) -> None:
        """Wake nobody any more. Idempotent."""
        self._waiting.clear()
        self._to_wake.clear()
        self._pending.clear()
        self._unsubscribe()
        self._unsubscribe = ignore

    def _on_change(self, change: MetadataChange) -> None:
        shown = [began for number, began in self._pending if number <= change.new.record_number]
        if not shown:
            return
        self._pending = [each for each in self._pending if each[0] > change.new.record_number]
        if not self._pending:
            self._unsubscribe()
            self._unsubscribe = ignore
        self._extend(max(shown))

    def _extend(self, began: float) -> None:
        if began + self._session_s <= self.fresh_until:
            return
        self.fresh_until = began + self._session_s
        now = self._clock.boottime()
        if now >= self.fresh_until:
            return
        if self._held_since is not None:
            log.info("answers go on: this broker is not fenced", extra={"waited_s": round(now - self._held_since, 3)})
            self._held_since = None
        self._to_wake.extend(self._waiting)
        self._waiting.clear()
        if not self._is_waking:
            self._wake_soon()

    def _wake_soon(self) -> None:
        self._is_waking = bool(self._to_wake)
        if self._to_wake:
            asyncio.get_running_loop().call_soon(self._wake_some)

    def _wake_some(self) -> None:
        """Rule: whoever proves, and whoever else waits, is not held up by one that fails."""
        try:
            for _ in range(min(len(self._to_wake), WAKES_PER_TURN)):
                if self._to_wake:
                    self._to_wake.popleft()()
        finally:
            self._wake_soon()
