"""Changes that are taken from an image under change."""

import uuid

from automq.ids import BrokerEpoch, NodeId, StreamEpoch, StreamId, TopicId
from automq.metadata.image import EMPTY
from automq.metadata.records import (
    BrokerRegistered,
    ConfigChanged,
    NewPartition,
    ObjectsPrepared,
    PartitionsCreated,
    TopicCreated,
)
from automq.metadata.replay import MetadataMachine

NODE, EPOCH = NodeId(1), BrokerEpoch(1)
TOPIC = TopicId(uuid.UUID(int=7))
PREPARED = ObjectsPrepared(first=1, count=1, node=NODE, epoch=EPOCH, expires_ms=0)


def a_machine() -> MetadataMachine:
    machine = MetadataMachine(EMPTY, remembers=True)
    machine.replay(BrokerRegistered(NODE, EPOCH, None, ()))
    machine.replay(TopicCreated(topic_id=TOPIC, name="t", is_internal=False, replication_factor=1))
    machine.replay(
        PartitionsCreated(
            topic_id=TOPIC,
            partitions=(NewPartition(index=0, stream=StreamId(1), leader=NODE, leader_epoch=StreamEpoch(0)),),
        )
    )
    return machine


def test_a_change_has_its_records_and_what_they_touched() -> None:
    machine = a_machine()
    change = machine.take_change()
    assert change.old is EMPTY
    assert [type(record) for record in change.records] == [BrokerRegistered, TopicCreated, PartitionsCreated]
    assert (list(change.brokers), list(change.wals)) == ([NODE], [(NODE, EPOCH)])
    assert (list(change.topics), list(change.streams), list(change.configs)) == ([TOPIC], [StreamId(1)], [])

    machine.replay(PREPARED)
    following = machine.take_change()
    assert following.old is change.new
    assert following.records == [PREPARED]
    assert not any((following.brokers, following.wals, following.topics, following.streams))


def test_looking_at_the_image_takes_nothing() -> None:
    machine = a_machine()
    machine.take_change()
    config = ConfigChanged(resource_type=2, resource_name="t", changes=(("retention.ms", "1"),))
    machine.replay(config)
    seen = machine.image
    machine.replay(PREPARED)
    change = machine.take_change()
    assert seen is not change.new
    assert change.records == [config, PREPARED]
    assert list(change.configs) == [(2, "t")]


def test_b5_what_was_sorted_once_is_handed_on() -> None:
    machine = a_machine()
    topics, brokers = machine.image.topics(), machine.image.brokers()
    machine.replay(PREPARED)
    assert machine.image.topics() is topics
    assert machine.image.brokers() is brokers
    other = TopicId(uuid.UUID(int=8))
    machine.replay(TopicCreated(topic_id=other, name="a", is_internal=False, replication_factor=1))
    assert [topic.name for topic in machine.image.topics()] == ["a", "t"]


def test_a_loader_keeps_no_records() -> None:
    machine = MetadataMachine(EMPTY)
    machine.replay(PREPARED)
    assert machine._records == []
    assert machine.image.next_object == 2
