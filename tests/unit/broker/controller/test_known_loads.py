"""What is known of loads, put together from what brokers tell and what moves."""

import uuid

from automq.controller.known_loads import SETTLED_S, KnownLoads, Rate, Sent, balanced_brokers, known_loads
from automq.controller.model import BrokerLoad, PartitionLoad
from automq.ids import BrokerEpoch, NodeId, StreamId, TopicId
from automq.metadata.image import EMPTY, MetadataImage
from automq.metadata.move_records import MoveCause, MovingPartition
from automq.metadata.records import (
    BrokerFenced,
    BrokerRegistered,
    MetadataRecord,
    NewPartition,
    PartitionsCreated,
    PartitionsMoving,
    TopicCreated,
)
from automq.metadata.replay import replay_all

A, B = (NodeId(1), BrokerEpoch(1)), (NodeId(2), BrokerEpoch(2))
TOPIC = TopicId(uuid.UUID(int=1))
BASE: list[MetadataRecord] = [
    *(BrokerRegistered(node=node, epoch=epoch, rack=f"zone-{node}", endpoints=()) for node, epoch in (A, B)),
    TopicCreated(topic_id=TOPIC, name="t", is_internal=False, replication_factor=1),
    PartitionsCreated(
        topic_id=TOPIC,
        partitions=tuple(
            NewPartition(index=n, stream=StreamId(n + 1), leader=A[0] if n < 4 else B[0]) for n in range(6)
        ),
    ),
]
IMAGE = replay_all(EMPTY, BASE)
LOADS = {
    A[0]: BrokerLoad(
        in_bytes_per_second=1_000,
        out_bytes_per_second=200,
        partitions=4,
        request_cpu_percent=25,
        heaviest=[PartitionLoad(StreamId(1), 700, 140)],
    ),
    B[0]: BrokerLoad(in_bytes_per_second=60, partitions=2),
}


def known(
    image: MetadataImage,
    loads: dict[NodeId, BrokerLoad],
    sent: dict[StreamId, Sent] | None = None,
    now_s: float = 0.0,
) -> KnownLoads:
    steps = known_loads(image, loads, sent or {}, now_s=now_s)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            found: KnownLoads = done.value
            return found


def test_what_is_not_told_one_by_one_counts_as_the_mean_of_the_others() -> None:
    found = known(IMAGE, LOADS)
    assert found.rate(StreamId(1), A[0]) == Rate(700, 140)
    assert found.rate(StreamId(2), A[0]) == Rate(100, 20)
    assert found.rate(StreamId(5), B[0]) == Rate(30, 0)
    assert found.rate(StreamId(5), NodeId(9)) == Rate(0, 0)
    assert found.bytes_per_second == {A[0]: 1_200, B[0]: 60}


def test_brokers_are_as_heartbeats_and_metadata_say() -> None:
    a, b = balanced_brokers(IMAGE, LOADS, known(IMAGE, LOADS))
    assert (a.node, a.partitions, a.bytes_per_second, a.cpu, a.rack) == (1, 4, 1_200, 0.25, "zone-1")
    assert (b.partitions, b.is_usable) == (2, True)
    gone = replay_all(IMAGE, [BrokerFenced(*B, *A)])
    assert [broker.node for broker in balanced_brokers(gone, LOADS, known(gone, LOADS))] == [1]


def test_of_a_broker_that_told_nothing_nothing_is_known() -> None:
    found = known(IMAGE, {A[0]: LOADS[A[0]]})
    assert [broker.bytes_per_second for broker in balanced_brokers(IMAGE, {}, found)] == [1_200, 0]


def test_what_moves_counts_where_it_goes() -> None:
    moving = PartitionsMoving(*A, *B, cause=MoveCause.BALANCER, partitions=(MovingPartition(StreamId(1)),))
    image = replay_all(IMAGE, [moving])
    assert known(image, LOADS).bytes_per_second == {A[0]: 360, B[0]: 900}


def test_what_has_arrived_counts_as_what_it_was_for_a_while() -> None:
    led_by_b = tuple(
        NewPartition(index=n, stream=StreamId(n + 1), leader=A[0] if 0 < n < 4 else B[0]) for n in range(6)
    )
    image = replay_all(EMPTY, [*BASE[:3], PartitionsCreated(topic_id=TOPIC, partitions=led_by_b)])
    sent = {StreamId(1): Sent(10.0, Rate(700, 140))}
    found = known(image, LOADS, sent, now_s=20.0)
    # Its former leader tells of it once more.
    assert found.bytes_per_second == {A[0]: 360, B[0]: 900}
    assert found.rate(StreamId(1), B[0]) == Rate(700, 140)
    seen = {**LOADS, B[0]: BrokerLoad(in_bytes_per_second=400, heaviest=[PartitionLoad(StreamId(1), 340, 0)])}
    assert known(image, seen, sent, now_s=20.0).bytes_per_second[B[0]] == 900
    assert known(image, seen, sent, now_s=10.0 + SETTLED_S).bytes_per_second[B[0]] == 400
