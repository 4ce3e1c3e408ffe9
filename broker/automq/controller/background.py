"""What the active controller does besides answering: renew the lease, look for a fence, write snapshots, sweep objects.

Nothing here writes while nothing happens, but the lease.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

from prometheus_client import Counter

from automq.controller.model import ControllerSettings
from automq.controller.objects import SWEEP_MAX, deletable
from automq.controller.orphans import Orphans
from automq.controller.reports import DamageReports
from automq.ids import ClusterId, ObjectId
from automq.metadata.change import MetadataChange
from automq.metadata.committed_object import ranges_committed
from automq.metadata.lease import Lease
from automq.metadata.loader import Loaded
from automq.metadata.log import MetadataLog
from automq.metadata.patience import Patience
from automq.metadata.publisher import MetadataPublisher
from automq.metadata.snapshots import Snapshots
from automq.protocol.errors import ApiError
from automq.replicated.machine import LogFailed, LogFenced
from automq.runtime.budget import BorrowingBudget
from automq.runtime.clock import Clock
from automq.runtime.entropy import Entropy
from automq.runtime.tasks import Tasks, repeat
from automq.s3stream.ports import ObjectStorage, StoreError

Step = Callable[[], Awaitable[object]]
Pause = Callable[[], Awaitable[object]]

SURVIVES: Final = (StoreError, ApiError, LogFailed)
"""One step missed is harmless: the next one finds the same to do."""

# A wait that is shorter may be no wait at all.
CLOCK_STEP_S: Final = 0.001

# Every epoch costs a start a few round trips, however little it holds.
EPOCHS_MAX: Final = 20


class Background:
    """The background work of one claim; `stop` ends it for good."""

    def __init__(
        self,
        *,
        settings: ControllerSettings,
        store: ObjectStorage,
        clock: Clock,
        tasks: Tasks,
        patience: Patience,
        publisher: MetadataPublisher,
        log: MetadataLog,
        cluster_id: ClusterId,
        entropy: Entropy,
        snapshot_memory: BorrowingBudget | None,
        prove_active: Callable[[], Awaitable[None]],
        orphans_deleted: Counter,
        reports: DamageReports,
        lease: Lease,
        key_of: Callable[[ObjectId], str],
        destroy: Callable[[], Awaitable[int]],
        deleted: Callable[[Sequence[ObjectId]], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._store = store
        self._clock = clock
        self._tasks = tasks
        self._patience = patience
        self._publisher = publisher
        self._log = log
        self._snapshots = Snapshots(
            store=store,
            cluster_id=cluster_id,
            log=log,
            entropy=entropy,
            patience=patience,
            on_damage=lambda error: reports.add("snapshots", error),
            memory=snapshot_memory,
        )
        self._orphans = Orphans(
            store=store,
            cluster_id=cluster_id,
            image=lambda: publisher.image,
            prove_active=prove_active,
            expiry_ms=settings.object_expiry_ms,
            deleted=orphans_deleted,
        )
        self._reports = reports
        self._lease = lease
        self._key_of = key_of
        self._destroy = destroy
        self._deleted = deleted
        self._running: list[asyncio.Task[Any]] = []
        self._unsubscribe: Callable[[], None] | None = None
        self._snapshot_due = asyncio.Event()
        self._owed_slots = 0
        self._records_before = 0
        self._bytes_before = 0
        self._ranges_since = 0

    def start(self, loaded: Loaded) -> None:
        """Begin; `loaded` says how much this start had to read."""
        settings = self._settings
        self._records_before = loaded.image.record_number
        # A damaged snapshot is replaced at once: only one is left to fall back to.
        is_due = loaded.epochs > EPOCHS_MAX or bool(loaded.damaged)
        self._owed_slots = settings.snapshot_slots if is_due else loaded.slots
        self._ranges_since = loaded.ranges
        self._unsubscribe = self._publisher.subscribe(self._on_change)
        work: Sequence[tuple[str, Step, Pause]] = (
            ("poll", self._log.poll_fence, self._until_poll),
            ("snapshots", self._write_snapshot, self._snapshot_due.wait),
            ("sweep", self._sweep, partial(asyncio.sleep, settings.sweep_interval_s)),
            ("orphans", self._sweep_orphans, partial(asyncio.sleep, settings.orphan_sweep_interval_s)),
        )
        self._running = [self._tasks.spawn(self._lease.run(), name="lease")]
        self._running += [
            self._tasks.spawn(repeat(step, name=name, pause=pause, survives=SURVIVES, ends=(LogFenced,)), name=name)
            for name, step, pause in work
        ]

    def stop(self) -> None:
        """No lease, no snapshot, no delete any more. Idempotent."""
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        for task in self._running:
            task.cancel()
        self._running = []

    def _on_change(self, change: MetadataChange) -> None:
        settings, position = self._settings, self._log.durable
        self._ranges_since += ranges_committed(change.records)
        slots = self._owed_slots + (0 if position is None else position.sequence)
        if (
            change.new.record_number - self._records_before >= settings.snapshot_records
            or self._log.bytes_written - self._bytes_before >= settings.snapshot_bytes
            or slots >= settings.snapshot_slots
            or self._ranges_since >= settings.snapshot_ranges
        ):
            self._snapshot_due.set()

    async def _until_poll(self) -> None:
        """Rule: nobody goes longer than the interval without a proof that nobody has taken over.

        A slot that was written since the last look is one.
        """
        interval_s = self._settings.poll_interval_s
        await asyncio.sleep(interval_s)
        while (proved_at := self._log.proved_at) is not None:
            left_s = proved_at + interval_s - self._clock.boottime()
            if left_s < CLOCK_STEP_S:
                return
            await asyncio.sleep(left_s)

    async def _write_snapshot(self) -> None:
        # What is appended while the snapshot is written is not in it.
        image, position, written = self._publisher.image, self._log.durable, self._log.bytes_written
        ranges = self._ranges_since
        if await self._snapshots.write(image):
            assert position is not None
            self._records_before, self._bytes_before = image.record_number, written
            self._owed_slots = -position.sequence
            self._ranges_since -= ranges
        self._snapshot_due.clear()

    async def _sweep_orphans(self) -> None:
        """Once in a long while: it lists the bucket. What a trim left that did not end goes with it."""
        await self._snapshots.trim()
        swept = await self._orphans.sweep()
        self._reports.replace("sweep", swept.damage)

    async def _sweep(self) -> None:
        """Rule: marked destroyed is a durable record before it is a delete; deleted is a record after it."""
        while await self._destroy() == SWEEP_MAX:
            pass
        now_ms = self._clock.wall_ms()
        gone = deletable(self._publisher.image, now_ms=now_ms, grace_ms=self._settings.object_grace_ms)
        if gone:
            await self._store.delete([self._key_of(object_id) for object_id in gone])
            await self._deleted(gone)
