"""How a broker is, in one line for a person."""

from automq.runtime.clock import Clock
from automq.server.broker import Broker
from automq.server.lifecycle.states import State
from automq.server.observability.store_requests import puts_so_far

MB = 1e6


class StatusLine:
    """The line of one broker. Rates are those since the line was last asked for."""

    def __init__(self, broker: Broker, clock: Clock) -> None:
        self._broker = broker
        self._clock = clock
        self._at = clock.monotonic()
        self._bytes = (0.0, 0.0)

    def text(self) -> str:
        """State and, while serving, what is going on."""
        broker = self._broker
        state = broker.lifecycle.state
        if state is not State.SERVING:
            return f"{state.value}: {broker.lifecycle.message}"
        activity = broker.activity
        into, out = self._rates((activity.in_bytes, activity.out_bytes))
        image = broker.image
        topics = 0 if image is None else sum(not topic.is_internal for topic in image.topics())
        parts = [
            f"Serving {broker.bootstrap_address}",
            f"{topics} topics",
            f"{activity.partitions} partitions",
            f"{activity.connections} connections",
            f"in {into:.1f} MB/s",
            f"out {out:.1f} MB/s",
            f"{puts_so_far(broker.metrics)} PUTs",
        ]
        if broker.lifecycle.reason is not None:
            parts.append(f"{broker.lifecycle.reason.value}: {broker.lifecycle.message}")
        return ", ".join(parts)

    def _rates(self, totals: tuple[float, float]) -> tuple[float, float]:
        """MB/s in and out."""
        now = self._clock.monotonic()
        passed_s = max(now - self._at, 0.001)
        into, out = ((total - before) / MB / passed_s for total, before in zip(totals, self._bytes, strict=True))
        self._at, self._bytes = now, totals
        return into, out
