"""The balancer of a cluster that lives: loads are noisy, measured late and averaged, and moves take their time.

Every ten seconds it plans, as a controller does; what it plans has arrived five seconds later. What brokers tell is
made as they make it: averages that forget, of the heaviest partitions one by one. It must even out what is uneven, come
to rest, and never take back what it did.
"""

import math
import random
import uuid
from collections import Counter, defaultdict

import pytest

from automq.controller.balancer import MOVES_MAX
from automq.controller.balancing import Balancing
from automq.controller.controller_metrics import BalancerMetrics
from automq.controller.model import BrokerLoad, PartitionLoad
from automq.controller.moves import drain
from automq.ids import BrokerEpoch, NodeId, StreamId, TopicId
from automq.metadata.image import BROKER_RESOURCE, DRAINING_CONFIG, EMPTY
from automq.metadata.records import (
    BrokerRegistered,
    ConfigChanged,
    MetadataRecord,
    NewPartition,
    PartitionsCreated,
    StreamOpening,
    StreamsOpened,
    TopicCreated,
)
from automq.metadata.replay import replay_all
from automq.partition.load import FORGET_S
from automq.runtime.telemetry import Metrics
from automq.steps import at_once
from tests.unit.broker.controller.test_balancing import StoppedClock

TOPIC = TopicId(uuid.UUID(int=1))
PLAN_S, ARRIVE_S = 10, 5
NOISE = 0.1
TOLD_MAX = 50
CPU_PER_BYTE = 0.6 / 100e6


