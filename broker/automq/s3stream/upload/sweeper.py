"""Sweeps recovered logs, behind everybody's back: their slots are garbage, and that is no reason to wait or to fail."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from automq.runtime.backoff import Backoff
from automq.runtime.entropy import Entropy
from automq.runtime.tasks import Tasks
from automq.s3stream.ports import StoreError
from automq.s3stream.wal.trimmer import FIRST_PAUSE_S, LONGEST_PAUSE_S

log = logging.getLogger(__name__)


class Sweeper:
    """Every sweep is tried again until it succeeds, or this process ends; the controller's own sweep finds the rest."""

    def __init__(self, *, entropy: Entropy, tasks: Tasks) -> None:
        self._entropy = entropy
        self._tasks = tasks
        self._starting: list[asyncio.Handle] = []
        self._running: dict[asyncio.Task[None], None] = {}

    def add(self, sweep: Callable[[], Awaitable[None]]) -> None:
        """Run `sweep`, which may be repeated and raises StoreError."""
        self._starting.append(asyncio.get_running_loop().call_soon(self._start, sweep))

    def stop(self) -> None:
        """No sweep from now on."""
        for handle in self._starting:
            handle.cancel()
        self._starting.clear()
        for task in list(self._running):
            task.cancel()

    def _start(self, sweep: Callable[[], Awaitable[None]]) -> None:
        self._starting.pop(0)
        task = self._tasks.spawn(self._sweep(sweep), name="sweep of a recovered wal")
        self._running[task] = None
        task.add_done_callback(self._running.pop)

    async def _sweep(self, sweep: Callable[[], Awaitable[None]]) -> None:
        backoff = Backoff(entropy=self._entropy, first_s=FIRST_PAUSE_S, max_s=LONGEST_PAUSE_S)
        while True:
            try:
                await sweep()
            except StoreError as error:
                if not backoff.attempts:
                    log.warning("slots of a recovered log cannot be deleted; tried again", extra={"error": str(error)})
                await asyncio.sleep(backoff.next_s())
            else:
                return
