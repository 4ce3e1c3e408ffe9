"""What a broker consists of once it knows its cluster: made in order, fenced at once, ended in the other order."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from automq.controller.broker_ports import BrokerObjects, BrokerStreams
from automq.controller.client import ControllerClient
from automq.controller.compactor import Compactor
from automq.controller.contact import Contact
from automq.controller.controller_metrics import ControllerMetrics
from automq.controller.heartbeats import Heartbeats
from automq.controller.model import BrokerLoad, ProducerIdBlock, Registration, TopicSpec
from automq.controller.service import Controller
from automq.coordinators.group.coordinator import GroupCoordinator
from automq.handlers.context import Services
from automq.handlers.producer_ids import ProducerIds
from automq.ids import BrokerEpoch, ClusterId
from automq.metadata.change import Aspect, MetadataChange
from automq.metadata.claim import ClaimantAddress
from automq.metadata.cluster import OpenedCluster
from automq.metadata.patience import Patience
from automq.metadata.publisher import MetadataPublisher
from automq.metadata.records import Endpoint
from automq.partition.content_worker import ContentWorker
from automq.partition.fetch_session import FetchSessions
from automq.partition.manager import PartitionManager
from automq.runtime.ledger import Account, MemoryLedger
from automq.runtime.tasks import Tasks
from automq.runtime.telemetry import Metrics
from automq.runtime.wall_time import LOOK_S, TrustedTime, WallTimeGuard
from automq.s3stream.compaction.worker import InProcessWorker
from automq.s3stream.model import BrokerFenced, FencedBy, StoreDamaged
from automq.s3stream.objects.format import object_key
from automq.s3stream.storage import Storage
from automq.server.after_fence import Former
from automq.server.compaction.process import counting
from automq.server.config.setting import Address
from automq.server.config.settings import Settings
from automq.server.lifecycle.controlled_shutdown import controlled_shutdown, end_in_order
from automq.server.lifecycle.log_recovery import LogRecovery
from automq.server.lifecycle.presence import AcknowledgedSlots, PresenceWatch, expectations
from automq.server.network.dispatch import HANDLER_TABLES, DispatchTable
from automq.server.network.listener import KafkaServer
from automq.server.observability.load_report import LoadReport
from automq.server.observability.observed_store import ObservedStore
from automq.server.observability.occupancy import OccupancyWatch
from automq.server.platform import Platform
from automq.server.surroundings import Surroundings
from automq.server.wiring import (
    broker_configs,
    compaction_read_bytes,
    compaction_settings,
    controller_settings,
    group_settings,
    listener_settings,
    node_of,
    partition_settings,
    storage_settings,
)

log = logging.getLogger(__name__)

INCARNATION_BYTES: Final = 16


class Components:
    """Order of life: `join`, `register`, `recover`, `open`; then `drain` or `halt`; then `close`."""

    def __init__(
        self,
        *,
        settings: Settings,
        platform: Platform,
        store: ObservedStore,
        cluster_id: ClusterId,
        metrics: Metrics,
        tasks: Tasks,
        on_fenced: Callable[[BrokerFenced], None],
        on_damaged: Callable[[StoreDamaged], None],
        former: Former | None = None,
        trusted_before: TrustedTime | None = None,
    ) -> None:
        """`former` is the incarnation that ended in this process before.

        `trusted_before` is the wall time that the last controller trusted, as its lease says.
        """
        self._former = former
        self._settings, self._platform, self._store = settings, platform, store
        self._metrics, self._tasks = metrics, tasks
        self._on_fenced, self._on_damaged = on_fenced, on_damaged
        self.cluster_id = cluster_id
        self._storage_settings = storage_settings(settings)
        self._ledger = MemoryLedger({**settings.memory, **self._storage_settings.limits()}, metrics)
        self.node = node_of(settings)
        self.epoch: BrokerEpoch | None = None
        self.incarnation = b""
        """Drawn for the registration; empty before it is asked for."""
        self.recovery: LogRecovery | None = None
        self._aging = WallTimeGuard(platform.clock, metrics, boot_id=platform.boot_id, before=trusted_before)
        self._controller_metrics = ControllerMetrics(metrics, lambda: self.metadata.image)
        self.roles = platform.roles(
            Surroundings(
                make_controller=self._make_controller,
                connect=lambda where, factory: platform.network.connect(
                    Address(host=where.host, port=where.port), factory
                ),
                on_log_read=lambda began: self.contact.prove(began),
                on_superseded=lambda why: on_fenced(BrokerFenced(why, by=FencedBy.METADATA_LOG)),
                store=store,
                cluster_id=cluster_id,
                node=self.node,
                owner=settings.cluster.owner,
                held_epoch=None if former is None else former.held_epoch,
                clock=platform.clock,
                entropy=platform.entropy,
                tasks=tasks,
            )
        )
        self.metadata = self.roles.metadata
        """What this broker knows: it may be behind what the controller has published."""
        session_s = settings.membership.session_timeout_ms / 1000
        self.contact = Contact(session_s=session_s, metadata=self.metadata, clock=platform.clock, metrics=metrics)
        self.client = ControllerClient(self.roles.link, self.metadata, on_behind=self.roles.notify)
        # The store itself tells of its outcomes.
        self._patience = Patience(entropy=platform.entropy, on_store=lambda _error: None)
        self.storage: Storage | None = None
        self.partitions: PartitionManager | None = None
        self.groups: GroupCoordinator | None = None
        self.server: KafkaServer | None = None
        self.compactor: Compactor | None = None
        self.occupancy: OccupancyWatch | None = None
        """Once this process is registered."""
        self._compaction: asyncio.Task[None] | None = None
        self._presence: asyncio.Task[None] | None = None
        self._heartbeats: asyncio.Task[None] | None = None
        self._unsubscribe: Callable[[], None] = lambda: None
        self._load_report: LoadReport | None = None
        """Once partitions are open."""

    def _make_controller(self, publisher: MetadataPublisher, on_lost: Callable[[str], None]) -> Controller:
        """See `Surroundings.make_controller`."""
        platform = self._platform
        return Controller(
            settings=controller_settings(self._settings),
            cluster_id=self.cluster_id,
            node=self.node,
            store=self._store,
            publisher=publisher,
            key_of=lambda object_id: object_key(self.cluster_id, object_id),
            clock=platform.clock,
            entropy=platform.entropy,
            tasks=self._tasks,
            metrics=self._controller_metrics,
            on_fenced=on_lost,
            on_damaged=self._on_damaged,
            # The store itself tells of its outcomes.
            on_store=lambda _error: None,
            trusted_time=lambda: self._aging.trusted if platform.boot_id else None,
            snapshot_memory=self._ledger.snapshots,
            where=self.roles.address,
        )

    @property
    def controller(self) -> Controller:
        """This process's own, which holds the claim."""
        assert self.roles.controller is not None
        return self.roles.controller

    def damage_summary(self) -> str | None:
        """What is known to be damaged, for people; None when nothing is."""
        controller, partitions = self.roles.controller, self.partitions
        found = [
            None if controller is None else controller.damage_summary(),
            None if partitions is None else partitions.damage_summary(),
        ]
        return "; ".join(summary for summary in found if summary is not None) or None

    async def join(self, opened: OpenedCluster, where: ClaimantAddress) -> None:
        """Find the controller, or become it; other brokers reach this one at `where`.

        Where a former process of this node was the controller, it is being fenced from here on.
        """
        self.roles.address = where
        await self.roles.start(opened)

    async def register(self, endpoints: Sequence[Endpoint]) -> Registration:
        """A new incarnation of this node, however long there is no controller."""
        # Drawn once: by it a repeat is recognised.
        self.incarnation = self._platform.entropy.token(INCARNATION_BYTES)
        registration = await self._patience.retry_forever(
            lambda: self.client.register_broker(
                self.node,
                rack=self._settings.node.rack,
                endpoints=endpoints,
                incarnation=self.incarnation,
                after=None if self._former is None else self._former.epoch,
            )
        )
        self.epoch = registration.epoch
        self._unsubscribe = self.metadata.subscribe(self._on_brokers, to=(Aspect.BROKERS,))
        self.occupancy = OccupancyWatch(
            metadata=self.metadata,
            node=self.node,
            epoch=registration.epoch,
            storage=lambda: self.storage,
            tasks=self._tasks,
        )
        self._speak(registration.epoch)
        return registration

    @property
    def newest_epoch(self) -> BrokerEpoch | None:
        """Of the newest incarnation of this process that is known to be registered."""
        return self._former.epoch if self.epoch is None and self._former is not None else self.epoch

    def _on_brokers(self, change: MetadataChange) -> None:
        """Rule: whoever reads in the metadata that it is fenced or superseded is done, whoever told it."""
        if self.node in change.brokers and self.epoch is not None:
            us = change.new.broker(self.node)
            if us is None or us.epoch != self.epoch or us.fenced:
                self._on_fenced(BrokerFenced(f"broker {self.node} at epoch {self.epoch} is fenced in the metadata"))

    async def recover(self, registration: Registration) -> None:
        """Read what former incarnations left in their write-ahead logs, then open our streams.

        A log that is damaged is left as it is, and what it may hold is quarantined: everything else is served. Logs of
        other nodes, which a former incarnation was recovering, are recovered beside serving.
        """
        self.storage = self._make_storage(registration.epoch)
        self.recovery = LogRecovery(
            cluster_id=self.cluster_id,
            node=self.node,
            storage=self.storage,
            controller=self.client,
            metadata=self.metadata,
            entropy=self._platform.entropy,
            tasks=self._tasks,
            on_damaged=self._on_damaged,
        )
        await self.recovery.open_own(registration.wals)

    async def open(self) -> KafkaServer:
        """Open partitions and groups; who serves connections from now on."""
        assert self.storage is not None
        self.storage.start()
        self._watch_presence(self.storage)
        self._start_compaction(self.storage.epoch)
        platform, aging = self._platform, self._aging
        _ = self._tasks.spawn(_check_wall_time(aging), name="wall time")
        contents = ContentWorker(platform.workers, self._ledger[Account.RECEIVE])
        self.partitions = PartitionManager(
            node=self.node,
            storage=self.storage,
            metadata=self.metadata,
            settings=partition_settings(self._settings),
            clock=platform.clock,
            entropy=platform.entropy,
            tasks=self._tasks,
            contents=contents,
            metrics=self._metrics,
            aging=aging,
        )
        self.groups = GroupCoordinator(
            node=self.node,
            epoch=self.storage.epoch,
            settings=group_settings(self._settings),
            metadata=self.metadata,
            partitions=self.partitions,
            when_durable=self.storage.append.when_durable,
            create_topic=self._create_internal_topic,
            clock=platform.clock,
            aging=aging,
            tasks=self._tasks,
            metrics=self._metrics,
        )
        await self.partitions.start()
        self.groups.start()
        self._load_report = LoadReport(
            partitions=self.partitions, storage=self.storage, clock=platform.clock, loop_cpu_s=platform.loop_cpu_s
        )
        _ = self._tasks.spawn(self._load_report.run(), name="measure loads")
        table = DispatchTable(HANDLER_TABLES)
        services = Services(
            node=self.node,
            cluster_id=self.cluster_id,
            clock=platform.clock,
            entropy=platform.entropy,
            metadata=self.metadata,
            controller=self.client,
            partitions=self.partitions,
            groups=self.groups,
            fetch_sessions=FetchSessions(self._settings.server.fetch_session_slots),
            broker_configs=broker_configs(self._settings),
            producer_ids=ProducerIds(self._allocate_producer_ids),
            api_versions=table.api_versions,
        )
        self.server = KafkaServer(
            table=table,
            services=services,
            storage=self.storage,
            ledger=self._ledger,
            settings=listener_settings(self._settings, descriptors=platform.descriptors),
            contents=contents,
            tasks=self._tasks,
            metrics=self._metrics,
        )
        self.server.contact = self.contact
        self.server.start()
        if self.recovery is not None:
            self.recovery.start()
        return self.server

    def halt(self, error: BrokerFenced | StoreDamaged) -> None:
        """Nothing of this incarnation may answer, acknowledge or write any more. Synchronous, idempotent."""
        self._stop_compaction()
        self._fall_silent()
        if self._presence is not None:
            self._presence.cancel()
        if self.server is not None:
            self.server.close()
        if self.groups is not None:
            self.groups.fence()
        if self.storage is not None:
            self.storage.halt(error)
        if self.partitions is not None:
            self.partitions.close()

    async def drain(self) -> None:
        """Answer what is in flight, upload the tail, trim the write-ahead log. Cancel to cut short: nothing is lost.

        The upload does not wait for clients to take their answers.
        """
        self._stop_compaction()
        gave_all = self.epoch is not None and await controlled_shutdown(
            self.client, self.metadata, self.node, self.epoch
        )
        if self.groups is not None:
            # First: members that wait for their group's other members would keep the drain waiting, too.
            self.groups.close()
        flushing: asyncio.Task[None] | None = None
        if self.server is not None:
            await self.server.drain()
            flushing = self._tasks.spawn(self.server.flush(), name="last answers")
        if self.storage is not None:
            await self.storage.close(upload=True)
        await self.roles.resign()
        if flushing is not None:
            await flushing
        if gave_all and self.epoch is not None:
            # From here on nothing of this incarnation is wanted: that it is fenced is no news.
            self._unsubscribe()
            self._fall_silent()
            if self._presence is not None:
                self._presence.cancel()
            await end_in_order(self.client, self.node, self.epoch)

    async def close(self) -> None:
        """End what still runs, timers included; nothing waits for the store here."""
        self._stop_compaction()
        self._fall_silent()
        if self.server is not None:
            self.server.close()
        if self.groups is not None:
            self.groups.close()
        if self.storage is not None:
            self.storage.abandon()
        if self.partitions is not None:
            self.partitions.close()
        await self.roles.close()

    def _fall_silent(self) -> None:
        """Nobody is told that this incarnation is there, and nothing of others is recovered."""
        if self._heartbeats is not None:
            self._heartbeats.cancel()
        if self.recovery is not None:
            self.recovery.stop()
        self.contact.close()
        if self.occupancy is not None:
            self.occupancy.close()

    def _speak(self, epoch: BrokerEpoch) -> None:
        """Tell the controller again and again that this incarnation is there."""
        heartbeats = Heartbeats(
            link=self.roles.heartbeat_link,
            on_silence=self.roles.renew_heartbeats,
            metadata=self.metadata,
            node=self.node,
            epoch=epoch,
            clock=self._platform.clock,
            interval_s=self._settings.membership.interval_s,
            on_session=self.contact.follow_session,
            on_proof=self.contact.prove,
            load=lambda: BrokerLoad() if self._load_report is None else self._load_report.load(),
            on_fenced=self._on_fenced,
        )
        self._heartbeats = self._tasks.spawn(heartbeats.run(), name="heartbeats")

    def _make_objects(self, epoch: BrokerEpoch) -> BrokerObjects:
        return BrokerObjects(controller=self.client, metadata=self.metadata, node=self.node, epoch=epoch)

    def _make_streams(self, epoch: BrokerEpoch) -> BrokerStreams:
        return BrokerStreams(
            controller=self.client,
            metadata=self.metadata,
            node=self.node,
            epoch=epoch,
            topic_defaults=self._settings.topic_defaults,
        )

    def _start_compaction(self, epoch: BrokerEpoch) -> None:
        """Small objects are merged for as long as this incarnation lives; a job that is cut short changed nothing."""
        section, platform = self._settings.compaction, self._platform
        if not section.enabled:
            return
        read_bytes = compaction_read_bytes(self._settings)
        self.compactor = Compactor(
            settings=compaction_settings(self._settings),
            bytes_per_second=section.bytes_per_second,
            cluster_id=self.cluster_id,
            node=self.node,
            epoch=epoch,
            controller=self.client,
            metadata=self.metadata,
            class_of=self._make_streams(epoch).retention_class,
            worker=platform.compaction_worker(self._settings, read_bytes, counting(self._store.requests, self._metrics))
            or InProcessWorker(store=self._store, clock=platform.clock, read_bytes=read_bytes),
            memory=self._ledger[Account.COMPACTION],
            metrics=self._metrics,
        )
        work = self.compactor.run(interval_s=section.interval_ms / 1000)
        self._compaction = self._tasks.spawn(work, name="compaction")

    def _stop_compaction(self) -> None:
        if self._compaction is not None:
            self._compaction.cancel()

    def _watch_presence(self, storage: Storage) -> None:
        """Nothing is acknowledged for long once the store has lost what must be there."""
        slots = AcknowledgedSlots(storage.append)
        watch = PresenceWatch(
            store=self._store,
            expectations=expectations(cluster_id=self.cluster_id, claimed=lambda: self.roles.newest_epoch, slots=slots),
            besides=slots.when_quiet,
            confirm=self._make_objects(storage.epoch).confirm,
            on_lost=storage.damage,
            clock=self._platform.clock,
        )
        self._presence = self._tasks.spawn(watch.run(), name="presence watch")

    def _make_storage(self, epoch: BrokerEpoch) -> Storage:
        return Storage(
            settings=self._storage_settings,
            ledger=self._ledger,
            cluster_id=self.cluster_id,
            node=self.node,
            epoch=epoch,
            store=self._store,
            objects=self._make_objects(epoch),
            streams=self._make_streams(epoch),
            clock=self._platform.clock,
            entropy=self._platform.entropy,
            tasks=self._tasks,
            metrics=self._metrics,
            on_fenced=self._on_fenced,
            on_damaged=self._on_damaged,
        )

    async def _allocate_producer_ids(self, count: int) -> ProducerIdBlock:
        assert self.epoch is not None
        return await self.client.allocate_producer_ids(self.node, self.epoch, count)

    async def _create_internal_topic(
        self, *, name: str, partitions: int, replication_factor: int, configs: Mapping[str, str]
    ) -> None:
        spec = TopicSpec(
            name=name,
            partitions=partitions,
            replication_factor=replication_factor,
            configs=dict(configs),
            is_internal=True,
        )
        (result,) = await self.client.create_topics([spec])
        if result.error is not None:
            raise result.error
        log.info("internal topic created", extra={"target": name, "partitions": partitions})


async def _check_wall_time(aging: WallTimeGuard) -> None:
    """However seldom something is deleted by age, a jump of wall time is noticed, and said, within a minute."""
    while True:
        await asyncio.sleep(LOOK_S)
        _ = aging.is_in_doubt()