class Cluster:
    """`rates` are the true bytes a second of partitions, which brokers measure with noise."""

    def __init__(self, *, brokers: int, partitions: int, seed: int) -> None:
        self.random = random.Random(seed)
        self.clock = StoppedClock()
        self.rates: dict[StreamId, float] = {}
        self.averages: dict[tuple[NodeId, StreamId], float] = {}
        self.loads: dict[NodeId, BrokerLoad] = {}
        self.image = EMPTY
        self.sources: dict[StreamId, list[NodeId]] = defaultdict(list)
        self.under_way_max = 0
        for node in range(1, brokers + 1):
            self.join(node)
        parts = tuple(
            NewPartition(index=n, stream=StreamId(n + 1), leader=NodeId(n % brokers + 1)) for n in range(partitions)
        )
        self.replay(
            TopicCreated(topic_id=TOPIC, name="t", is_internal=False, replication_factor=1),
            PartitionsCreated(topic_id=TOPIC, partitions=parts),
        )
        self.rates = {part.stream: 0.0 for part in parts}
        self.balancing = Balancing(
            image=lambda: self.image,
            call=self.call,  # type: ignore[arg-type]
            loads=lambda: self.loads,
            clock=self.clock,
            metrics=BalancerMetrics(Metrics()),
        )

    def replay(self, *records: MetadataRecord) -> None:
        self.image = replay_all(self.image, records)

    def join(self, node: int) -> None:
        self.replay(BrokerRegistered(node=NodeId(node), epoch=BrokerEpoch(node), rack=None, endpoints=()))

    async def call(self, decide):  # type: ignore[no-untyped-def]
        decision = decide(self.image)
        self.replay(*decision.records)
        for move in decision.response:
            self.sources[move.stream].append(move.source)
        return decision.response

    def leaders(self) -> dict[StreamId, NodeId]:
        return {part.stream: part.leader for topic in self.image.topics() for part in topic.partitions}

    def measure(self, passed_s: float) -> None:
        """What heartbeats tell now."""
        by_node: dict[NodeId, list[PartitionLoad]] = defaultdict(list)
        for stream, node in self.leaders().items():
            now = self.rates[stream] * self.random.uniform(1 - NOISE, 1 + NOISE)
            before = self.averages.get((node, stream), now)
            average = self.averages[node, stream] = before + (now - before) * (1 - math.exp(-passed_s / FORGET_S))
            by_node[node].append(PartitionLoad(stream, int(average), 0))
        for broker in self.image.brokers():
            found = sorted(by_node[broker.node], key=lambda each: -each.in_bytes)
            total = sum(each.in_bytes for each in found)
            self.loads[broker.node] = BrokerLoad(
                in_bytes_per_second=total,
                partitions=len(found),
                request_cpu_percent=int(100 * (0.05 + total * CPU_PER_BYTE)),
                heaviest=found[:TOLD_MAX],
            )

    def arrive(self) -> None:
        self.under_way_max = max(self.under_way_max, len(self.image.moves))
        for stream, move in sorted(self.image.moves.items()):
            found = self.image.partition_of(stream)
            assert found is not None
            opened = StreamOpening(stream, found[1].leader_epoch + 1)  # type: ignore[arg-type]
            self.replay(StreamsOpened(node=move.target[0], epoch=move.target[1], streams=(opened,)))
            assert stream not in self.image.moves

    async def live(self, seconds: int) -> None:
        for _ in range(seconds // PLAN_S):
            self.measure(ARRIVE_S)
            await self.balancing.step()
            self.clock.now_s += ARRIVE_S
            self.arrive()
            self.measure(ARRIVE_S)
            self.clock.now_s += PLAN_S - ARRIVE_S

    def bytes_of(self) -> dict[NodeId, float]:
        found = {broker.node: 0.0 for broker in self.image.brokers()}
        for stream, node in self.leaders().items():
            found[node] += self.rates[stream]
        return found

    def spread(self) -> float:
        """The highest of the brokers' bytes, relative to the mean."""
        found = self.bytes_of().values()
        return max(found) * len(found) / sum(found)

    def moves(self) -> int:
        return sum(map(len, self.sources.values()))

    def check_nothing_was_undone(self) -> None:
        for stream, sources in self.sources.items():
            assert len(sources) == len(set(sources)), f"{stream} left {sources}"
            assert self.leaders()[stream] not in sources, f"{stream} is back after {sources}"
        assert self.under_way_max <= MOVES_MAX


@pytest.mark.parametrize("seed", range(3))
async def test_a_broker_that_joins_has_its_share_within_half_a_minute_and_then_nothing_moves(seed: int) -> None:
    cluster = Cluster(brokers=3, partitions=90, seed=seed)
    cluster.rates = dict.fromkeys(cluster.rates, 300e3)
    await cluster.live(60)
    assert cluster.moves() == 0
    cluster.join(4)
    await cluster.live(30)
    mean = sum(cluster.bytes_of().values()) / 4
    assert all(abs(found - mean) <= max(0.1 * mean, 300e3) for found in cluster.bytes_of().values())
    moves = cluster.moves()
    await cluster.live(300)
    assert cluster.moves() == moves
    cluster.check_nothing_was_undone()


@pytest.mark.parametrize("seed", range(3))
async def test_hot_spots_are_evened_out(seed: int) -> None:
    """A tenth of the partitions, most of them one broker's, get fifty times the bytes of the others."""
    cluster = Cluster(brokers=5, partitions=200, seed=seed)
    cluster.rates = dict.fromkeys(cluster.rates, 50e3)
    for stream in sorted(cluster.rates)[::5][:15] + sorted(cluster.rates)[:5]:
        cluster.rates[stream] = 2.5e6
    assert cluster.spread() > 2
    await cluster.live(120)
    assert cluster.spread() < 1.2
    moves = cluster.moves()
    await cluster.live(300)
    assert cluster.moves() <= moves + 5
    cluster.check_nothing_was_undone()


@pytest.mark.parametrize("seed", range(3))
async def test_more_partitions_than_are_told_one_by_one_are_evened_out_too(seed: int) -> None:
    cluster = Cluster(brokers=2, partitions=4 * TOLD_MAX, seed=seed)
    cluster.rates = {stream: 20e3 * cluster.random.paretovariate(1.5) for stream in cluster.rates}
    cluster.join(3)
    await cluster.live(300)
    assert cluster.spread() < 1.1
    moves = cluster.moves()
    await cluster.live(300)
    assert cluster.moves() <= moves + 5
    cluster.check_nothing_was_undone()


async def test_a_broker_that_drains_is_left_and_the_others_are_even_then() -> None:
    cluster = Cluster(brokers=4, partitions=120, seed=1)
    cluster.rates = {stream: 400e3 if stream % 3 else 40e3 for stream in cluster.rates}
    cluster.replay(ConfigChanged(BROKER_RESOURCE, "2", ((DRAINING_CONFIG, "true"),)))
    cluster.replay(*at_once(drain(cluster.image)).records)
    cluster.arrive()
    await cluster.live(180)
    led = Counter(cluster.leaders().values())
    assert led[NodeId(2)] == 0
    found = [carried for node, carried in cluster.bytes_of().items() if node != 2]
    assert max(found) * 3 / sum(found) < 1.1
    cluster.check_nothing_was_undone()


async def test_a_load_that_changes_all_the_time_moves_little() -> None:
    """Every partition's load doubles or halves now and then: what the balancer does stays bounded."""
    cluster = Cluster(brokers=3, partitions=90, seed=7)
    cluster.rates = dict.fromkeys(cluster.rates, 300e3)
    for _ in range(60):
        for stream in cluster.random.sample(sorted(cluster.rates), 9):
            cluster.rates[stream] = 300e3 * cluster.random.choice((0.5, 1, 2))
        await cluster.live(10)
    assert cluster.moves() < 60
    assert cluster.spread() < 1.25
