"""New partitions go to whoever has the fewest, carries least, and is in the zone that has least of the topic."""

import uuid
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automq.controller.balancer import BUSY
from automq.controller.model import BrokerLoad
from automq.controller.placement import OF_TOPIC, Placement, eligible
from automq.ids import BrokerEpoch, NodeId, StreamId, TopicId
from automq.metadata.image import EMPTY, MetadataImage
from automq.metadata.records import BrokerRegistered, ConfigChanged, NewPartition, PartitionsCreated, TopicCreated
from automq.metadata.replay import replay_all
from automq.protocol.errors import ApiError

TOPIC = TopicId(uuid.UUID(int=1))
BASE = replay_all(
    EMPTY,
    [
        *(BrokerRegistered(node=NodeId(n), epoch=BrokerEpoch(n), rack=None, endpoints=()) for n in (1, 2, 3)),
        TopicCreated(topic_id=TOPIC, name="t", is_internal=False, replication_factor=1),
        PartitionsCreated(
            topic_id=TOPIC,
            partitions=tuple(NewPartition(index=n, stream=StreamId(n + 1), leader=NodeId(1)) for n in range(2)),
        ),
    ],
)


def placed(image: MetadataImage, count: int) -> list[NodeId]:
    placement = Placement(image)
    placement.check()
    return [placement.place() for _ in range(count)]


def test_loads_are_evened_out() -> None:
    assert placed(BASE, 5) == [2, 3, 2, 3, 1]


def test_what_was_placed_by_hand_counts() -> None:
    placement = Placement(BASE)
    placement.take(NodeId(2))
    placement.take(NodeId(9))
    assert [placement.place() for _ in range(4)] == [3, 2, 3, 1]


def test_a_draining_broker_is_given_nothing() -> None:
    drained = ConfigChanged(resource_type=4, resource_name="2", changes=(("automq.broker.draining", "true"),))
    image = replay_all(BASE, [drained])
    assert list(eligible(image)) == [1, 3]
    assert 2 not in placed(image, 9)


def test_only_the_one_that_is_known_to_be_alive_is_given_anything() -> None:
    placement = Placement(BASE, among=[NodeId(1)])
    assert {placement.place() for _ in range(3)} == {1}


def test_without_a_broker_nothing_is_placed() -> None:
    with pytest.raises(ApiError):
        placed(EMPTY, 1)


MB = 1_000_000


def zoned(racks: Sequence[str | None], led: Sequence[int] = ()) -> MetadataImage:
    """A broker for each rack, from 1 on, that leads so many partitions of one topic."""
    streams = iter(range(1, 1 + sum(led)))
    parts = tuple(
        NewPartition(index=stream - 1, stream=StreamId(stream), leader=NodeId(node))
        for node, count in enumerate(led, 1)
        for stream in (next(streams) for _ in range(count))
    )
    records = [
        BrokerRegistered(node=NodeId(n), epoch=BrokerEpoch(n), rack=rack, endpoints=())
        for n, rack in enumerate(racks, 1)
    ]
    topic = TopicCreated(topic_id=TOPIC, name="t", is_internal=False, replication_factor=1)
    return replay_all(EMPTY, [*records, topic, PartitionsCreated(topic_id=TOPIC, partitions=parts)])


def told(*loads: tuple[float, int]) -> dict[NodeId, BrokerLoad]:
    """(MB a second, percent of a core) of broker 1, 2 and so on."""
    return {
        NodeId(node): BrokerLoad(in_bytes_per_second=int(rate * MB), request_cpu_percent=cpu)
        for node, (rate, cpu) in enumerate(loads, 1)
    }


def of_topic(placement: Placement, count: int) -> list[NodeId]:
    placement.begin(count)
    return [placement.place() for _ in range(count)]


