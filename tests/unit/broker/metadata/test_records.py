"""Every metadata record keeps its bytes."""

import re
import uuid

import msgspec
import pytest

from automq.ids import BrokerEpoch, NodeId, ObjectId, Offset, StreamEpoch, StreamId, TopicId
from automq.metadata import records as module
from automq.metadata.move_records import (
    BalancedBrokerState,
    BalancedMove,
    MoveCause,
    MovingPartition,
    NamedMove,
    PartitionReplicas,
    ReleasedStream,
)
from automq.metadata.object_ids import ObjectIds
from automq.metadata.packed_ranges import StreamRange, pack
from automq.metadata.records import (
    NEWEST_TAG,
    RECORD_TYPES,
    BalancerDecided,
    BrokerFenced,
    BrokerRegistered,
    BrokerStopping,
    BrokerUnregistered,
    CommittedObject,
    CompactedObject,
    ConfigChanged,
    CountersAdvanced,
    Endpoint,
    FeatureLevelSet,
    FormatLevelRaised,
    MetadataRecord,
    MovesCancelled,
    NewestCommit,
    NewestReleases,
    NewPartition,
    ObjectCommitted,
    ObjectRestored,
    ObjectsCommitted,
    ObjectsCompacted,
    ObjectsDeleted,
    ObjectsDestroyed,
    ObjectsPrepared,
    PackedObjectRestored,
    PackedStreamRestored,
    PartitionLeaderChanged,
    PartitionsCreated,
    PartitionsMoving,
    PrefixOwnerSet,
    ProducerIdsAllocated,
    QuarantineLifted,
    RangeLost,
    RecordedRange,
    ReplicasAssigned,
    SpanRecord,
    StreamOpening,
    StreamRestored,
    StreamsDeleted,
    StreamsOpened,
    StreamsQuarantined,
    StreamsReleased,
    StreamTrimmed,
    TopicCreated,
    TopicDeleted,
    UnknownRecord,
    UnplacedRange,
    WalDamaged,
    WalRecovered,
    WalSlotsLost,
    WalTrimmed,
    decode_records,
    encode_record,
    join_records,
)
from tests.support import golden

