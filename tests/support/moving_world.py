"""Two brokers and a controller over one store, without sockets between them: for what happens while partitions move.

Controller, engines, partitions and connections are the real ones; all of them see the image that the controller
publishes, at once, as in the process of a single broker.
"""

import asyncio
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

from automq.controller.broker_ports import BrokerObjects, BrokerStreams
from automq.controller.client import ControllerClient
from automq.controller.model import ControllerSettings, Reassignment, TopicSpec
from automq.controller.service import Controller
from automq.controller.serving import LocalLink
from automq.handlers.broker_configs import BrokerConfigs
from automq.handlers.context import Services
from automq.handlers.producer_ids import ProducerIds
from automq.ids import BrokerEpoch, NodeId, StreamId
from automq.metadata.publisher import MetadataPublisher
from automq.metadata.records import Endpoint
from automq.partition.content_worker import ContentWorker
from automq.partition.fetch_session import FetchSessions
from automq.partition.manager import PartitionManager, PartitionSettings
from automq.partition.partition import Partition
from automq.runtime.entropy import SeededEntropy
from automq.runtime.ledger import Account, MemoryLedger
from automq.runtime.tasks import Tasks
from automq.runtime.telemetry import Metrics
from automq.runtime.wall_time import WallTimeGuard
from automq.runtime.workers import InlineWorkers
from automq.s3stream.settings import StorageSettings
from automq.s3stream.storage import Storage
from automq.s3stream.store.memory import MemoryStore
from automq.server.config.memory import split_memory
from automq.server.network.connection import Connection
from automq.server.network.dispatch import DispatchTable
from automq.server.network.host import ListenerSettings
from automq.server.network.listener import KafkaServer
from tests.support.data_path import MemoryTransport
from tests.support.engine import GIB, SMALL, HeldStore
from tests.support.metadata_worlds import CLUSTER, LoopClock, World

TOPIC = "orders"


class MovingBroker:
    """One incarnation of a broker."""

    def __init__(self, world: "MovingWorld", node: NodeId, epoch: BrokerEpoch, settings: StorageSettings) -> None:
        self.node, self.epoch = node, epoch
        self.crashes: list[str] = []
        self.fenced: list[Exception] = []
        self.tasks = Tasks(f"broker {node}", on_crash=lambda name, error: self.crashes.append(f"{name}: {error!r}"))
        metadata, clock, entropy = world.metadata, LoopClock(), SeededEntropy(f"broker {node} {epoch}")
        self.client = ControllerClient(LocalLink(world.controller), metadata)
        self.metrics = Metrics()
        ledger = MemoryLedger({**split_memory(GIB), **settings.limits()}, self.metrics)
        self.objects = BrokerObjects(controller=self.client, metadata=metadata, node=node, epoch=epoch)
        self.storage = Storage(
            settings=settings,
            ledger=ledger,
            cluster_id=CLUSTER,
            node=node,
            epoch=epoch,
            store=world.store,
            objects=self.objects,
            streams=BrokerStreams(controller=self.client, metadata=metadata, node=node, epoch=epoch),
            clock=clock,
            entropy=entropy,
            tasks=self.tasks,
            metrics=self.metrics,
            on_fenced=self.fenced.append,
            on_damaged=lambda error: self.crashes.append(repr(error)),
        )
        contents = ContentWorker(InlineWorkers(), ledger[Account.RECEIVE])
        self.partitions = PartitionManager(
            node=node,
            storage=self.storage,
            metadata=metadata,
            settings=PartitionSettings(),
            clock=clock,
            aging=WallTimeGuard(clock, self.metrics),
            entropy=entropy,
            tasks=self.tasks,
            contents=contents,
            metrics=self.metrics,
        )
        table = DispatchTable()
        services = Services(
            node=node,
            cluster_id=CLUSTER,
            clock=clock,
            entropy=entropy,
            metadata=metadata,
            controller=self.client,
            partitions=self.partitions,
            groups=cast(Any, None),
            fetch_sessions=FetchSessions(),
            broker_configs=BrokerConfigs(entries={}, topic_defaults={}),
            producer_ids=cast(ProducerIds, SimpleNamespace()),
            api_versions=table.api_versions,
        )
        self.server = KafkaServer(
            table=table,
            services=services,
            storage=self.storage,
            ledger=ledger,
            settings=ListenerSettings(),
            contents=contents,
            tasks=self.tasks,
            metrics=self.metrics,
        )

    async def start(self) -> None:
        self.storage.start()
        await self.partitions.start()
        self.server.start()

    def connect(self) -> MemoryTransport:
        """A client of this broker."""
        return MemoryTransport(cast(Connection, self.server.protocol_factory("CLIENT")()))

    def partition(self, index: int = 0) -> Partition:
        """Raises ApiError where it is not open here."""
        return self.partitions.get(TOPIC, index)

    async def die(self) -> None:
        """As kill -9."""
        self.partitions.close()
        self.server.close()
        self.storage.abandon()
        await self.tasks.close()
        assert self.crashes == []


