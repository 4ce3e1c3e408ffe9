"""New partitions go to whoever has the fewest."""

import uuid

import pytest

from automq.controller.placement import Placement, eligible
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
