"""The balancer at work: what it sees of the metadata, what it records, and what it remembers."""

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import pytest

from automq.controller import balancing as module
from automq.controller import moves
from automq.controller.balancer import COOL_DOWN_S, LEFT_S, MOVES_MAX, PlannedMove, shares
from automq.controller.balancing import Balancing
from automq.controller.controller_metrics import BalancerMetrics
from automq.controller.known_loads import SETTLED_S
from automq.controller.model import BrokerLoad, PartitionLoad
from automq.ids import BrokerEpoch, NodeId, StreamId, TopicId
from automq.metadata.image import BROKER_RESOURCE, DRAINING_CONFIG, EMPTY, MetadataImage
from automq.metadata.move_records import MoveCause
from automq.metadata.records import (
    BalancerDecided,
    BrokerFenced,
    BrokerRegistered,
    ConfigChanged,
    MetadataRecord,
    NewPartition,
    PartitionsCreated,
    PartitionsMoving,
    StreamsDeleted,
    StreamsQuarantined,
    TopicCreated,
)
from automq.metadata.replay import replay_all
from automq.replicated.machine import Decision
from automq.runtime.clock import Clock
from automq.runtime.telemetry import Metrics
from automq.runtime.turns import in_turns

A, B = (NodeId(1), BrokerEpoch(1)), (NodeId(2), BrokerEpoch(2))
TOPIC = TopicId(uuid.UUID(int=1))
PARTITIONS = 10
Decide = Callable[[MetadataImage], Decision[MetadataRecord, Sequence[PlannedMove]]]


class StoppedClock(Clock):
    """Moves when it is told to."""

    now_s = 1_000.0
    wall_s = 0.005

    def monotonic(self) -> float:
        return self.now_s

    def wall_ms(self) -> int:
        return round(1000 * self.wall_s)


def cluster(*brokers: tuple[NodeId, BrokerEpoch], count: int = PARTITIONS) -> MetadataImage:
    """All partitions on A."""
    parts = tuple(NewPartition(index=n, stream=StreamId(n + 1), leader=A[0]) for n in range(count))
    return replay_all(
        EMPTY,
        [
            *(BrokerRegistered(node=node, epoch=epoch, rack=None, endpoints=()) for node, epoch in brokers),
            TopicCreated(topic_id=TOPIC, name="t", is_internal=False, replication_factor=1),
            PartitionsCreated(topic_id=TOPIC, partitions=parts),
        ],
    )


def balance(image: MetadataImage, wanted: Sequence[PlannedMove]) -> Decision[MetadataRecord, Sequence[PlannedMove]]:
    return moves.balance(image, wanted, brokers=(), at_ms=5)


class World:
    def __init__(self, image: MetadataImage) -> None:
        self.image = image
        self.clock = StoppedClock()
        self.loads: dict[NodeId, BrokerLoad] = {}
        self.recorded: list[MetadataRecord] = []
        self.shown = Metrics()
        self.metrics = BalancerMetrics(self.shown)
        self.balancing = Balancing(
            image=lambda: self.image,
            call=self.call,
            loads=lambda: self.loads,
            clock=self.clock,
            metrics=self.metrics,
        )

    def sample(self, name: str, **labels: str) -> float | None:
        return self.shown.registry.get_sample_value(name, labels)

    async def call(self, decide: Decide) -> Sequence[PlannedMove]:
        decision: Decision[MetadataRecord, Sequence[PlannedMove]] = decide(self.image)
        self.recorded = list(decision.records)
        self.image = replay_all(self.image, self.recorded)
        return decision.response

    def elect(self) -> None:
        """Another process is the controller now, with a clock of its own."""
        self.clock.now_s = 7.0
        self.balancing = Balancing(
            image=lambda: self.image,
            call=self.call,
            loads=lambda: self.loads,
            clock=self.clock,
            metrics=self.metrics,
        )

    def arrive(self) -> None:
        """Everything that moves is where it should be, as if by a fresh start."""
        targets = {stream: move.target[0] for stream, move in self.image.moves.items()}
        parts = tuple(
            NewPartition(index=part.index, stream=part.stream, leader=targets.get(part.stream, part.leader))
            for part in self.image.topics()[0].partitions
        )
        self.image = replay_all(
            EMPTY,
            [
                *(BrokerRegistered(node=node, epoch=epoch, rack=None, endpoints=()) for node, epoch in (A, B)),
                TopicCreated(topic_id=TOPIC, name="t", is_internal=False, replication_factor=1),
                PartitionsCreated(topic_id=TOPIC, partitions=parts),
                *self.image.decisions,
            ],
        )


