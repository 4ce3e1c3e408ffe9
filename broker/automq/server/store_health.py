"""What the store's outcomes mean for the broker's state: waiting while it starts, a reason while it serves."""

import asyncio
from typing import Final

from automq.runtime.clock import Clock
from automq.s3stream.ports import StoreError
from automq.server.lifecycle import Event, Lifecycle, Refused, State
from automq.server.refusals import store_refusal

FAILING_S: Final = 10.0
"""While serving, one failed request is nothing: clients see retries only. After so long somebody should look."""


class StoreHealth:
    """Hears of every outcome; moves the life cycle."""

    def __init__(self, *, lifecycle: Lifecycle, clock: Clock, store: str) -> None:
        self.lifecycle = lifecycle
        self._clock = clock
        self._store = store
        self._failing_since: float | None = None
        self._error: StoreError | None = None
        self._before: State | None = None
        self._timer: asyncio.TimerHandle | None = None

    def on_outcome(self, error: StoreError | None) -> None:
        """One request's outcome; None is a success, and answers such as "not found" are."""
        if error is None:
            if self._failing_since is not None:
                self._heal()
            return
        self._error = error
        if self._failing_since is None:
            self._failing_since = self._clock.monotonic()
            self._timer = asyncio.get_running_loop().call_later(FAILING_S, self._on_timer)
        if self.lifecycle.state in (State.STARTING, State.RECOVERING, State.WAITING):
            self.block(store_refusal(error, self._store))
        elif self._is_told():
            self._tell()

    def block(self, refused: Refused) -> None:
        """Wait for `refused` to heal."""
        if self.lifecycle.state is not State.WAITING:
            self._before = self.lifecycle.state
            self.lifecycle.move(Event.BLOCKED, refused.message, refused.reason)
        else:
            self.lifecycle.say(refused.message, refused.reason)

    def close(self) -> None:
        """No more timers."""
        if self._timer is not None:
            self._timer.cancel()

    def _heal(self) -> None:
        self._failing_since = self._error = None
        self.close()
        if self.lifecycle.state is State.WAITING:
            self.lifecycle.move(Event.HEALED, "the store answers again")
            if self._before is State.RECOVERING:
                self.lifecycle.move(Event.REGISTERED, "the store answers again")
        elif self.lifecycle.state is State.SERVING:
            self.lifecycle.say("serving")

    def _is_told(self) -> bool:
        return self.lifecycle.state is State.SERVING and self.lifecycle.reason is not None

    def _on_timer(self) -> None:
        if self._failing_since is not None and self.lifecycle.state is State.SERVING:
            self._tell()

    def _tell(self) -> None:
        assert self._error is not None
        refused = store_refusal(self._error, self._store)
        self.lifecycle.say(refused.message, refused.reason)
