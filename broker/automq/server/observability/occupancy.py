"""What a broker still has: whoever drains it, or takes it away, reads here that nothing is left.

*Empty* is said only by an incarnation whose own image shows that it is to go, which leads nothing, is given nothing and
recovers nothing, and whose write-ahead log holds nothing that is in no object: without it nobody waits for anything.
Where only the last is missing it is brought about: a broker without partitions would not upload for minutes.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client.core import Metric

from automq.controller.possessions import has_nothing, is_leaving, possessions
from automq.ids import BrokerEpoch, NodeId
from automq.metadata.change import Aspect, MetadataChange
from automq.metadata.image import MetadataImage
from automq.metadata.publisher import MetadataPublisher
from automq.runtime.tasks import Tasks
from automq.runtime.telemetry import Metrics
from automq.s3stream.model import BrokerFenced, StoreDamaged
from automq.s3stream.storage import Storage

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Occupancy:
    """Of one incarnation at one moment."""

    epoch: BrokerEpoch
    led: int
    """Partitions that its node leads."""
    not_empty: str | None
    """Why it is not empty; None: it is."""
    is_draining: bool = False
    """The cluster's metadata say that it is to be emptied."""

    @property
    def is_empty(self) -> bool:
        """Whether it can be taken away at once."""
        return self.not_empty is None


def occupancy(image: MetadataImage, node: NodeId, epoch: BrokerEpoch, *, is_uploaded: bool) -> Occupancy:
    """Pure: `is_uploaded` is whether T is at the end of its write-ahead log."""
    key = (node, epoch)
    held = possessions(image, key)
    reasons = [] if held.is_nothing else [str(held)]
    if not is_leaving(image, key):
        reasons.append("it is neither being drained nor told to stop")
    if not is_uploaded:
        reasons.append("its write-ahead log is not uploaded")
    broker = image.broker(node)
    return Occupancy(
        epoch=epoch,
        led=held.led,
        not_empty="; ".join(reasons) or None,
        is_draining=broker is not None and broker.draining,
    )


class OccupancyWatch:
    """Of one incarnation, from its registration to its end; `storage` is None before it has one."""

    def __init__(
        self,
        *,
        metadata: MetadataPublisher,
        node: NodeId,
        epoch: BrokerEpoch,
        storage: Callable[[], Storage | None],
        tasks: Tasks,
    ) -> None:
        self._metadata = metadata
        self._key = (node, epoch)
        self._storage = storage
        self._tasks = tasks
        self._is_uploading = False
        aspects = (Aspect.BROKERS, Aspect.TOPICS, Aspect.MOVES, Aspect.WALS)
        self._unsubscribe = metadata.subscribe(self._on_change, to=aspects)

    def close(self) -> None:
        """Bring about nothing any more. Idempotent."""
        self._unsubscribe()

    @property
    def now(self) -> Occupancy:
        """As this broker's own image and log tell."""
        storage = self._storage()
        node, epoch = self._key
        is_uploaded = storage is not None and storage.append.wal.is_trimmed
        return occupancy(self._metadata.image, node, epoch, is_uploaded=is_uploaded)

    def _on_change(self, change: MetadataChange) -> None:
        storage = self._storage()
        if self._is_uploading or storage is None or storage.append.wal.is_trimmed or storage.halted is not None:
            return
        if is_leaving(change.new, self._key) and has_nothing(change.new, self._key):
            self._is_uploading = True
            _ = self._tasks.spawn(self._upload(storage), name="upload of a drained broker")

    async def _upload(self, storage: Storage) -> None:
        try:
            await storage.upload.flush()
        except (BrokerFenced, StoreDamaged) as error:
            # The broker was told.
            log.info("the last upload of a drained broker was given up", extra={"why": str(error)})
        finally:
            self._is_uploading = False


class OccupancyMetrics:
    """The same for whoever scrapes; nothing before the broker is registered."""

    def __init__(self, metrics: Metrics, now: Callable[[], Occupancy | None]) -> None:
        self._now = now
        self._led = metrics.declare(
            "automq_led_partitions", "gauge", "Partitions that the metadata say this node leads"
        )
        self._empty = metrics.declare(
            "automq_broker_empty", "gauge", "1 while this broker is to go and nothing is left here, else 0"
        )
        self._epoch = metrics.declare("automq_broker_epoch", "gauge", "The epoch of this incarnation of the broker")
        metrics.export(self._collect)

    def _collect(self) -> Iterator[Metric]:
        now = self._now()
        led, empty, epoch = self._led.gauges(), self._empty.gauges(), self._epoch.gauges()
        if now is not None:
            led.add_metric([], now.led)
            empty.add_metric([], int(now.is_empty))
            epoch.add_metric([], now.epoch)
        yield from (led, empty, epoch)