async def test_a_broker_that_joins_is_given_half() -> None:
    world = World(cluster(A, B))
    await world.balancing.step()

    record, why = world.recorded
    assert isinstance(why, BalancerDecided)
    assert isinstance(record, PartitionsMoving)
    assert (record.node, record.target, record.cause) == (A[0], B[0], MoveCause.BALANCER)
    assert len(record.partitions) == 5
    assert world.sample("automq_balancer_moves_total") == 5
    assert [move.source for move in why.moves] == [A[0]] * 5
    assert shares((await world.balancing.survey()).brokers) == {A[0]: 1.0, B[0]: 1.0}


async def test_nothing_is_recorded_while_what_was_planned_is_under_way_or_has_arrived() -> None:
    world = World(cluster(A, B))
    await world.balancing.step()
    world.recorded = []
    await world.balancing.step()
    world.arrive()
    await world.balancing.step()
    assert world.recorded == []


async def test_one_broker_alone_is_nothing_to_balance() -> None:
    world = World(cluster(A))
    assert (await world.balancing.survey()).moves == ()
    await world.balancing.step()
    assert world.recorded == []


def told(*, of: range, each: int, heaviest: Mapping[int, int] | None = None) -> BrokerLoad:
    """Partitions that carry `each`, and a few of `heaviest`."""
    named = {} if heaviest is None else heaviest
    return BrokerLoad(
        in_bytes_per_second=each * (len(of) - len(named)) + sum(named.values()),
        partitions=len(of),
        heaviest=[PartitionLoad(StreamId(stream), rate, 0) for stream, rate in named.items()],
    )


async def test_bytes_that_heartbeats_tell_count() -> None:
    """Five partitions each; those of A have nearly all the bytes, so some of them go, and none comes back."""
    world = World(cluster(A, B))
    await world.balancing.step()
    world.arrive()
    world.clock.now_s += COOL_DOWN_S
    assert (await world.balancing.survey()).moves == ()
    world.loads = {A[0]: told(of=range(5), each=2_000_000), B[0]: told(of=range(5), each=200_000)}
    assert {(move.source, move.target) for move in (await world.balancing.survey()).moves} == {(A[0], B[0])}


async def test_the_partition_that_is_hot_is_the_one_that_goes() -> None:
    """Two hot partitions of A, of which the metadata say nothing: one of them goes, and none of the idle ones."""
    world = World(cluster(A, B))
    await world.balancing.step()
    world.arrive()
    world.clock.now_s += COOL_DOWN_S
    hot = {part.stream for part in world.image.topics()[0].partitions if part.leader == A[0]}
    hot = set(sorted(hot)[1:3])
    world.loads = {
        A[0]: told(of=range(5), each=1_000, heaviest=dict.fromkeys(hot, 9_000_000)),
        B[0]: told(of=range(5), each=1_000),
    }
    found = (await world.balancing.survey()).moves
    assert [move.stream in hot for move in found] == [True]
    assert found[0].bytes_per_second == 9_000_000
    assert found[0].reason.endswith("5 and 5 partitions, 18.00 and 0.01 MB/s, loops 0% and 0% busy")