def test_who_carries_more_than_its_number_says_is_given_less() -> None:
    placement = Placement(zoned([None] * 3, [10, 10, 10]), reported=told((20, 10), (5, 10), (5, 10)))
    counts = Counter(placement.place() for _ in range(9))
    assert counts[NodeId(1)] == 0
    assert counts[NodeId(2)] + counts[NodeId(3)] == 9
    assert abs(counts[NodeId(2)] - counts[NodeId(3)]) <= 1


def test_who_is_idle_for_a_moment_is_not_given_everything() -> None:
    placement = Placement(zoned([None] * 2, [10, 10]), reported=told((10, 10), (0, 1)))
    counts = Counter(placement.place() for _ in range(40))
    assert counts[NodeId(1)] == 15
    assert counts[NodeId(2)] == 25


def test_in_an_idle_cluster_numbers_alone_count() -> None:
    quiet = told((0.5, 1), (0.0, 0), (0.1, 0))
    image = zoned([None] * 3, [3, 4, 5])
    without = Placement(image)
    with_loads = Placement(image, reported=quiet)
    assert [with_loads.place() for _ in range(20)] == [without.place() for _ in range(20)]


def test_nothing_is_concluded_while_somebody_has_told_nothing() -> None:
    image = zoned([None] * 3, [5, 5, 5])
    loads = told((50, 10), (1, 10), (1, 10))
    del loads[NodeId(2)]
    assert Placement(image, reported=loads).place() == 1


def test_a_busy_broker_is_given_nothing_unless_all_are() -> None:
    image = zoned([None] * 2, [0, 50])
    busy = round(BUSY * 100) + 1
    assert {Placement(image, reported=told((0, busy), (0, 20))).place()} == {2}
    assert {Placement(image, reported=told((0, busy), (0, busy))).place()} == {1}


def test_a_topic_goes_over_the_zones() -> None:
    # Ids say the zone, as on Kubernetes: the lowest ones are all of the first.
    image = zoned(["a", "a", "a", "b", "b", "b", "c", "c", "c"])
    placement = Placement(image)
    for _ in range(6):
        racks = Counter("aaabbbccc"[node - 1] for node in of_topic(placement, 3))
        assert racks == {"a": 1, "b": 1, "c": 1}


def test_nobody_is_given_all_of_a_topic_because_it_has_just_joined() -> None:
    image = zoned([None] * 4, [40, 40, 40, 0])
    placement = Placement(image)
    for _ in range(3):
        assert Counter(of_topic(placement, 8))[NodeId(4)] == OF_TOPIC * 8 // 4


def test_what_a_topic_has_already_counts() -> None:
    image = zoned(["a", "b"], [2, 0])
    topic = image.topic("t")
    assert topic is not None
    placement = Placement(image, reported=told((0, 0), (0, 0)))
    placement.begin(2, topic.partitions)
    assert [placement.place(), placement.place()] == [2, 2]


@given(
    racks=st.lists(st.sampled_from([None, "a", "b", "c"]), min_size=1, max_size=9),
    topics=st.lists(st.integers(1, 12), min_size=1, max_size=12),
    rates=st.lists(st.tuples(st.floats(0, 100), st.integers(0, 100)), min_size=9, max_size=9),
)
def test_numbers_stay_even_and_no_topic_piles_up(
    racks: list[str | None], topics: list[int], rates: list[tuple[float, int]]
) -> None:
    image = zoned(racks)
    plain, loaded = Placement(image), Placement(image, reported=told(*rates[: len(racks)]))
    counts: Counter[NodeId] = Counter()
    for count in topics:
        counts.update(of_topic(plain, count))
        able = len(loaded._racks)
        assert max(Counter(of_topic(loaded, count)).values()) <= -(-OF_TOPIC * count // able)
    even = [counts[NodeId(node)] for node in range(1, len(racks) + 1)]
    # A topic that has enough on a broker lets it fall behind for a while, by no more than the topic is large.
    assert max(even) - min(even) <= 1 + max(topics)
