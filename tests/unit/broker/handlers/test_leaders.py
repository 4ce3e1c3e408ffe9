"""Who leads a partition."""

import uuid
from dataclasses import replace

from immutables import Map

from automq.handlers.leaders import Leader, leader_of
from automq.ids import BrokerEpoch, NodeId, StreamEpoch, StreamId, TopicId
from automq.metadata.image import BrokerImage, Endpoint, MetadataImage, PartitionImage, TopicImage

TOPIC = TopicImage(
    topic_id=TopicId(uuid.UUID(int=1)),
    name="orders",
    is_internal=False,
    replication_factor=1,
    partitions=(PartitionImage(index=0, stream=StreamId(1), leader=NodeId(5), leader_epoch=StreamEpoch(3)),),
)
BROKER = BrokerImage(
    node=NodeId(5),
    epoch=BrokerEpoch(1),
    rack="a",
    endpoints=(Endpoint("INSIDE", "in", 1), Endpoint("OUTSIDE", "out", 2)),
)
IMAGE = MetadataImage(broker_map=Map({NodeId(5): BROKER}))


def test_leader_is_given_with_its_endpoint_of_the_clients_listener() -> None:
    assert leader_of(IMAGE, TOPIC, 0, "OUTSIDE") == Leader(node=5, epoch=3, host="out", port=2, rack="a")


def test_leader_without_such_a_listener_has_no_host() -> None:
    found = leader_of(IMAGE, TOPIC, 0, "ELSEWHERE")

    assert found is not None
    assert (found.node, found.host) == (5, None)


def test_leader_nobody_has_registered_has_no_host() -> None:
    found = leader_of(replace(IMAGE, broker_map=Map()), TOPIC, 0, "INSIDE")

    assert found == Leader(node=5, epoch=3, host=None, port=0, rack=None)


def test_partition_that_is_not_there_has_no_leader() -> None:
    assert leader_of(IMAGE, None, 0, "INSIDE") is None
    assert leader_of(IMAGE, TOPIC, 1, "INSIDE") is None
    assert leader_of(IMAGE, TOPIC, -1, "INSIDE") is None