class MovingWorld:
    """The first broker has everything at the beginning."""

    def __init__(self, *, settings: StorageSettings = SMALL) -> None:
        self.settings = settings
        self.racks: Mapping[int, str] = {}
        self.store = HeldStore(MemoryStore())
        self._world = World(self.store)
        self.controller: Controller
        self.metadata: MetadataPublisher
        self.brokers: dict[NodeId, MovingBroker] = {}

    async def start(
        self, *, partitions: int = 1, nodes: int = 2, racks: Mapping[int, str] | None = None, factor: int | None = None
    ) -> "MovingWorld":
        self.racks = racks or {}
        # The brokers of this world send no heartbeats.
        settings = ControllerSettings(session_timeout_ms=10**9)
        self.controller, self.metadata = await self._world.started("controller", settings=settings)
        for number in range(1, nodes + 1):
            await self.join(NodeId(number))
            if number == 1:
                (made,) = await self.controller.create_topics(
                    [TopicSpec(name=TOPIC, partitions=partitions, replication_factor=factor)]
                )
                assert made.error is None
        return self

    async def join(self, node: NodeId) -> MovingBroker:
        """A new incarnation of `node`, which has recovered what it had."""
        endpoints = [Endpoint("CLIENT", f"broker-{node}", 9092)]
        registration = await self.controller.register_broker(node, rack=self.racks.get(node), endpoints=endpoints)
        broker = MovingBroker(self, node, registration.epoch, self.settings)
        us = (node, registration.epoch)
        for wal in registration.wals:
            await broker.storage.recover(wal.node, wal.epoch, wal.trim_to)
            await broker.client.wal_recovered(wal.node, wal.epoch, recoverer=us, recovered=cast(Any, None))
        await self.controller.open_streams(*us)
        await broker.start()
        self.brokers[node] = broker
        return broker

    def stream(self, index: int = 0) -> StreamId:
        """Of one partition."""
        topic = self.metadata.image.topic(TOPIC)
        assert topic is not None
        return topic.partitions[index].stream

    def leader(self, index: int = 0) -> NodeId:
        """Of one partition, by the image."""
        topic = self.metadata.image.topic(TOPIC)
        assert topic is not None
        return topic.partitions[index].leader

    async def wish(self, target: int | None, *indexes: int) -> None:
        """Somebody asks for partitions (the first) to be elsewhere, or not any more."""
        replicas = None if target is None else [NodeId(target)]
        wanted = [Reassignment(topic=TOPIC, index=index, replicas=replicas) for index in indexes or (0,)]
        for result in await self.controller.moves.reassign(wanted):
            assert result.error is None, result

    async def moved(self, target: int, *indexes: int) -> None:
        """Wish, and wait until all of them are open there."""
        await self.wish(target, *indexes)
        await self.until(lambda: all(self._is_open(target, index) for index in indexes or (0,)))

    def _is_open(self, target: int, index: int) -> bool:
        return self.brokers[NodeId(target)].partitions.find(TOPIC, index) is not None

    async def until(self, is_so: Any) -> None:
        """Wait for a state, in virtual time."""
        for _ in range(20_000):
            if is_so():
                return
            await asyncio.sleep(0.001)
        raise AssertionError("it has not come to pass")

    async def close(self) -> None:
        """End everything; what crashed fails the test."""
        for broker in self.brokers.values():
            await broker.die()
        await self._world.close()