TOPIC = TopicId(uuid.UUID("00112233-4455-6677-8899-aabbccddeeff"))
N, E = NodeId(7), BrokerEpoch(2**40)
S, O1 = StreamId(2**33), ObjectId(300)
EXAMPLES: list[MetadataRecord] = [
    BrokerRegistered(node=N, epoch=E, rack="a", endpoints=(Endpoint("PLAINTEXT", "host", 9092),)),
    BrokerFenced(node=N, epoch=E, recoverer_node=NodeId(8), recoverer_epoch=BrokerEpoch(9)),
    BrokerUnregistered(node=N),
    PrefixOwnerSet(owner="uid"),
    TopicCreated(topic_id=TOPIC, name="orders", is_internal=False, replication_factor=3),
    TopicDeleted(topic_id=TOPIC),
    PartitionsCreated(
        topic_id=TOPIC,
        partitions=(NewPartition(index=0, stream=S, leader=N, leader_epoch=StreamEpoch(4), replicas=(N, NodeId(8))),),
    ),
    PartitionLeaderChanged(topic_id=TOPIC, index=1, leader=N, leader_epoch=StreamEpoch(5)),
    StreamsOpened(node=N, epoch=E, streams=(StreamOpening(S, StreamEpoch(6)),)),
    ConfigChanged(resource_type=2, resource_name="orders", changes=(("retention.ms", "1"), ("segment.ms", None))),
    StreamTrimmed(stream=S, start=Offset(2**50)),
    StreamsDeleted(streams=(S,)),
    ObjectsPrepared(first=O1, count=2, node=N, epoch=E, expires_ms=1_700_000_000_000),
    ObjectCommitted(
        object_id=O1,
        size=5,
        node=N,
        epoch=E,
        trim_to=6,
        ranges=(RecordedRange(S, Offset(1), Offset(2), 3, -1, True),),
        refused=(StreamId(1),),
    ),
    ObjectsDestroyed(objects=(O1,), at_ms=1_700_000_000_000),
    ObjectsDeleted(objects=(O1,)),
    WalTrimmed(node=N, epoch=E, trim_to=6),
    WalRecovered(node=N, epoch=E),
    ProducerIdsAllocated(next_id=1000, node=N, epoch=E),
    FeatureLevelSet(name="metadata.version", level=29),
    CountersAdvanced(next_broker_epoch=E, next_stream=S, next_object=O1, next_producer_id=4),
    ObjectRestored(object_id=O1, size=5, node=N, epoch=E, refused=(S,)),
    StreamRestored(
        stream=S,
        start=Offset(1),
        end=Offset(9),
        checkpoint_object=O1,
        checkpoint_offset=Offset(9),
        spans=(SpanRecord(O1, 5, Offset(1), Offset(9), 4, 1_700_000_000_000),),
    ),
    StreamsQuarantined(
        streams=(S,), key="c/wal/7/2/3", reason="corrupt", at_ms=1_700_000_000_000, wal_node=N, wal_epoch=E
    ),
    QuarantineLifted(streams=(S,), key="c/wal/7/2/3"),
    RangeLost(
        stream=S,
        start=Offset(9),
        end=Offset(2**50),
        key="c/data/3",
        reason="missing",
        by="ada",
        at_ms=1_700_000_000_000,
    ),
    WalDamaged(
        node=N,
        epoch=E,
        key="c/wal/7/2/3",
        reason="corrupt",
        at_ms=1_700_000_000_000,
        unplaced=(
            UnplacedRange(
                stream=S,
                epoch=StreamEpoch(3),
                start=Offset(20),
                end=Offset(30),
                expected=Offset(10),
                first_slot=4,
                end_slot=6,
            ),
        ),
    ),
    WalSlotsLost(node=N, epoch=E, start=3, end=None, by="ada", at_ms=1_700_000_000_000),
    FormatLevelRaised(level=1),
    ObjectsCommitted(
        node=N,
        epoch=E,
        trim_to=6,
        objects=(
            CommittedObject(
                object_id=O1,
                size=5,
                ranges=pack([StreamRange(S, Offset(1), Offset(2), 3, -1)]),
                checkpoints=b"\1",
                others=(RecordedRange(StreamId(2), Offset(7), Offset(7), 0, 0, 1),),
            ),
        ),
        refused=(StreamId(1),),
    ),
    NewestCommit(node=N, epoch=E, objects=(O1,), refused=(StreamId(1),)),
    PackedObjectRestored(
        object_id=O1,
        size=5,
        node=N,
        epoch=E,
        references=2,
        ranges=pack(
            [
                StreamRange(S, Offset(1), Offset(2), 3, 1_700_000_000_000),
                StreamRange(StreamId(S + 300), Offset(2**40), Offset(2**40 + 70_000), 2**33, 1_700_000_000_001),
            ]
        ),
    ),
    PackedStreamRestored(
        stream=S,
        start=Offset(1),
        end=Offset(9),
        checkpoint_object=O1,
        checkpoint_offset=Offset(9),
        stored_bytes=7,
        stored_offsets=8,
        objects=ObjectIds().append(O1, Offset(1)).append(ObjectId(O1 + 300), Offset(5)).chunks,
    ),
    ObjectsCompacted(
        node=N,
        epoch=E,
        generation=2,
        objects=(
            CompactedObject(
                object_id=O1, size=99, ranges=pack([StreamRange(S, Offset(1), Offset(9), 7, 1_700_000_000_000)])
            ),
        ),
    ),
    PartitionsMoving(
        node=N,
        epoch=E,
        target=NodeId(8),
        target_epoch=BrokerEpoch(9),
        cause=MoveCause.OPERATOR,
        partitions=(MovingPartition(S, (NodeId(8), N)), MovingPartition(StreamId(2))),
        move=2**35,
    ),
    MovesCancelled(streams=(S,), reason="asked for"),
    StreamsReleased(
        node=N,
        epoch=E,
        released=(ReleasedStream(S, 2**35, Offset(9), NodeId(8), BrokerEpoch(9), StreamEpoch(5)),),
        refused=(NamedMove(StreamId(2), 2**35),),
    ),
    NewestReleases(node=N, epoch=E, released=(NamedMove(S, 2**35),), refused=(NamedMove(StreamId(2), 2**35),)),
    ReplicasAssigned(topic_id=TOPIC, partitions=(PartitionReplicas(1, (NodeId(8), N)),)),
    BrokerStopping(node=N, epoch=E),
    BalancerDecided(
        at_ms=1_700_000_000_000,
        brokers=(BalancedBrokerState(N, 300, 2**33, 95), BalancedBrokerState(NodeId(8), 2, 0, 1)),
        moves=(BalancedMove("orders", 70, S, N, NodeId(8), (1510, 1320), (490, 680), 2**24, False),),
    ),
]


def test_there_is_an_example_of_every_record() -> None:
    assert [type(example) for example in EXAMPLES] == list(RECORD_TYPES)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)
def test_record_keeps_its_bytes(example: MetadataRecord) -> None:
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(example).__name__).lower()
    golden.check_bytes(f"metadata/record_{name}.hex", encode_record(example))


def test_records_come_back_as_they_went() -> None:
    assert decode_records(b"".join(join_records([encode_record(example) for example in EXAMPLES]))) == EXAMPLES


def test_tags_are_dense_and_never_shared() -> None:
    tags = [msgspec.msgpack.decode(encode_record(example))[0] for example in EXAMPLES]
    assert tags == list(range(1, NEWEST_TAG + 1))


def test_a_field_of_a_newer_program_is_skipped() -> None:
    newer = msgspec.msgpack.encode([[4, "uid", "what a newer program adds"]])
    assert decode_records(newer) == [PrefixOwnerSet(owner="uid")]


def test_a_recovery_of_an_older_program_placed_everything() -> None:
    older = b"\x91" + bytes.fromhex("931207cf0000010000000000")
    assert decode_records(older) == [WalRecovered(node=N, epoch=E)]


def test_a_record_of_a_newer_program_is_not_skipped() -> None:
    newer = msgspec.msgpack.encode([[4, "uid"], [NEWEST_TAG + 1, 5]])
    with pytest.raises(UnknownRecord) as caught:
        decode_records(newer)
    assert caught.value.tag == NEWEST_TAG + 1


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x91\x01", b"\x91\x92\x04\x05", b"\x91\x90", b"\x91\x91\x00"])
def test_what_is_no_record_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="no metadata records"):
        decode_records(data)


def test_numbers_of_records_stay_below_the_array_header_of_four_bytes() -> None:
    assert module.join_records([b""])[0] == b"\xdd\0\0\0\1"
