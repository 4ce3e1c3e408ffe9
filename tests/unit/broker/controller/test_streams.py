"""Streams are opened by their owner and only move forward."""

import uuid

import pytest

from automq.controller.brokers import register_broker, wal_recovered
from automq.controller.streams import open_streams, trim_streams
from automq.ids import BrokerEpoch, NodeId, Offset, StreamEpoch, StreamId, TopicId
from automq.metadata.image import EMPTY, MetadataImage
from automq.metadata.records import NewPartition, PartitionsCreated, StreamTrimmed, TopicCreated
from automq.metadata.replay import replay_all
from automq.protocol.errors import ApiError
from automq.s3stream.model import BrokerFenced, StreamFenced, StreamNotFound, StreamTrim
from automq.steps import at_once
from tests.support.metadata_worlds import NODE, check

TOPIC = TopicId(uuid.UUID(int=1))
FIRST, SECOND = BrokerEpoch(1), BrokerEpoch(2)


def registered(image: MetadataImage) -> MetadataImage:
    return replay_all(image, register_broker(image, NODE, rack=None, endpoints=()).records)


BASE = replay_all(
    registered(EMPTY),
    [
        TopicCreated(topic_id=TOPIC, name="t", is_internal=False, replication_factor=1),
        PartitionsCreated(
            topic_id=TOPIC,
            partitions=(
                NewPartition(index=0, stream=StreamId(1), leader=NODE),
                NewPartition(index=1, stream=StreamId(2), leader=NodeId(5)),
            ),
        ),
    ],
)


def test_opening_raises_the_epoch_of_everything_one_owns_in_one_record() -> None:
    decision = open_streams(BASE, NODE, FIRST)
    image = replay_all(BASE, decision.records)
    check(image)
    assert len(decision.records) == 1
    assert [part.leader_epoch for part in image.topics()[0].partitions] == [1, 0]


def test_who_owns_nothing_records_nothing() -> None:
    assert open_streams(registered(EMPTY), NODE, FIRST).records == ()


def test_nothing_is_opened_before_the_former_log_is_recovered() -> None:
    image = registered(BASE)
    with pytest.raises(ApiError, match="not recovered"):
        open_streams(image, NODE, SECOND)
    image = replay_all(image, wal_recovered(image, NODE, FIRST, recoverer=(NODE, SECOND)).records)
    assert open_streams(image, NODE, SECOND).records


def test_a_former_incarnation_opens_and_trims_nothing() -> None:
    image = registered(BASE)
    with pytest.raises(BrokerFenced):
        open_streams(image, NODE, FIRST)
    with pytest.raises(BrokerFenced):
        trim(image, stream=1, epoch=0, start=1)


def trim(image: MetadataImage, *, stream: int, epoch: int, start: int) -> MetadataImage:
    decision = at_once(
        trim_streams(image, NODE, FIRST, [StreamTrim(StreamId(stream), StreamEpoch(epoch), Offset(start))])
    )
    (refused,) = decision.response
    if refused is not None:
        raise refused
    return replay_all(image, decision.records)


def test_many_are_trimmed_together_each_alone() -> None:
    trims = [(1, 0, 5), (9, 0, 1), (1, 0, 3), (2, 0, 1), (1, 0, 7), (1, 1, 9)]
    decision = at_once(
        trim_streams(
            BASE, NODE, FIRST, [StreamTrim(StreamId(s), StreamEpoch(e), Offset(start)) for s, e, start in trims]
        )
    )
    assert [type(refused) for refused in decision.response] == [
        type(None),
        StreamNotFound,
        type(None),
        StreamFenced,
        type(None),
        StreamFenced,
    ]
    assert decision.records == [StreamTrimmed(stream=StreamId(1), start=Offset(7))]
    assert at_once(trim_streams(BASE, NODE, FIRST, [])).records == []


def test_the_start_moves_forward_and_never_back() -> None:
    image = trim(BASE, stream=1, epoch=0, start=9)
    assert image.streams[StreamId(1)].start == 9
    assert trim(image, stream=1, epoch=0, start=3) == image
    assert replay_all(image, [StreamTrimmed(stream=StreamId(1), start=Offset(3))]).streams[StreamId(1)].start == 9


def test_only_the_owner_trims() -> None:
    with pytest.raises(StreamFenced):
        trim(BASE, stream=2, epoch=0, start=1)
    with pytest.raises(StreamFenced):
        trim(BASE, stream=1, epoch=1, start=1)
    with pytest.raises(StreamNotFound):
        trim(BASE, stream=9, epoch=0, start=1)
