"""Deletes WAL slots below T, behind everybody's back: nothing waits for it.

The newest T counts; however many commits there were meanwhile, one delete of many keys makes up for them. A store that
refuses deletes, or is slow at them, costs storage and nothing else: one batch is asked again with backoff, and what is
done is done.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

from automq.runtime.backoff import Backoff
from automq.runtime.entropy import Entropy
from automq.runtime.tasks import Tasks
from automq.runtime.telemetry import Metrics
from automq.s3stream.ports import ObjectStorage, StoreError

log = logging.getLogger(__name__)

# What S3 deletes in one request.
DELETES_AT_ONCE: Final = 1000
# Nobody waits: what fails for a minute may fail for a week.
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 60.0


class SlotTrimmer:
    """Of one log, whose first slot is 0."""

    def __init__(
        self, *, store: ObjectStorage, key_of: Callable[[int], str], entropy: Entropy, tasks: Tasks, metrics: Metrics
    ) -> None:
        self._store = store
        self._key_of = key_of
        self._backoff = Backoff(entropy=entropy, first_s=FIRST_PAUSE_S, max_s=LONGEST_PAUSE_S)
        self._tasks = tasks
        self._task: asyncio.Task[None] | None = None
        self._starting: asyncio.Handle | None = None
        self._attempted = asyncio.Event()
        self.trimmed_to = 0
        """The newest T: slots at or above it are not deleted."""
        self.deleted_below = 0
        waiting = metrics.gauge("automq_wal_slots_to_delete", "WAL slots that are committed and not deleted yet")
        waiting.set_function(lambda: self.trimmed_to - self.deleted_below)

    def trim(self, below: int) -> None:
        """Slots below `below` are superfluous, says a durable record."""
        if below > self.trimmed_to:
            self.trimmed_to = below
            self._attempted.clear()
            if self._task is None and self._starting is None:
                self._starting = asyncio.get_running_loop().call_soon(self._start)

    async def attempt(self, timeout_s: float) -> None:
        """Return when everything is deleted, or the store has refused once, or the time is up."""
        if self._task is not None or self._starting is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._attempted.wait()

    def stop(self) -> None:
        """No delete from now on."""
        if self._starting is not None:
            self._starting.cancel()
            self._starting = None
        if self._task is not None:
            self._task.cancel()

    def _start(self) -> None:
        self._starting = None
        self._task = self._tasks.spawn(self._run(), name="wal trim")

    async def _run(self) -> None:
        try:
            while self.deleted_below < self.trimmed_to:
                end = min(self.trimmed_to, self.deleted_below + DELETES_AT_ONCE)
                try:
                    await self._store.delete([self._key_of(sequence) for sequence in range(self.deleted_below, end)])
                except StoreError as error:
                    await self._pause(error)
                else:
                    self._on_deleted(end)
        finally:
            self._task = None
            self._attempted.set()

    async def _pause(self, error: StoreError) -> None:
        if not self._backoff.attempts:
            log.warning(
                "wal slots cannot be deleted; tried again until they are",
                extra={"first": self._key_of(self.deleted_below), "error": str(error)},
            )
        self._attempted.set()
        await asyncio.sleep(self._backoff.next_s())

    def _on_deleted(self, end: int) -> None:
        if self._backoff.attempts:
            log.info("wal slots can be deleted again")
            self._backoff.reset()
        self.deleted_below = end
