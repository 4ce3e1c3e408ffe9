"""Which partitions are open here: follows the metadata image.

A partition that becomes ours is opened, one that is not ours any more is closed, one whose config changed gets its new
rules. A partition nobody has written to opens at once, inside the change that made it; any other one is loaded from its
checkpoint, a bounded number at a time, and is not found until it is complete.
"""

import asyncio
import logging
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from immutables import Map

from automq.callbacks import ignore
from automq.ids import NodeId, StreamEpoch, StreamId, TopicId, TopicPartition
from automq.metadata.change import Aspect, MetadataChange
from automq.metadata.configs import NO_DEFAULTS, effective_topic_config
from automq.metadata.image import BROKER_RESOURCE, TOPIC_RESOURCE, MetadataImage, PartitionImage, TopicImage
from automq.metadata.publisher import MetadataPublisher
from automq.partition import retention_round
from automq.partition.arrivals import Arrivals
from automq.partition.checkpoint import CheckpointTooNew
from automq.partition.content_worker import ContentWorker
from automq.partition.damage import REMEDY, DamageLog, Quarantine
from automq.partition.departures import Departures
from automq.partition.open_partitions import OpenPartitions
from automq.partition.parking import Parking
from automq.partition.partition import Partition
from automq.partition.purgatory import Purgatory
from automq.partition.retention_round import PUT_OFF_BY
from automq.partition.rules import PartitionRules, rules_of
from automq.partition.traffic import UNCOUNTED, TrafficMeter
from automq.protocol.errors import ApiError, ErrorCode
from automq.runtime.backoff import Backoff
from automq.runtime.clock import Clock
from automq.runtime.entropy import Entropy
from automq.runtime.tasks import Tasks, repeat
from automq.runtime.telemetry import Metrics
from automq.runtime.turns import Pace, WorkQueue
from automq.runtime.wall_time import WallTimeGuard
from automq.s3stream.model import (
    BrokerFenced,
    FormatTooNew,
    StoreDamaged,
    StreamClosed,
    StreamError,
    StreamFenced,
    StreamNotFound,
)
from automq.s3stream.objects.index_cache import REEXAMINE_S
from automq.s3stream.ports import StoreError
from automq.s3stream.storage import Storage

log = logging.getLogger(__name__)

# Each holds one checkpoint and one read of its tail (1 MiB) at a time.
LOADS_MAX: Final = 32

# A broker serves what it has opened after so long; what takes longer, or fails, follows when it is ready.
OPENING_S_MAX: Final = 30.0

FOLLOWED: Final = (Aspect.TOPICS, Aspect.QUARANTINES, Aspect.CONFIGS, Aspect.MOVES)
# About how long each takes: many of them are done in several turns.
LOOK_US: Final = 5
OPEN_US: Final = 40
CLOSE_US: Final = 20
RULES_US: Final = 60

# Names in a message: enough to begin with, few enough for a line.
SHOWN_MAX: Final = 5

_Key = tuple[StreamId, StreamEpoch]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionSettings:
    """What a broker may tune."""

    retention_check_interval_ms: int = 300_000
    producer_id_expiration_ms: int = 86_400_000
    topic_defaults: Mapping[str, str] = NO_DEFAULTS
    """The broker's own defaults of topic configs, under the broker's names."""
    metric_topics_max: int = 200
    """Topics that have metrics of their own."""
    validates_records: bool = True
    """Whether the records of every produced batch are walked, as Kafka does."""


