"""Brokers over one bucket and a real controller, in virtual time: one dies, the others go on with what it had."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from automq.controller.broker_ports import BrokerObjects, BrokerStreams
from automq.controller.client import ControllerClient
from automq.controller.heartbeats import Heartbeats
from automq.controller.model import BrokerLoad, ControllerSettings, TopicSpec
from automq.controller.serving import LocalLink
from automq.controller.topics import create_topics
from automq.ids import BrokerEpoch, NodeId, Offset, StreamId
from automq.metadata.image import MetadataImage
from automq.protocol.errors import ApiError, ErrorCode
from automq.runtime.entropy import SeededEntropy
from automq.runtime.ledger import MemoryLedger, split_memory
from automq.runtime.tasks import Tasks
from automq.runtime.telemetry import Metrics
from automq.s3stream.model import BrokerFenced, RecoveredLog, StoreDamaged, Unplaced
from automq.s3stream.ports import ObjectStorage
from automq.s3stream.storage import Storage
from automq.s3stream.wal.format import slot_prefix
from automq.server.lifecycle.log_recovery import LogRecovery
from tests.support.engine import GIB, SMALL, append, durable, read_all
from tests.support.metadata_worlds import CLUSTER, NODE, FlakyStore, LoopClock, World

pytestmark = pytest.mark.looptime

OTHER, THIRD, FOURTH = NodeId(2), NodeId(3), NodeId(4)
# Nothing is uploaded before the death unless a test asks for it: everything is in the log.
LAZY = replace(SMALL, upload_interval_ms=3_600_000, upload_bytes=8 * 1024 * 1024)


class Broker:
    """One incarnation: its engine, its heartbeats, its recovery of others."""

    def __init__(self, cluster: "Cluster", node: NodeId, epoch: BrokerEpoch, *, store: ObjectStorage | None) -> None:
        self.me = (node, epoch)
        self.fences: list[BrokerFenced] = []
        self.damages: list[StoreDamaged] = []
        self.crashes: list[BaseException] = []
        self.tasks = Tasks(f"broker {node}", on_crash=lambda _name, error: self.crashes.append(error))
        client = ControllerClient(LocalLink(cluster.controller), cluster.published)
        metrics = Metrics()
        entropy = SeededEntropy(f"{node} {epoch}")
        self.storage = Storage(
            settings=LAZY,
            ledger=MemoryLedger({**split_memory(GIB), **LAZY.limits()}, metrics),
            cluster_id=CLUSTER,
            node=node,
            epoch=epoch,
            store=cluster.world.store if store is None else store,
            objects=BrokerObjects(controller=client, metadata=cluster.published, node=node, epoch=epoch),
            streams=BrokerStreams(controller=client, metadata=cluster.published, node=node, epoch=epoch),
            clock=LoopClock(),
            entropy=entropy,
            tasks=self.tasks,
            metrics=metrics,
            on_fenced=self.fences.append,
            on_damaged=self.damages.append,
        )
        self.recovery = LogRecovery(
            cluster_id=CLUSTER,
            node=node,
            storage=self.storage,
            controller=client,
            metadata=cluster.published,
            entropy=entropy,
            tasks=self.tasks,
            on_damaged=self.damages.append,
        )
        self.heartbeats = Heartbeats(
            link=LocalLink(cluster.controller),
            metadata=cluster.published,
            node=node,
            epoch=epoch,
            clock=LoopClock(),
            load=BrokerLoad,
            on_fenced=self.fences.append,
        )

    def start(self) -> None:
        self.storage.start()
        self.recovery.start()
        _ = self.tasks.spawn(self.heartbeats.run(), name="heartbeats")

    async def die(self) -> None:
        """As kill -9."""
        self.recovery.stop()
        self.storage.abandon()
        await self.tasks.close()
        assert self.crashes == []


class Cluster:
    """A controller whose own broker is `NODE`, and others."""

    def __init__(self) -> None:
        self.world = World()
        self.brokers: dict[NodeId, Broker] = {}
        self.acknowledged: dict[StreamId, Offset] = {}

    async def begin(self, *nodes: NodeId, partitions: int = 6) -> None:
        """In the test itself: only there time is virtual."""
        self.controller, self.published = await self.world.started("first")
        for node in (NODE, *nodes):
            await self.join(node)
        made = await self.controller._call_in_turns(
            lambda image: create_topics(
                image,
                [TopicSpec(name="t", partitions=partitions)],
                settings=ControllerSettings(),
                new_id=lambda: uuid.UUID(int=1),
                validate_only=False,
            )
        )
        assert [result.error for result in made] == [None]

    async def join(self, node: NodeId, *, store: ObjectStorage | None = None) -> Broker:
        registration = await self.controller.register_broker(node, rack=None, endpoints=())
        broker = self.brokers[node] = Broker(self, node, registration.epoch, store=store)
        await broker.recovery.open_own(registration.wals)
        broker.start()
        return broker

    @property
    def image(self) -> MetadataImage:
        return self.published.image

    def led_by(self, node: NodeId) -> Sequence[StreamId]:
        return [part.stream for _topic, part in self.image.owned_partitions(node) if self.image.is_led(part)]

    async def produce(self, node: NodeId, batches: int = 5, *, size: int = 400) -> None:
        """Acknowledged batches of three records to everything that `node` leads."""
        storage = self.brokers[node].storage
        for number in self.led_by(node):
            stream = storage.open_stream(number)
            position = -1
            for _ in range(batches):
                position = append(stream, 3, size=size)
            await durable(storage, position)
            self.acknowledged[number] = stream.next_offset

    async def until_all_are_led(self, *, within_s: float = 60) -> None:
        async with asyncio.timeout(within_s):
            while not all(self.image.is_led(part) for topic in self.image.topics() for part in topic.partitions):
                await asyncio.sleep(0.1)

    async def check(self) -> None:
        """Every acknowledged record is where it was, once, and its stream goes on right behind."""
        for number, end in sorted(self.acknowledged.items()):
            owner = self.image.streams[number]
            storage = self.brokers[owner.owner].storage
            stream = storage.open_stream(number)
            assert stream.next_offset == end
            assert await read_all(stream) == list(range(0, end, 3))
            await durable(storage, append(stream, 3))
            assert stream.confirmed_offset == end + 3

    async def end(self) -> None:
        for broker in self.brokers.values():
            await broker.die()
        await self.world.close()
        assert self.world.crashes == []


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    made = Cluster()
    yield made
    await made.end()


async def test_what_a_killed_broker_acknowledged_is_there_and_writable_on_the_others(cluster: Cluster) -> None:
    await cluster.begin(OTHER, THIRD)
    for node in (NODE, OTHER, THIRD):
        await cluster.produce(node)
    doomed = cluster.brokers.pop(OTHER)
    had = cluster.led_by(OTHER)
    assert len(had) == 2
    began = asyncio.get_running_loop().time()
    await doomed.die()
    await asyncio.sleep(4)
    await cluster.until_all_are_led()
    assert asyncio.get_running_loop().time() - began < 5
    assert {cluster.image.streams[number].owner for number in had} == {NODE, THIRD}
    assert not any(key[0] == OTHER for key in cluster.image.wals)
    for node in (NODE, THIRD):
        # What they had goes on as before.
        assert cluster.brokers[node].fences == []
    kept = [number for number in cluster.acknowledged if number not in had]
    cluster.acknowledged = {number: cluster.acknowledged[number] for number in had}
    await cluster.check()
    assert kept


async def test_half_of_a_cluster_dies_at_once(cluster: Cluster) -> None:
    await cluster.begin(OTHER, THIRD, FOURTH, partitions=8)
    for node in (OTHER, THIRD):
        await cluster.produce(node)
    for node in (OTHER, THIRD):
        await cluster.brokers.pop(node).die()
    await asyncio.sleep(4)
    await cluster.until_all_are_led()
    assert {wal[0] for wal in cluster.image.wals} == {NODE, FOURTH}
    await cluster.check()


async def die_after_producing(cluster: Cluster, *count: int) -> tuple[NodeId, BrokerEpoch]:
    """Broker OTHER is gone, with records in its log; which incarnation that was."""
    await cluster.produce(OTHER, *count)
    dead = cluster.brokers.pop(OTHER)
    log = dead.me
    await dead.die()
    return log


def flaky_store(cluster: Cluster) -> FlakyStore:
    store = cluster.world.store
    assert isinstance(store, FlakyStore)
    return store


async def test_a_recoverer_that_dies_in_the_middle_is_replaced_and_nothing_is_doubled(cluster: Cluster) -> None:
    await cluster.begin(OTHER, THIRD)
    log = await die_after_producing(cluster, 40)
    third = cluster.brokers[THIRD]
    await cluster.controller.fence_broker(*log, recoverer=third.me)
    # It has uploaded something, or is about to: whatever it has done counts, and nothing twice.
    for _ in range(12):
        await asyncio.sleep(0)
    await cluster.brokers.pop(THIRD).die()
    await asyncio.sleep(4)
    await cluster.until_all_are_led()
    assert {key[0] for key in cluster.image.wals} == {NODE}
    await cluster.check()


async def test_recovery_waits_for_the_store_and_goes_on(cluster: Cluster) -> None:
    await cluster.begin(OTHER)
    log = await die_after_producing(cluster)
    await cluster.controller.fence_broker(*log, recoverer=cluster.brokers[NODE].me)
    store = flaky_store(cluster)
    store.is_down = True
    await asyncio.sleep(20)
    assert log in cluster.image.wals
    store.is_down = False
    await cluster.until_all_are_led()
    await cluster.check()


async def test_a_broker_that_comes_back_is_a_candidate_and_opens_nothing_too_early(cluster: Cluster) -> None:
    await cluster.begin(OTHER)
    log = await die_after_producing(cluster)
    held = cluster.brokers.pop(NODE)
    held.recovery.stop()
    await cluster.controller.fence_broker(*log, recoverer=held.me)
    await cluster.join(OTHER)
    assert cluster.led_by(OTHER) == [], "another broker recovers its log"
    cluster.brokers[NODE] = held
    held.recovery.start()
    await cluster.until_all_are_led()
    assert len(cluster.led_by(OTHER)) == 3
    await cluster.check()


async def test_a_damaged_slot_of_a_dead_brokers_log_pins_it_and_serves_the_rest(cluster: Cluster) -> None:
    await cluster.begin(OTHER)
    log = await die_after_producing(cluster)
    store = flaky_store(cluster)
    slots = await store.list(slot_prefix(CLUSTER, *log))
    await store.put(slots[0].key, [b"no slot"])
    await asyncio.sleep(6)
    assert cluster.image.wals[log].damage is not None
    assert cluster.led_by(NODE)
    quarantined = [part for _topic, part in cluster.image.owned_partitions(OTHER)]
    assert quarantined
    assert all(cluster.image.quarantine(part.stream) and not cluster.image.is_led(part) for part in quarantined)
    assert cluster.brokers[NODE].damages == []


async def test_a_live_broker_that_is_fenced_learns_of_it_by_its_heartbeat(cluster: Cluster) -> None:
    await cluster.begin(OTHER)
    other = cluster.brokers[OTHER]
    await cluster.controller.fence_broker(*other.me, recoverer=cluster.brokers[NODE].me)
    await asyncio.sleep(1.5)
    assert [str(fenced) for fenced in other.fences]


async def test_a_starting_node_that_is_named_for_its_own_log_recovers_it_before_it_opens(cluster: Cluster) -> None:
    await cluster.begin(OTHER, THIRD)
    log = await die_after_producing(cluster)
    third = cluster.brokers[THIRD]
    third.recovery.stop()
    await cluster.controller.fence_broker(*log, recoverer=third.me)
    registration = await cluster.controller.register_broker(OTHER, rack=None, endpoints=())
    assert [wal.node for wal in registration.wals] == []
    # The recoverer dies before it has begun, and the choice falls on the newcomer.
    await cluster.brokers.pop(THIRD).die()
    newcomer = Broker(cluster, OTHER, registration.epoch, store=None)
    await cluster.controller.fence_broker(*third.me, recoverer=newcomer.me)
    assert cluster.image.wals[log].recoverer == newcomer.me
    await newcomer.recovery.open_own(registration.wals)
    assert log not in cluster.image.wals
    assert len(cluster.led_by(OTHER)) == 2
    cluster.brokers[OTHER] = newcomer
    newcomer.start()
    await cluster.until_all_are_led()
    await cluster.check()


async def test_a_serving_node_whose_former_log_is_damaged_gives_on_what_that_cannot_hold(
    monkeypatch: pytest.MonkeyPatch, cluster: Cluster
) -> None:
    await cluster.begin(OTHER, THIRD)
    log = await die_after_producing(cluster)
    third = cluster.brokers[THIRD]
    third.recovery.stop()
    await cluster.controller.fence_broker(*log, recoverer=third.me)
    other = await cluster.join(OTHER)
    held = [part.stream for _topic, part in cluster.image.owned_partitions(OTHER)]
    assert len(held) == 2
    real = other.storage.recover

    async def leaves_one_over(*args: Any, **kwargs: Any) -> RecoveredLog:
        found = await real(*args, **kwargs)
        end = cluster.image.streams[held[0]].end
        item = Unplaced(
            stream=held[0],
            epoch=cluster.image.streams[held[0]].epoch,
            start=Offset(end + 1),
            end=Offset(end + 2),
            expected=end,
            first_slot=0,
            end_slot=1,
        )
        return replace(found, unplaced=[item])

    monkeypatch.setattr(other.storage, "recover", leaves_one_over)
    await cluster.brokers.pop(THIRD).die()
    await cluster.controller.fence_broker(*third.me, recoverer=other.me)
    async with asyncio.timeout(10):
        while cluster.image.wals[log].damage is None:
            await asyncio.sleep(0.1)
    partitions = {part.stream: part for topic in cluster.image.topics() for part in topic.partitions}
    assert cluster.image.quarantine(held[0])
    assert cluster.image.is_led(partitions[held[1]]), "nobody would open it before the next start"


async def test_what_forbids_opening_and_is_not_ours_to_recover_is_no_endless_loop(
    monkeypatch: pytest.MonkeyPatch, cluster: Cluster
) -> None:
    await cluster.begin()
    broker = cluster.brokers[NODE]

    async def refuse(*_args: object) -> None:
        raise ApiError(ErrorCode.INVALID_REQUEST, "for some other reason")

    monkeypatch.setattr(broker.recovery._controller, "open_streams", refuse)
    with pytest.raises(ApiError, match="some other reason"):
        await broker.recovery.open_own(())
