"""Write-ahead logs of dead brokers that this one is to recover: its own former ones before it serves, others beside.

The image says which: the fence record of a dead incarnation names who recovers its log, and a second record may name
somebody else. A log that is damaged is left as it is, and what it may hold is quarantined; everything else is given on.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final, TypeVar

from automq.callbacks import ignore
from automq.controller.brokers import to_recover
from automq.controller.client import ControllerClient
from automq.controller.damage import Damage, damage_of
from automq.controller.failover import wals_in_order
from automq.controller.model import WalToRecover
from automq.ids import BrokerEpoch, ClusterId, NodeId
from automq.metadata.change import Aspect, MetadataChange
from automq.metadata.image import MetadataImage
from automq.metadata.publisher import MetadataPublisher
from automq.partition.damage import REMEDY
from automq.protocol.errors import ApiError, ErrorCode
from automq.runtime.backoff import Backoff
from automq.runtime.entropy import Entropy
from automq.runtime.tasks import Tasks
from automq.s3stream.model import BrokerFenced, RecoveredLog, SlotsLost, StoreDamaged, Unplaced
from automq.s3stream.ports import StoreError
from automq.s3stream.storage import Storage
from automq.s3stream.wal.format import slot_prefix

log = logging.getLogger(__name__)

LOGS_AT_ONCE: Final = 2
"""They share the memory that recovery has."""

Log = tuple[NodeId, BrokerEpoch]
T = TypeVar("T")


class LogRecovery:
    """Of one incarnation, over its storage. `open_own` before it serves, then `start`."""

    def __init__(
        self,
        *,
        cluster_id: ClusterId,
        node: NodeId,
        storage: Storage,
        controller: ControllerClient,
        metadata: MetadataPublisher,
        entropy: Entropy,
        tasks: Tasks,
        on_damaged: Callable[[StoreDamaged], None],
    ) -> None:
        self._cluster_id = cluster_id
        self._us = (node, storage.epoch)
        self._storage = storage
        self._controller = controller
        self._metadata = metadata
        self._entropy = entropy
        self._tasks = tasks
        self._on_damaged = on_damaged
        self._turns = asyncio.Semaphore(LOGS_AT_ONCE)
        self._beside = 0
        """Logs that are read beside serving, at this moment."""
        self._running: dict[Log, asyncio.Task[None]] = {}
        self._unsubscribe: Callable[[], None] = ignore
        self.recovered_logs = 0
        """Read to their end, by this incarnation."""

    async def open_own(self, wals: Sequence[WalToRecover]) -> None:
        """Recover those of `wals` that are this node's own, then open its streams, however long that takes.

        Another recoverer may die meanwhile, and this incarnation be named for one more log of its own: that one comes
        first, too. Raises what `recover` raises, and ApiError for what no waiting heals.
        """
        node, epoch = self._us
        named: Sequence[WalToRecover] = [wal for wal in wals if wal.node == node]
        while True:
            for wal in named:
                await self.recover(wal)
            try:
                await self._retry_while_away(epoch, lambda: self._controller.open_streams(node, epoch))
            except ApiError as error:
                named = self._named_logs()
                if error.code is not ErrorCode.INVALID_REQUEST or not named:
                    raise
                log.info("one more log of this node is to be recovered first", extra={"why": str(error)})
            else:
                return

    def _named_logs(self) -> Sequence[WalToRecover]:
        """This node's own former logs that this incarnation is named for by now; pinned ones are left as they are."""
        own = [wal for wal in wals_in_order(self._metadata.image) if wal.node == self._us[0]]
        return [to_recover(wal) for wal in own if wal.recoverer == self._us and wal.damage is None]

    def start(self) -> None:
        """Recover beside serving what the image names this incarnation for, from now on."""
        self._unsubscribe = self._metadata.subscribe(self._on_change, to=(Aspect.WALS,))
        self._follow(self._metadata.image, sorted(self._metadata.image.wals))

    def stop(self) -> None:
        """Begin nothing and go on with nothing. Idempotent."""
        self._unsubscribe()
        for task in self._running.values():
            task.cancel()
        self._running.clear()

    def _on_change(self, change: MetadataChange) -> None:
        self._follow(change.new, sorted(change.wals))

    def _follow(self, image: MetadataImage, logs: Sequence[Log]) -> None:
        for key in logs:
            wal = image.wals.get(key)
            # A pinned log is tried again by the next incarnation that is named for it.
            is_ours = wal is not None and wal.recoverer == self._us and wal.damage is None
            running = self._running.get(key)
            if wal is not None and is_ours and running is None:
                wanted = to_recover(wal)
                name = f"recover the log of broker {wal.node} at epoch {wal.epoch}"
                self._running[key] = self._tasks.spawn(self._recover_beside(wanted), name=name)
            elif running is not None and (wal is None or wal.recoverer != self._us):
                # Recovered, or somebody else is to do it.
                del self._running[key]
                if wal is not None:
                    running.cancel()

    async def _recover_beside(self, wal: WalToRecover) -> None:
        async with self._turns:
            self._beside += 1
            try:
                await self._recover_serving(wal)
            finally:
                self._beside -= 1

    async def _recover_serving(self, wal: WalToRecover) -> None:
        extra = {"node": wal.node, "wal_epoch": wal.epoch}
        log.info("recovering the write-ahead log of a dead broker", extra=extra)
        try:
            await self.recover(wal, serves=True)
        except BrokerFenced as fenced:
            # Of this incarnation the image tells; else another one recovers the log by now.
            log.info("another broker recovers the log", extra={**extra, "why": str(fenced)})
            return
        except StoreDamaged as error:
            self._on_damaged(error)
            return
        log.info("write-ahead log of a dead broker recovered", extra=extra)

    async def recover(self, wal: WalToRecover, *, serves: bool = False) -> None:
        """To its end, or to its pin, however long the store and the controller are away.

        Raises BrokerFenced, StoreDamaged where not the log is damaged but what the metadata rest on, FormatTooNew.
        """
        slots = slot_prefix(self._cluster_id, wal.node, wal.epoch)
        try:
            recovered = await self._read(wal)
        except StoreDamaged as error:
            if not error.key.startswith(slots):
                # Nothing may be served beside that.
                raise
            await self._pin(wal, Damage(key=error.key, reason=str(error)), (), serves=serves)
            return
        if recovered.unplaced:
            # With slots given up besides, what they may have held is open, and so are the streams.
            left = () if recovered.given_up else recovered.unplaced
            await self._pin(wal, damage_of(slots, recovered.unplaced), left, serves=serves)
            return
        # Rule: who serves has opened its streams, and those of a former log of its own are given on with the log.
        recovered = replace(recovered, by_serving=serves)
        await self._retry_while_away(
            wal.epoch,
            lambda: self._controller.wal_recovered(wal.node, wal.epoch, recoverer=self._us, recovered=recovered),
        )
        self.recovered_logs += 1

    async def _read(self, wal: WalToRecover) -> RecoveredLog:
        lost = [SlotsLost(start, end) for start, end in wal.lost]
        return await self._retry_while_away(
            wal.epoch,
            lambda: self._storage.recover(
                wal.node, wal.epoch, wal.trim_to, lost=lost, share=lambda: max(1, self._beside)
            ),
        )

    async def _retry_while_away(self, epoch: BrokerEpoch, operation: Callable[[], Awaitable[T]]) -> T:
        """The result of `operation`, which may be repeated, however long the store is away.

        Absence is no answer here as it is for `Patience`: whatever the store refuses is tried again.
        """
        backoff = Backoff(entropy=self._entropy)
        while True:
            try:
                return await operation()
            except StoreError as error:
                log.warning("recovery waits for the store", extra={"wal_epoch": epoch, "error": str(error)})
                await asyncio.sleep(backoff.next_s())

    async def _pin(self, wal: WalToRecover, found: Damage, unplaced: Sequence[Unplaced], *, serves: bool) -> None:
        """What the log may hold takes no append until it is repaired; it is tried again at the next start."""
        await self._retry_while_away(
            wal.epoch,
            lambda: self._controller.quarantine_wal(
                wal.node, wal.epoch, recoverer=self._us, found=found, unplaced=unplaced, by_serving=serves
            ),
        )
        log.error(
            "write-ahead log damaged: what it may hold takes no records until it is repaired",
            extra={
                "node": wal.node,
                "wal_epoch": wal.epoch,
                "streams": sorted({item.stream for item in unplaced}) or "all of the broker",
                "key": found.key,
                "what": found.reason,
                "remedy": REMEDY,
            },
        )
