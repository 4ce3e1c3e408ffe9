"""What the store's outcomes mean for the broker: waiting at its start, then reasons, log lines and metrics."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Final

from automq.runtime.clock import Clock
from automq.runtime.telemetry import Metrics
from automq.s3stream.ports import StoreError
from automq.server.lifecycle.refusals import store_refusal
from automq.server.lifecycle.states import HEALING, Event, Lifecycle, Refused, State
from automq.server.observability.abilities import SHOWN_AFTER_S, Abilities, Ability, Outage, Request

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
STARTS: Final = frozenset({State.STARTING, State.RECOVERING, State.WAITING})


class StoreHealth:
    """Hears of every request to the store; moves the life cycle.

    `on_hopeless` is called with a failure that no waiting heals, while the broker starts.
    """

    def __init__(
        self,
        *,
        lifecycle: Lifecycle,
        clock: Clock,
        store: str,
        metrics: Metrics,
        on_hopeless: Callable[[Refused], None] = lambda _refused: None,
    ) -> None:
        self.lifecycle = lifecycle
        self._clock = clock
        self._store = store
        self._on_hopeless = on_hopeless
        self._abilities = Abilities()
        self._before = State.STARTING
        self._timer: asyncio.TimerHandle | None = None
        failing = metrics.gauge(
            "automq_store_failing_seconds",
            "For how long this ability has failed without a success of its own; 0 while it works",
            ["ability"],
        )
        for ability in Ability:
            failing.labels(ability.value).set_function(partial(self._failing_s, ability))
        outages = metrics.counter("automq_store_outages", "Times that this ability began to fail", ["ability"])
        self._outages = {ability: outages.labels(ability.value) for ability in Ability}

    # Told by the store.

    def began(self, ability: Ability) -> Request:
        """A request leaves: one of the following three is called for it."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._check)
        return self._abilities.began(ability, self._clock.monotonic())

    def succeeded(self, request: Request) -> None:
        """An answer; "not found" and "already there" are."""
        now = self._clock.monotonic()
        ended = self._abilities.succeeded(request, now)
        if ended is not None:
            self._log_end(ended, now, "the store works again")
            self._show(now)

    def failed(self, request: Request, error: StoreError) -> None:
        """No answer, or a refusal."""
        now = self._clock.monotonic()
        known = request.ability in self._abilities.outages
        self._abilities.failed(request, error, now)
        if not known:
            self._outages[request.ability].inc()
        self._show(now)

    def dropped(self, request: Request) -> None:
        """Nobody waits for the outcome any more. Idempotent, also after the outcome."""
        self._abilities.dropped(request)

    def forget(self) -> None:
        """What was refused so far was asked to find out whether it would be."""
        self._abilities.outages.clear()
        self._show(self._clock.monotonic())

    def close(self) -> None:
        """No more timers."""
        if self._timer is not None:
            self._timer.cancel()

    # What follows from it.

    def _failing_s(self, ability: Ability) -> float:
        outage = self._abilities.outages.get(ability)
        return 0.0 if outage is None else outage.lasted_s(self._clock.monotonic())

    def _check(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._check)
        now = self._clock.monotonic()
        known = set(self._abilities.outages)
        for outage in self._abilities.check(now):
            self._log_end(outage, now, "the store is not asked for this any more, its failure is forgotten")
        for outage in self._abilities.outages.values():
            if outage.ability not in known:
                self._outages[outage.ability].inc()
            if not outage.is_logged and outage.lasted_s(now) >= SHOWN_AFTER_S:
                self._log_start(outage)
        if known or self._abilities.outages:
            self._show(now)

    def _show(self, now: float) -> None:
        """Bring state, reason and message up to what is known."""
        if self.lifecycle.state in STARTS:
            self._show_start(self._abilities.blocking(now))
        elif self.lifecycle.state is State.SERVING:
            outage = self._abilities.lasting(now)
            if outage is None:
                self.lifecycle.set_reason("serving")
            else:
                refused = self._refusal(outage)
                self.lifecycle.set_reason(refused.message, refused.reason, is_able=self._abilities.is_ready(now))

    def _show_start(self, outage: Outage | None) -> None:
        if outage is not None:
            refused = self._refusal(outage)
            if refused.reason not in HEALING:
                self._on_hopeless(refused)
            if self.lifecycle.state is State.WAITING:
                self.lifecycle.set_reason(refused.message, refused.reason)
            else:
                self._before = self.lifecycle.state
                self.lifecycle.move(Event.BLOCKED, refused.message, refused.reason)
        elif self.lifecycle.state is State.WAITING:
            self.lifecycle.move(Event.HEALED, "the store answers again")
            if self._before is State.RECOVERING:
                self.lifecycle.move(Event.REGISTERED, "the store answers again")

    def _refusal(self, outage: Outage) -> Refused:
        return store_refusal(outage.error, self._store, operation=outage.ability.value)

    def _log_start(self, outage: Outage) -> None:
        outage.is_logged = True
        log.warning(
            "the store fails",
            extra={
                "operation": outage.ability.value,
                "store": self._store,
                "reason": outage.reason.value,
                "why": str(outage.error) or type(outage.error).__name__,
            },
        )

    def _log_end(self, outage: Outage, now: float, event: str) -> None:
        if not outage.is_logged and outage.lasted_s(now) >= SHOWN_AFTER_S:
            self._log_start(outage)
        if outage.is_logged:
            log.warning(
                event,
                extra={
                    "operation": outage.ability.value,
                    "store": self._store,
                    "failed_s": round(outage.lasted_s(now), 1),
                },
            )
