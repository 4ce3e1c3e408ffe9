"""New partitions go to whoever has the fewest."""

import uuid

import pytest

from automq.controller.placement import eligible, place_partitions
from automq.ids import BrokerEpoch, NodeId, StreamId, TopicId
from automq.metadata.image import EMPTY
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


def test_loads_are_evened_out() -> None:
    assert list(place_partitions(BASE, 5)) == [2, 3, 2, 3, 1]


def test_a_draining_broker_is_given_nothing() -> None:
    drained = ConfigChanged(resource_type=4, resource_name="2", changes=(("automq.broker.draining", "true"),))
    image = replay_all(BASE, [drained])
    assert list(eligible(image)) == [1, 3]
    assert 2 not in place_partitions(image, 9)


def test_without_a_broker_nothing_is_placed() -> None:
    with pytest.raises(ApiError):
        place_partitions(EMPTY, 1)
