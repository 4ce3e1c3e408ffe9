"""A client that is not listened to for a while, because of its quotas."""

import asyncio
from collections.abc import Callable

from automq.callbacks import ignore


class Muting:
    """Of one connection."""

    __slots__ = ("_on_end", "_timer")

    def __init__(self, on_end: Callable[[], None]) -> None:
        """`on_end` is called when the client is listened to again."""
        self._on_end = on_end
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_on(self) -> bool:
        """Whether the client is not listened to."""
        return self._timer is not None

    def begin(self, throttle_ms: int) -> None:
        """For so long from now on, or for as long as was decided before, if that is longer."""
        loop = asyncio.get_running_loop()
        until = loop.time() + throttle_ms / 1000
        if self._timer is not None:
            until = max(until, self._timer.when())
            self._timer.cancel()
        self._timer = loop.call_at(until, self._end)

    def close(self) -> None:
        """The connection is gone, and not referred to from here."""
        self._on_end = ignore
        if self._timer is not None:
            self._timer.cancel()

    def _end(self) -> None:
        self._timer = None
        self._on_end()