class PartitionManager:
    """The open partitions of this broker."""

    def __init__(
        self,
        *,
        node: NodeId,
        storage: Storage,
        metadata: MetadataPublisher,
        settings: PartitionSettings,
        clock: Clock,
        entropy: Entropy,
        tasks: Tasks,
        contents: ContentWorker,
        metrics: Metrics,
        aging: WallTimeGuard,
    ) -> None:
        """`aging` says what wall time is when it comes to deleting by age."""
        self.purgatory = Purgatory()
        self._node = node
        self._storage = storage
        self._metadata = metadata
        self._settings = settings
        self._aging = aging
        self._defaults = Map(settings.topic_defaults)
        self._validates_records = settings.validates_records
        self._clock, self._entropy, self._tasks, self._contents = clock, entropy, tasks, contents
        self.opened = OpenPartitions()
        self._wanted: dict[_Key, None] = {}
        """Streams of ours, open or being loaded."""
        self._by_stream: dict[StreamId, Partition] = {}
        self._unopened: dict[_Key, tuple[TopicPartition, Quarantine]] = {}
        """Streams of ours that cannot be opened at all, and why."""
        self.quarantine_changes = 0
        """Raised whenever `is_quarantined` may answer otherwise than before: for whoever keeps its answers."""
        self._damage = DamageLog(clock=clock, metrics=metrics)
        self.traffic = TrafficMeter(metrics, topics_max=settings.metric_topics_max, now=clock.monotonic)
        self._loading = asyncio.Semaphore(LOADS_MAX)
        self._following = WorkQueue(tasks, name="follow the metadata")
        self._arrivals = Arrivals((node, storage.epoch), metadata)
        self._departures = Departures(
            node=node,
            storage=storage,
            metadata=metadata,
            opened=self._by_stream.get,
            clock=clock,
            tasks=tasks,
            metrics=metrics,
        )
        self._unsubscribe: Callable[[], None] = ignore
        gauge = metrics.gauge("automq_open_partitions", "Partitions that this broker owns and serves")
        gauge.set_function(lambda: self.open_count)
        self._ranges_metric = metrics.gauge(
            "automq_partition_objects_max", "Most objects that hold one open partition, at the last round of retention"
        )
        quarantined = metrics.gauge(
            "automq_quarantined_partitions", "Partitions of this broker that take no records because of damage"
        )
        quarantined.set_function(lambda: len(self.quarantined()))

    async def start(self) -> None:
        """Open all that is ours, then follow the image.

        Returns when everything that can be served is served, or when the rest has been waited for long enough.
        """
        image = self._metadata.image
        self._unsubscribe = self._metadata.subscribe(self._on_change, to=FOLLOWED)
        pending, pace = list[asyncio.Task[None]](), Pace()
        for topic, partition in image.owned_partitions(self._node):
            if not self._is_ours(image, partition):
                continue
            load = self._open_if_ours(topic.topic_id, partition)
            if load is not None:
                pending.append(load)
            await pace.spend(OPEN_US)
        if pending:
            _, late = await asyncio.wait(pending, timeout=OPENING_S_MAX)
            if late:
                log.warning(
                    "serving before every partition is open", extra={"open": len(self.all()), "late": len(late)}
                )
        self._departures.follow_all()
        interval_s = self._settings.retention_check_interval_ms / 1000
        for work, name, pause_s in (
            (self.retain, "retention", interval_s),
            (self.reopen_restored, "look at damage", REEXAMINE_S * 2),
        ):
            pause = partial(asyncio.sleep, pause_s)
            _ = self._tasks.spawn(repeat(work, name=name, pause=pause, survives=PUT_OFF_BY), name=name)

    def close(self) -> None:
        """Close every partition and follow nothing any more."""
        self._unsubscribe()
        self._departures.close()
        self._following.clear()
        self._wanted.clear()
        for partition in self.all():
            self._drop(partition)

    @property
    def open_count(self) -> int:
        """Partitions that are served."""
        return len(self._by_stream)

    # Lookup.

    def find(self, topic: str, index: int) -> Partition | None:
        """The open partition, or None: `refusal` says why."""
        return self.opened.find(topic, index)

    def find_by_id(self, topic_id: TopicId, index: int) -> Partition | None:
        """The open partition, or None: `refusal_by_id` says why."""
        return self.opened.find_by_id(topic_id, index)

    def get(self, topic: str, index: int) -> Partition:
        """Raises ApiError UNKNOWN_TOPIC_OR_PARTITION, NOT_LEADER_OR_FOLLOWER."""
        partition = self.find(topic, index)
        if partition is None:
            raise self.refusal(topic, index)
        return partition

    def refusal(self, topic: str, index: int) -> ApiError:
        """Why there is no such partition here."""
        return self._refusal(self._metadata.image.topic(topic), index, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)

    def refusal_by_id(self, topic_id: TopicId, index: int) -> ApiError:
        """Why there is no such partition here."""
        return self._refusal(self._metadata.image.topic_by_id(topic_id), index, ErrorCode.UNKNOWN_TOPIC_ID)

    def _refusal(self, topic: TopicImage | None, index: int, unknown: ErrorCode) -> ApiError:
        if topic is None:
            return ApiError(unknown)
        part = topic.partition(index)
        if part is None:
            return ApiError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        unopened = self._unopened.get((part.stream, part.leader_epoch))
        if unopened is not None:
            return ApiError(ErrorCode.KAFKA_STORAGE_ERROR, unopened[1].reason)
        # Another broker's, or ours and not open yet: the client refreshes its metadata and comes again.
        return ApiError(ErrorCode.NOT_LEADER_OR_FOLLOWER)

    def arrival(self, topic: TopicImage, index: int) -> Parking | None:
        """Where to wait, for a moment, for a partition that is about to be opened here; None when it is not."""
        part = topic.partition(index)
        if part is None:
            return None
        key = (part.stream, part.leader_epoch)
        return self._arrivals.at(topic, index, is_opening=key in self._wanted and key not in self._unopened)

    def all(self) -> list[Partition]:
        """Every open partition, in the order of opening within each topic."""
        return list(self.opened)

    def quarantined(self) -> dict[TopicPartition, Quarantine]:
        """Partitions of ours that take no append because of damage, and why."""
        found = {partition.name: partition.quarantine for partition in self.all() if partition.quarantine is not None}
        found.update(self._unopened.values())
        return found

    def is_quarantined(self, topic: str, index: int) -> bool:
        """Whether that partition is one of them."""
        partition = self.find(topic, index)
        if partition is not None:
            return partition.is_quarantined
        return bool(self._unopened) and TopicPartition(topic, index) in dict(self._unopened.values())

    def damage_summary(self) -> str | None:
        """What is known to be damaged, for a person; None when nothing is."""
        quarantined = self.quarantined()
        keys = {quarantine.key: None for quarantine in quarantined.values()} | dict.fromkeys(self._damage.keys)
        if not keys:
            return None
        names = ", ".join(sorted(map(str, quarantined))[:SHOWN_MAX])
        more = f" and {len(quarantined) - SHOWN_MAX} more" if len(quarantined) > SHOWN_MAX else ""
        shown = ", ".join(sorted(keys)[:SHOWN_MAX])
        quarantined_text = f"{len(quarantined)} partitions take no records: {names}{more}; " if quarantined else ""
        return f"{quarantined_text}{len(keys)} keys are damaged or missing, such as {shown}: {REMEDY}"

    # Following the image.

    def _on_change(self, change: MetadataChange) -> None:
        """What is little is done when this returns; where much has changed the rest follows, in order."""
        if change.topics:
            self._following.add(self._follow_topics(change))
        if change.quarantines:
            self._following.add(self._follow_quarantines(change.quarantines))
        if change.configs:
            self._following.add(self._follow_configs(change.configs))
        if change.moves:
            self._departures.follow(change.moves)

    def _follow_topics(self, change: MetadataChange) -> Generator[int, None, None]:
        for topic_id in change.topics:
            before = change.old.topic_by_id(topic_id)
            if before is not None:
                yield from self._close_lost(before)
            topic = self._metadata.image.topic_by_id(topic_id)
            for partition in () if topic is None else topic.partitions:
                is_known = (partition.stream, partition.leader_epoch) in self._wanted
                self._open_if_ours(topic_id, partition)
                yield 1 if is_known or not self._is_ours(self._metadata.image, partition) else OPEN_US
            yield LOOK_US

    def _follow_quarantines(self, streams: Iterable[StreamId]) -> Generator[int, None, None]:
        for stream in streams:
            partition = self._by_stream.get(stream)
            if partition is not None:
                self._set_causes(partition, self._metadata.image)
            yield LOOK_US

    def _follow_configs(self, resources: Iterable[tuple[int, str]]) -> Generator[int, None, None]:
        ours = (BROKER_RESOURCE, ""), (BROKER_RESOURCE, str(self._node))
        is_for_all = any(resource in ours for resource in resources)
        names = self.opened.topics() if is_for_all else [name for kind, name in resources if kind == TOPIC_RESOURCE]
        for name in names:
            partitions = self.opened.of_topic(name)
            if partitions:
                rules = self._rules(name)
                for partition in partitions.values():
                    partition.rules = rules
                yield RULES_US + len(partitions) // 10
            yield LOOK_US

    def _close_lost(self, before: TopicImage) -> Generator[int, None, None]:
        """Close what the image does not show as ours any more, and was."""
        image = self._metadata.image
        topic = image.topic_by_id(before.topic_id)
        kept = {} if topic is None else {part.stream: part for part in topic.partitions if self._is_ours(image, part)}
        for partition in before.partitions:
            now = kept.get(partition.stream)
            if now is None or now.leader_epoch != partition.leader_epoch:
                self._wanted.pop((partition.stream, partition.leader_epoch), None)
                if self._unopened.pop((partition.stream, partition.leader_epoch), None) is not None:
                    self.quarantine_changes += 1
                opened = self._by_stream.get(partition.stream)
                if opened is not None and opened.leader_epoch == partition.leader_epoch:
                    self._drop(opened)
                    yield CLOSE_US
            yield 1

    def _open_if_ours(self, topic_id: TopicId, partition: PartitionImage) -> asyncio.Task[None] | None:
        """The image may have gone on since it showed `partition`."""
        key = (partition.stream, partition.leader_epoch)
        if key in self._wanted or not self._is_ours(self._metadata.image, partition):
            return None
        topic = self._metadata.image.topic_by_id(topic_id)
        if topic is None or topic.partitions[partition.index] is not partition:
            return None
        return self._open(topic, partition)

    def _is_ours(self, image: MetadataImage, partition: PartitionImage) -> bool:
        return image.is_leader(partition, self._node, self._storage.epoch)

    def _rules(self, topic: str) -> PartitionRules:
        image = self._metadata.image
        found = image.topic(topic)
        return rules_of(
            effective_topic_config(image, topic, self._node, self._defaults),
            batch_bytes_max=self._storage.append.batch_bytes_max,
            append_bytes_max=self._storage.append.append_bytes_max,
            is_internal=found is not None and found.is_internal,
            validates_records=self._validates_records,
        )

    # Opening and closing.

    def _open(self, topic: TopicImage, image: PartitionImage) -> asyncio.Task[None] | None:
        """Open at once what is empty; a task that loads it else."""
        self._wanted[image.stream, image.leader_epoch] = None
        try:
            partition = self._make(topic, image)
        except StreamError as error:
            self._fail_opening(topic, image, error)
            return None
        if partition.is_new:
            self._publish(partition)
            return None
        return self._tasks.spawn(self._load(partition, topic, image), name=f"open {partition.name}")

    def _make(self, topic: TopicImage, image: PartitionImage) -> Partition:
        return Partition(
            name=TopicPartition(topic.name, image.index),
            topic_id=topic.topic_id,
            stream=self._storage.open_stream(image.stream),
            rules=self._rules(topic.name),
            clock=self._clock,
            contents=self._contents,
            damage=self._damage,
        )

    def _set_causes(self, partition: Partition, image: MetadataImage) -> None:
        before = partition.quarantine
        partition.set_causes(image.quarantine(partition.stream_id))
        if partition.quarantine != before:
            self.quarantine_changes += 1
        if partition.quarantine is not None and partition.quarantine != before:
            self._log_quarantine(partition.name, partition.quarantine)

    def _log_quarantine(self, name: TopicPartition, quarantine: Quarantine) -> None:
        log.error(
            "partition quarantined: it takes no records",
            extra={"partition": str(name), "key": quarantine.key, "what": quarantine.reason, "remedy": REMEDY},
        )

    async def _load(self, partition: Partition, topic: TopicImage, image: PartitionImage) -> None:
        """Load the partition, for as long as it is ours and the store fails."""
        backoff = Backoff(entropy=self._entropy)
        key = (image.stream, image.leader_epoch)
        while key in self._wanted:
            try:
                async with self._loading:
                    await partition.load()
            except StoreError as error:
                log.warning("partition cannot be opened yet: %s: %s", partition.name, error)
                await asyncio.sleep(backoff.next_s())
                continue
            except (StreamError, CheckpointTooNew) as error:
                self._fail_opening(topic, image, error)
                return
            if key in self._wanted:
                self._publish(partition)
                return
        partition.close()

    def _fail_opening(self, topic: TopicImage, image: PartitionImage, error: Exception) -> None:
        """The partition stays closed until the image gives it another epoch; its clients are told to look elsewhere.

        Or, where there is no elsewhere, that its storage fails.
        """
        if not isinstance(error, BrokerFenced | StreamFenced | StreamClosed | StreamNotFound):
            name = TopicPartition(topic.name, image.index)
            key = error.key if isinstance(error, StoreDamaged | FormatTooNew) else f"checkpoint of {name}"
            quarantine = Quarantine(key=key, reason=str(error))
            self._unopened[image.stream, image.leader_epoch] = name, quarantine
            self.quarantine_changes += 1
            self._log_quarantine(name, quarantine)

    def _publish(self, partition: Partition) -> None:
        partition.on_advance = self.purgatory.advance
        partition.on_lost = self._drop
        partition.traffic = self.traffic.open(partition.name.topic, partition.stream_id)
        partition.begin()
        if partition.quarantine is not None:
            self.quarantine_changes += 1
            self._log_quarantine(partition.name, partition.quarantine)
        self._set_causes(partition, self._metadata.image)
        self.opened.add(partition)
        self._by_stream[partition.stream_id] = partition
        self._departures.opened(partition)
        self._arrivals.arrived(partition.name)

    def _drop(self, partition: Partition) -> None:
        """Take it out of the tables, so that nothing is served from it, and close its stream."""
        self.opened.remove(partition)
        if partition.quarantine is not None:
            self.quarantine_changes += 1
        if self._by_stream.get(partition.stream_id) is partition:
            del self._by_stream[partition.stream_id]
        self._departures.closed(partition)
        partition.close()
        self.traffic.close(partition.name.topic, partition.traffic)
        partition.traffic = UNCOUNTED

    async def reopen_restored(self) -> None:
        """Open anew what could not be read when it was opened, and can be by now: somebody has restored it."""
        for partition in self.all():
            try:
                is_restored = await partition.is_restored()
            except (StreamError, StoreError):
                continue
            if is_restored and partition.is_open:
                topic = self._metadata.image.topic_by_id(partition.topic_id)
                if topic is not None:
                    log.info("partition restored, opening it anew", extra={"partition": str(partition.name)})
                    self._drop(partition)
                    self._open(topic, topic.partitions[partition.name.partition])

    # Retention.

    async def retain(self) -> None:
        """One round over all partitions: records and producers that are too old go."""
        ranges = await retention_round.retain(
            list(self._by_stream.values()),
            self._storage,
            aging=self._aging,
            producer_id_expiration_ms=self._settings.producer_id_expiration_ms,
            ranges_of=self._ranges_of,
        )
        self._ranges_metric.set(ranges)

    def _ranges_of(self, partition: Partition) -> int:
        found = self._metadata.image.stream(partition.stream_id)
        return 0 if found is None else len(found.held.objects)