async def test_what_has_arrived_counts_as_what_it_was_until_its_new_leader_has_seen_enough_of_it() -> None:
    """Else the target looks idle and is given more; and the source, which tells of it once more, looks heavy."""
    world = World(cluster(A, B))
    world.loads = {A[0]: told(of=range(10), each=1_000_000), B[0]: BrokerLoad(heaviest=[])}
    await world.balancing.step()
    gone = set(world.image.moves)
    assert len(gone) == 5
    world.arrive()
    world.clock.now_s += 10
    world.loads = {
        A[0]: told(of=range(10), each=1_000_000, heaviest=dict.fromkeys(gone, 1_000_000)),
        B[0]: told(of=range(5), each=0, heaviest=dict.fromkeys(gone, 1)),
    }
    look = await world.balancing.survey()
    assert shares(look.brokers) == {A[0]: 1.0, B[0]: 1.0}
    assert look.moves == ()
    world.clock.now_s += SETTLED_S
    assert shares((await world.balancing.survey()).brokers)[A[0]] > 1.3


async def test_moves_under_way_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOVES_MAX", 3)
    world = World(cluster(A, B))
    await world.balancing.step()
    assert len(world.image.moves) == 3
    world.recorded = []
    await world.balancing.step()
    assert world.recorded == []
    world.arrive()
    await world.balancing.step()
    assert len(world.image.moves) == 2


async def test_what_has_just_moved_stays_for_a_while() -> None:
    world = World(cluster(A, B))
    await world.balancing.step()
    world.arrive()
    world.loads = {B[0]: told(of=range(5), each=2_000_000)}
    assert (await world.balancing.survey()).moves == []
    world.clock.now_s += COOL_DOWN_S
    # And does not go back for longer, whatever the load says.
    assert (await world.balancing.survey()).moves == []
    world.clock.now_s += LEFT_S
    assert {move.source for move in (await world.balancing.survey()).moves} == {B[0]}


async def test_what_a_former_controller_has_just_moved_stays_for_a_while() -> None:
    world = World(cluster(A, B))
    await world.balancing.step()
    world.arrive()
    moved = {move.stream for decided in world.image.decisions for move in decided.moves}
    # Everything is to go back, by its load alone.
    world.loads = {A[0]: told(of=(), each=0), B[0]: told(of=sorted(stream - 1 for stream in moved), each=1_000_000)}
    world.elect()
    await world.balancing.step()
    assert not world.image.moves
    # Brokers that it was moved away from are let be for longer.
    world.clock.wall_s = COOL_DOWN_S + 1
    world.elect()
    await world.balancing.step()
    assert not world.image.moves
    world.clock.wall_s = LEFT_S + 1
    world.elect()
    await world.balancing.step()
    assert world.image.moves


async def test_a_busy_broker_gets_nothing() -> None:
    world = World(cluster(A, B))
    world.loads = {B[0]: BrokerLoad(request_cpu_percent=95)}
    assert (await world.balancing.survey()).moves == []


@pytest.mark.parametrize(
    "change",
    [
        BrokerFenced(*B, *A),
        ConfigChanged(BROKER_RESOURCE, str(B[0]), ((DRAINING_CONFIG, "true"),)),
    ],
)
async def test_nothing_goes_to_a_broker_that_went_away_meanwhile(change: MetadataRecord) -> None:
    world = World(cluster(A, B))
    wanted = (await world.balancing.survey()).moves
    assert balance(replay_all(world.image, [change]), wanted).response == []


async def test_what_was_deleted_damaged_or_asked_for_elsewhere_meanwhile_is_left_alone() -> None:
    world = World(cluster(A, B))
    wanted = (await world.balancing.survey()).moves
    damaged, deleted, *rest = [move.stream for move in wanted]
    image = replay_all(
        world.image,
        [
            StreamsQuarantined(streams=(damaged,), key="k", reason="r", at_ms=1),
            StreamsDeleted(streams=(deleted,)),
        ],
    )
    assert [move.stream for move in balance(image, wanted).response] == rest
    again = replay_all(world.image, balance(world.image, wanted).records)
    assert balance(again, wanted).records == []


