"""Single records, and what many of them cost."""

import uuid

from automq.ids import BrokerEpoch, NodeId, ObjectId, Offset, StreamEpoch, StreamId, TopicId
from automq.metadata.image import EMPTY
from automq.metadata.records import (
    RECORD_TYPES,
    BrokerRegistered,
    ConfigChanged,
    FeatureLevelSet,
    MetadataRecord,
    NewPartition,
    ObjectCommitted,
    ObjectsPrepared,
    PartitionLeaderChanged,
    PartitionsCreated,
    PrefixOwnerSet,
    RecordedRange,
    StreamOpening,
    StreamsOpened,
    TopicCreated,
    TopicDeleted,
)
from automq.metadata.replay import _REPLAY, replay, replay_all
from tests.support.counted import calls
from tests.support.metadata_worlds import check

NODE, EPOCH = NodeId(1), BrokerEpoch(1)
TOPIC = TopicId(uuid.UUID(int=1))


def test_every_record_can_be_replayed() -> None:
    assert set(_REPLAY) == set(RECORD_TYPES)


def test_replay_leaves_the_image_before_alone() -> None:
    before = replay(EMPTY, PrefixOwnerSet(owner="a"))
    after = replay(before, FeatureLevelSet(name="f", level=1))
    assert (before.features.get("f"), after.features.get("f"), after.prefix_owner) == (None, 1, "a")
    assert (EMPTY.record_number, before.record_number, after.record_number) == (0, 1, 2)


def test_draining_follows_the_brokers_configuration_in_either_order() -> None:
    registered = BrokerRegistered(node=NODE, epoch=EPOCH, rack=None, endpoints=())
    drained = ConfigChanged(resource_type=4, resource_name="1", changes=(("automq.broker.draining", "true"),))
    for records in ([registered, drained], [drained, registered]):
        broker = replay_all(EMPTY, records).broker(NODE)
        assert broker is not None
        assert broker.draining


def test_a_partition_that_moves_has_a_new_owner_at_a_higher_epoch() -> None:
    image = replay_all(
        EMPTY,
        [
            TopicCreated(topic_id=TOPIC, name="t", is_internal=False, replication_factor=1),
            PartitionsCreated(topic_id=TOPIC, partitions=(NewPartition(index=0, stream=StreamId(1), leader=NODE),)),
            PartitionLeaderChanged(topic_id=TOPIC, index=0, leader=NodeId(2), leader_epoch=StreamEpoch(1)),
        ],
    )
    check(image)
    assert [part.leader for _, part in image.owned_partitions(NodeId(2))] == [2]


def test_a_topics_configuration_goes_with_it() -> None:
    image = replay_all(
        EMPTY,
        [
            TopicCreated(topic_id=TOPIC, name="t", is_internal=False, replication_factor=1),
            ConfigChanged(resource_type=2, resource_name="t", changes=(("retention.ms", "1"),)),
            TopicDeleted(topic_id=TOPIC),
        ],
    )
    assert dict(image.topic_config("t")) == {}
    assert image.topics() == ()


def commits(count: int) -> list[MetadataRecord]:
    """A topic of 1,000 partitions, then so many objects, each with records of four of them."""
    streams = [StreamId(number) for number in range(1, 1001)]
    return [
        BrokerRegistered(node=NODE, epoch=EPOCH, rack=None, endpoints=()),
        TopicCreated(topic_id=TOPIC, name="t", is_internal=False, replication_factor=1),
        PartitionsCreated(
            topic_id=TOPIC,
            partitions=tuple(
                NewPartition(index=index, stream=stream, leader=NODE) for index, stream in enumerate(streams)
            ),
        ),
        StreamsOpened(
            node=NODE, epoch=EPOCH, streams=tuple(StreamOpening(stream, StreamEpoch(1)) for stream in streams)
        ),
        ObjectsPrepared(first=ObjectId(1), count=count + 1, node=NODE, epoch=EPOCH, expires_ms=0),
        *(
            ObjectCommitted(
                object_id=ObjectId(number),
                size=1,
                node=NODE,
                epoch=EPOCH,
                trim_to=number,
                ranges=tuple(
                    RecordedRange(
                        streams[(number * 4 + place) % 1000],
                        Offset(number // 250 * 10),
                        Offset(number // 250 * 10 + 10),
                        1,
                        0,
                        True,
                    )
                    for place in range(4)
                ),
            )
            for number in range(1, count + 1)
        ),
    ]


def test_a_record_costs_the_same_however_many_were_replayed_before() -> None:
    few, many = commits(1000), commits(4000)
    images = [replay_all(EMPTY, records) for records in (few, many)]
    assert [len(image.committed) for image in images] == [1000, 4000]

    cost_of_few = calls(lambda: replay_all(EMPTY, few))
    cost_of_more = calls(lambda: replay_all(EMPTY, many)) - cost_of_few

    # Measured at 350 calls a record of four ranges.
    assert cost_of_more / 3000 < 450
    assert cost_of_more / 3000 < 1.2 * cost_of_few / 1000
