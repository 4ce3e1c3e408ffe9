"""Requests of one connection from their start to their answer, for the metrics of their times.

Those of one API that one read brought are counted together: one by one takes as long as parsing them.
"""

from collections import deque
from collections.abc import Callable

from automq.protocol.apis import ApiKey
from automq.server.network.request_metrics import RequestMetrics


class Started:
    """Some requests of one API that began together."""

    __slots__ = ("count", "key", "since", "worked_s")

    def __init__(self, key: ApiKey, since: float) -> None:
        self.key = key
        self.since = since
        self.count = 1
        self.worked_s = -1.0
        """Seconds of each until it was answered or waited; -1 while that goes on."""

    def add_worked(self, seconds: float) -> None:
        """A handler's task worked for so long."""
        self.worked_s = max(self.worked_s, 0.0) + seconds


class StartedRequests:
    """Oldest first; answers leave in the same order."""

    __slots__ = ("_metrics", "_waiting")

    def __init__(self, metrics: RequestMetrics) -> None:
        self._metrics = metrics
        self._waiting: deque[Started] = deque()

    def begin(self, key: ApiKey, now: float) -> Started:
        """A request begins."""
        waiting = self._waiting
        if waiting and (newest := waiting[-1]).since == now and newest.key is key:
            newest.count += 1
            return newest
        started = Started(key, now)
        waiting.append(started)
        return started

    def add(self, key: ApiKey, began: float, worked_s: float) -> None:
        """A request began, and has worked for so long until it was answered or waits."""
        started = Started(key, began)
        started.worked_s = worked_s
        self._waiting.append(started)

    def end_turn(self, clock: Callable[[], float]) -> None:
        """What began in this turn of the event loop and is not answered waits from now on."""
        waiting = self._waiting
        if not waiting or waiting[-1].worked_s >= 0:
            return
        now = clock()
        for started in reversed(waiting):
            if started.worked_s >= 0:
                return
            started.worked_s = (now - started.since) / started.count

    def answered(self, count: int, now: float) -> int:
        """The oldest `count` are answered; the API of the last one."""
        waiting, metrics = self._waiting, self._metrics
        if count == 1 and (only := waiting[0]).count == 1 and only.worked_s >= 0:
            # Of most connections at a time.
            waiting.popleft()
            metrics.answered(only.key, now - only.since, worked_s=only.worked_s)
            return only.key
        key = 0
        while count:
            oldest = waiting[0]
            some = min(count, oldest.count)
            key = oldest.key
            took_s = now - oldest.since
            # Answered in the turn that began it, it has not waited.
            worked_s = oldest.worked_s if oldest.worked_s >= 0 else took_s
            metrics.answered(key, took_s, some, worked_s=worked_s)
            count -= some
            oldest.count -= some
            if not oldest.count:
                waiting.popleft()
        return key