async def test_a_hundred_thousand_partitions_are_looked_at_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(cluster(A, B))
    monkeypatch.setattr(module, "LOOK_PARTITIONS", 3)
    known = (await world.balancing.survey()).known
    spent = list(world.balancing._movable(world.image, known, [A[0]]))
    assert spent == [module.LOOK_US] * (PARTITIONS // 3 + 1)


async def test_ten_thousand_partitions_are_planned_in_bounded_turns() -> None:
    """Of those that count the same only as many are candidates as a plan can use, so that the plan is one turn."""
    world = World(cluster(A, B, count=10_000))
    world.loads = {
        A[0]: told(of=range(10_000), each=1_000, heaviest={stream: 9_000 + stream for stream in range(1, 501)}),
        B[0]: BrokerLoad(heaviest=[]),
    }
    looking = asyncio.ensure_future(world.balancing.survey())
    turns = []
    while not looking.done():
        began = time.thread_time()
        await asyncio.sleep(0)
        turns.append(time.thread_time() - began)
    look = looking.result()
    movable = await in_turns(world.balancing._movable(world.image, look.known, [A[0]]))
    assert len(look.moves) == MOVES_MAX
    assert len(movable[A[0]]) == 500 + MOVES_MAX
    # All but the longest: a collection of garbage is nobody's turn.
    assert sorted(turns)[-2] < 0.02, sorted(turns)[-3:]


async def test_every_topic_is_spread_and_not_the_first_ones_by_name_given_away() -> None:
    """Three brokers are joined by three: of each topic half of a broker's partitions go."""
    nodes = [(NodeId(number), BrokerEpoch(number)) for number in range(1, 7)]
    records: list[MetadataRecord] = [
        BrokerRegistered(node=node, epoch=epoch, rack=None, endpoints=()) for node, epoch in nodes
    ]
    stream = 0
    for name in ("a", "b", "c", "d"):
        topic = TopicId(uuid.UUID(int=ord(name)))
        parts = []
        for index in range(12):
            stream += 1
            parts.append(NewPartition(index=index, stream=StreamId(stream), leader=NodeId(index % 3 + 1)))
        records.append(TopicCreated(topic_id=topic, name=name, is_internal=False, replication_factor=1))
        records.append(PartitionsCreated(topic_id=topic, partitions=tuple(parts)))
    world = World(replay_all(EMPTY, records))
    await world.balancing.step()
    left = Counter((topic.name, part.leader) for topic in world.image.topics() for part in topic.partitions)
    for moving in world.image.moves:
        found = world.image.partition_of(moving)
        assert found is not None
        left[found[0].name, found[1].leader] -= 1
    assert len(world.image.moves) == 24
    assert set(left.values()) == {2}


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SENT_KEPT_MAX", 2)
    world = World(cluster(A, B))
    await world.balancing.step()
    assert len(world.balancing._sent) == 2


async def test_metrics_show_what_was_seen_last_and_nothing_once_another_is_the_controller() -> None:
    world = World(cluster(A, B))
    await world.balancing.step()
    assert world.sample("automq_balancer_share", broker="1") == 2.0
    assert world.sample("automq_balancer_share", broker="2") == 0.0
    assert world.sample("automq_balancer_planned_moves") == 5
    assert world.sample("automq_balancer_moves_total") == 5
    await world.balancing.step()
    assert world.sample("automq_balancer_moves_under_way") == 5
    assert world.sample("automq_balancer_planned_moves") == 0
    world.image = replay_all(world.image, [BrokerFenced(*B, *A)])
    await world.balancing.step()
    assert world.sample("automq_balancer_share", broker="2") is None
    world.metrics.forget()
    assert world.sample("automq_balancer_share", broker="1") is None
    assert world.sample("automq_balancer_moves_total") == 5


async def test_while_it_is_paused_it_looks_and_moves_nothing() -> None:
    world = World(cluster(A, B))
    await world.balancing.step(is_paused=True)
    assert world.recorded == []
    assert world.sample("automq_balancer_paused") == 1
    assert world.sample("automq_balancer_planned_moves") == 5
    await world.balancing.step()
    assert world.sample("automq_balancer_paused") == 0
    assert len(world.image.moves) == 5
