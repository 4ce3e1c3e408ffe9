"""What a broker logs of its own life: start, every change of state or reason with how long the last one lasted, end.

The life cycle is the only source: what `/readyz` shows and what the log has cannot differ.
"""

import logging
import platform
from collections.abc import Callable, Mapping
from typing import Final

from automq import __version__, core
from automq.runtime.clock import Clock
from automq.server.config.settings import Settings
from automq.server.lifecycle.states import Lifecycle, Reason, State

log = logging.getLogger(__name__)

LEVELS: Final[Mapping[State, int]] = {
    State.WAITING: logging.WARNING,
    State.FENCED: logging.WARNING,
    State.DAMAGED: logging.ERROR,
}
"""Of the states that somebody should look at; the others are INFO."""


class Journal:
    """Follows one life cycle from `start` to `end`. `facts` are what is worth telling once the broker serves."""

    def __init__(
        self, *, lifecycle: Lifecycle, clock: Clock, settings: Settings, facts: Callable[[], Mapping[str, object]]
    ) -> None:
        self._lifecycle = lifecycle
        self._clock = clock
        self._settings = settings
        self._facts = facts
        self._seen: tuple[State, Reason | None, str] = (lifecycle.state, lifecycle.reason, lifecycle.message)
        self._state_since = self._reason_since = self._started = 0.0
        self._seconds: dict[State, float] = {}
        """How long each state lasted, those together that came more than once."""

    def start(self) -> None:
        """The process begins: who this is, where it keeps its data, what was set."""
        self._started = self._state_since = self._reason_since = self._clock.monotonic()
        settings = self._settings
        log.info(
            "broker starts",
            extra={
                "version": __version__,
                "python": platform.python_version(),
                "core": core.description,
                "node": settings.node.node_id,
                "rack": settings.node.rack or "none",
                "cluster": settings.cluster.cluster_id or "as found",
                "store": settings.cluster.storage_uri,
                "listeners": ",".join(f"{each.name}://{each.address}" for each in settings.node.listeners),
                "advertised": ",".join(f"{each.name}://{each.address}" for each in settings.advertised()),
                "http": settings.server.http,
                "memory": _mib(sum(settings.memory.values())),
                "memory_limit": _mib(settings.machine.memory_limit_bytes),
                "changed": "; ".join(f"{key}={text}" for key, text in settings.changed().items()) or "nothing",
            },
        )
        self._lifecycle.subscribe(self._on_change)

    def cluster_found(self, cluster_id: str, *, is_new: bool) -> None:
        """The prefix was read, or formatted."""
        log.info("cluster formatted" if is_new else "cluster found", extra={"cluster": cluster_id})

    def end(self) -> None:
        """The process ends, for whatever reason."""
        now = self._clock.monotonic()
        log.info(
            "broker stopped",
            extra={
                "state": self._lifecycle.state.value,
                "stopping_s": _seconds(now - self._state_since),
                "up_s": _seconds(now - self._started),
            },
        )

    def _on_change(self) -> None:
        lifecycle = self._lifecycle
        state, reason, message = self._seen
        now = self._clock.monotonic()
        self._seen = (lifecycle.state, lifecycle.reason, lifecycle.message)
        if lifecycle.state is not state:
            self._log_state(state, now)
        elif lifecycle.reason is not reason:
            self._log_reason(reason, now)
        elif lifecycle.message != message and lifecycle.reason is None:
            log.info("broker goes on", extra={"state": state.value, "what": lifecycle.message})

    def _log_state(self, before: State, now: float) -> None:
        lifecycle = self._lifecycle
        state = lifecycle.state
        lasted_s = now - self._state_since
        self._seconds[before] = self._seconds.get(before, 0.0) + lasted_s
        self._state_since = self._reason_since = now
        fields = {
            "state": state.value,
            "before": before.value,
            "lasted_s": _seconds(lasted_s),
            "reason": lifecycle.reason.value if lifecycle.reason else "none",
            "what": lifecycle.message,
        }
        log.log(LEVELS.get(state, logging.INFO), "state changed", extra=fields)
        if state is State.SERVING:
            times = {f"{each.value.lower()}_s": _seconds(spent) for each, spent in self._seconds.items()}
            log.info("broker ready", extra={"after_s": _seconds(now - self._started), **times, **dict(self._facts())})

    def _log_reason(self, before: Reason | None, now: float) -> None:
        lifecycle = self._lifecycle
        fields = {
            "state": lifecycle.state.value,
            "reason": lifecycle.reason.value if lifecycle.reason else "none",
            "before": before.value if before else "none",
            "lasted_s": _seconds(now - self._reason_since),
            "ready": lifecycle.is_ready,
            "what": lifecycle.message,
        }
        self._reason_since = now
        log.log(logging.INFO if lifecycle.reason is None else logging.WARNING, "reason changed", extra=fields)


def _seconds(value: float) -> float:
    """A number for whoever reads JSON: it is compared and added up."""
    return round(value, 2)


def _mib(size: int | None) -> str:
    return "unknown" if size is None else f"{size >> 20} MiB"
