"""The bytes of the link: nothing changes by accident, everything comes back, and what is no message is refused."""

import uuid

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automq.controller import requests, wire
from automq.controller.compaction_check import (
    CompactedOutput,
    CompactedRange,
    CompactionRefused,
    CompactionRequest,
    CompactionResult,
)
from automq.controller.damage import Damage
from automq.controller.link import Answer
from automq.controller.model import (
    BalancerView,
    BrokerLoad,
    BrokerView,
    ConfigAlteration,
    ConfigChange,
    ConfigResult,
    HeartbeatAnswer,
    MoveResult,
    MoveView,
    PartitionLoad,
    PartitionsSpec,
    ProducerIdBlock,
    Reassignment,
    Registration,
    TopicResult,
    TopicSpec,
    WalToRecover,
)
from automq.ids import BrokerEpoch, ClusterId, ControllerEpoch, NodeId, ObjectId, Offset, StreamEpoch, StreamId, TopicId
from automq.metadata.records import Endpoint
from automq.protocol.errors import ApiError, ErrorCode
from automq.s3stream.model import (
    BrokerFenced,
    CommitObject,
    CommitRange,
    CommitRequest,
    CommitResult,
    CommitTooLarge,
    FencedBy,
    ObjectRefused,
    ObjectSpan,
    RangeVerdict,
    RecoveredLog,
    StoreDamaged,
    StreamError,
    StreamFenced,
    StreamNotFound,
    StreamRelease,
    StreamTrim,
    Unplaced,
)
from automq.s3stream.ports import StoreAccessDenied, StoreUnavailable
from tests.support import golden

NODE, EPOCH, STREAM = NodeId(3), BrokerEpoch(7), StreamId(11)
US = (NODE, EPOCH)
TOPIC = TopicId(uuid.UUID(int=5))
UNPLACED = Unplaced(
    stream=STREAM,
    epoch=StreamEpoch(1),
    start=Offset(5),
    end=Offset(6),
    expected=Offset(4),
    first_slot=1,
    end_slot=2,
)
SPAN = ObjectSpan(
    object_id=ObjectId(4), object_size=9, start=Offset(0), end=Offset(5), size=8, max_timestamp_ms=1_700_000_000_000
)
RANGE = CommitRange(
    stream=STREAM, epoch=StreamEpoch(1), start=Offset(0), end=Offset(5), size=8, max_timestamp_ms=1, checkpoint=2
)

EXAMPLES: list[tuple[requests.Request, object]] = [
    (
        requests.RegisterBroker(NODE, "a", [Endpoint("PLAINTEXT", "here", 9092)], 2, b"drawn", after=EPOCH),
        Registration(node=NODE, epoch=EPOCH, wals=[WalToRecover(node=NODE, epoch=EPOCH, trim_to=3, lost=[(1, None)])]),
    ),
    (requests.FenceBroker(NODE, EPOCH, US), [WalToRecover(node=NODE, epoch=EPOCH, trim_to=3, lost=[(1, 2)])]),
    (
        requests.WalRecovered(
            NODE, EPOCH, US, RecoveredLog(fence=4, unplaced=[UNPLACED], continued=frozenset({STREAM}))
        ),
        None,
    ),
    (requests.UnregisterBroker(NODE), None),
    (requests.OpenStreams(NODE, EPOCH), None),
    (requests.AllocateProducerIds(NODE, EPOCH, 1000), ProducerIdBlock(first=2**40, count=1000)),
    (requests.QuarantineWal(NODE, EPOCH, US, Damage(key="k", reason="r"), [UNPLACED]), None),
    (requests.QuarantineStreams(NODE, EPOCH, [STREAM], Damage(key="k", reason="r")), None),
    (requests.LoseBefore(NODE, EPOCH, US, STREAM, Offset(9)), None),
    (
        requests.CreateTopics(
            [
                TopicSpec(name="t", partitions=2, configs={"a": "b", "c": None}),
                TopicSpec(name="u", assignments={0: [NODE], 1: [NODE, NodeId(4)]}, is_internal=True),
            ],
            False,
        ),
        [
            TopicResult(name="t", topic_id=TOPIC, partitions=2, replication_factor=1),
            TopicResult(name="u", error=ApiError(ErrorCode.TOPIC_ALREADY_EXISTS, "It is there.")),
            TopicResult(name="v", error=ApiError(ErrorCode.POLICY_VIOLATION)),
        ],
    ),
    (requests.DeleteTopics([("t", None), (None, TOPIC)]), [TopicResult(name="t"), TopicResult(name="")]),
    (
        requests.CreatePartitions([PartitionsSpec(name="t", count=3, assignments=[[NODE]])], True),
        [TopicResult(name="t")],
    ),
    (
        requests.AlterConfigs(
            [
                ConfigAlteration(
                    resource_type=2, resource_name="t", changes=[ConfigChange(name="a", operation=0, value=None)]
                ),
                ConfigAlteration(resource_type=4, resource_name="", changes=[], replacement={"a": "b"}),
            ],
            False,
        ),
        [ConfigResult(resource_type=2, resource_name="t", error=ApiError(ErrorCode.INVALID_CONFIG, ""))],
    ),
    (
        requests.TrimStreams(NODE, EPOCH, [StreamTrim(STREAM, StreamEpoch(1), Offset(2))]),
        [None, StreamNotFound("gone"), StreamFenced(stream=STREAM, ours=StreamEpoch(1), current=StreamEpoch(2))],
    ),
    (requests.PrepareObjects(NODE, EPOCH, 2), [ObjectId(1), ObjectId(2)]),
    (
        requests.CommitObjects(
            CommitRequest(
                objects=[CommitObject(object_id=ObjectId(4), size=9, ranges=[RANGE])],
                node=NODE,
                epoch=EPOCH,
                trim_to=6,
                recoverer=US,
                releasing=(StreamRelease(stream=STREAM, epoch=StreamEpoch(1), move=70, end=Offset(5)),),
            )
        ),
        CommitResult(verdicts=[RangeVerdict.ACCEPTED, RangeVerdict.REFUSED], trimmed_to=6, released=(True,)),
    ),
    (
        requests.CommitCompaction(
            CompactionRequest(
                node=NODE,
                epoch=EPOCH,
                generation=1,
                outputs=[
                    CompactedOutput(object_id=ObjectId(5), size=3, ranges=[CompactedRange(stream=STREAM, spans=[SPAN])])
                ],
            )
        ),
        CompactionResult(replaced_ranges=1, destroyed=[ObjectId(4)]),
    ),
    (requests.Confirm(NODE, EPOCH), None),
    (requests.RaiseFormatLevel(3), None),
    (
        requests.Heartbeat(NODE, EPOCH, BrokerLoad(in_bytes_per_second=5, heaviest=[PartitionLoad(STREAM, 5, 3)]), 9),
        HeartbeatAnswer(record_number=10, proof_age_s=0.5, is_fenced=False, session_s=3.0),
    ),
    (
        requests.Follow(NODE, 7, 1_000),
        requests.Followed([requests.FollowedSlot(ControllerEpoch(2), 5, b"slot")], successor=NODE),
    ),
    (
        requests.AlterReassignments(
            [
                Reassignment(topic="t", index=1, replicas=[NODE, NodeId(4)]),
                Reassignment(topic="t", index=2, replicas=None),
            ],
            True,
        ),
        [
            MoveResult(topic="t", index=1),
            MoveResult(topic="t", index=2, error=ApiError(ErrorCode.NO_REASSIGNMENT_IN_PROGRESS, "None is.")),
        ],
    ),
    (requests.ElectLeaders([("t", 1)]), [MoveResult(topic="t", index=1)]),
    (requests.StopBroker(NODE, EPOCH), True),
    (requests.EndBroker(NODE, EPOCH), None),
    (
        requests.DescribeBalancer(9),
        BalancerView(
            enabled=True,
            paused=False,
            since_ms=5,
            decided=3,
            moving=1,
            brokers=[
                BrokerView(
                    broker=NODE,
                    rack="a",
                    share=1.25,
                    partitions=4,
                    bytes_per_second=1e6,
                    loop_busy=0.5,
                    unuploaded_bytes=7,
                    takes=True,
                )
            ],
            planned=[],
            moves=[
                MoveView(
                    topic="t",
                    partition=1,
                    source=NODE,
                    target=NodeId(4),
                    reason="r",
                    expected="e",
                    at_ms=6,
                    state="done",
                )
            ],
        ),
    ),
]

ERRORS: list[Exception] = [
    ApiError(ErrorCode.INVALID_REQUEST, "no"),
    ApiError(ErrorCode.INVALID_REQUEST),
    BrokerFenced("over", by=FencedBy.WAL_SLOT),
    ObjectRefused("again"),
    CommitTooLarge(ranges=9, ranges_max=3),
    StreamFenced(stream=STREAM, ours=StreamEpoch(1), current=StreamEpoch(2)),
    StreamNotFound("gone"),
    CompactionRefused("changed"),
    StoreDamaged("half", key="k"),
    StoreUnavailable("away"),
    StreamError("else"),
]


def as_told(value: object) -> object:
    """Exceptions are compared by what they tell."""
    if isinstance(value, Exception):
        return type(value), str(value), sorted(vars(value).items(), key=lambda item: item[0])
    if isinstance(value, TopicResult | ConfigResult | MoveResult):
        return type(value), [as_told(getattr(value, name)) for name in value.__dataclass_fields__]
    if isinstance(value, list | tuple):
        return [as_told(item) for item in value]
    return value


def message_of(frame: bytes) -> wire.Message:
    assert int.from_bytes(frame[:4], "big") == len(frame) - 4
    return wire.decode_message(frame[4:])


def test_every_request_has_an_example() -> None:
    assert [type(request) for request, _answer in EXAMPLES] == list(requests.REQUEST_TYPES)


@pytest.mark.parametrize(("request_", "answer"), EXAMPLES, ids=lambda value: type(value).__name__)
def test_requests_and_answers_come_back_as_they_were(request_: requests.Request, answer: object) -> None:
    ask = wire.Ask(number=5, epoch=ControllerEpoch(2), done_below=4, request=wire.encode_request(request_))
    frame = wire.encode_frame(ask)
    golden.check_bytes(f"link/ask_{type(request_).__name__}.hex", frame)
    came = message_of(frame)
    assert isinstance(came, wire.Ask)
    assert wire.decode_request(came.request) == request_

    frame = wire.encode_frame(wire.encode_answer(5, Answer(record_number=99, value=answer)))
    golden.check_bytes(f"link/answer_{type(request_).__name__}.hex", frame)
    answered = message_of(frame)
    assert isinstance(answered, wire.Answered)
    decoded = wire.decode_answer(request_, answered)
    assert (decoded.record_number, decoded.error, answered.number) == (99, None, 5)
    assert as_told(decoded.value) == as_told(answer)


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_errors_come_back_with_all_they_tell(error: Exception) -> None:
    frame = wire.encode_frame(wire.encode_answer(5, Answer(record_number=99, error=error)))
    golden.check_bytes(f"link/error_{type(error).__name__}_{len(str(error))}.hex", frame)
    answered = message_of(frame)
    assert isinstance(answered, wire.Answered)
    decoded = wire.decode_answer(requests.Confirm(NODE, EPOCH), answered)
    assert as_told(decoded.error) == as_told(error)


def test_other_messages_come_back_as_they_were() -> None:
    messages: list[wire.Message] = [
        wire.Hello(
            version=1,
            cluster_id=ClusterId("c"),
            node=NODE,
            session=b"s" * 16,
            epoch=EPOCH,
            format_level=2,
            credential=b"x",
        ),
        wire.Welcome(version=1, node=NODE, epoch=ControllerEpoch(4), record_number=7),
        wire.Refused("elsewhere", True),
        wire.Answered(number=4, record_number=0, not_controller="lost"),
    ]
    for message in messages:
        frame = wire.encode_frame(message)
        golden.check_bytes(f"link/{type(message).__name__.lower()}.hex", frame)
        assert message_of(frame) == message


def test_an_error_of_the_store_is_tried_again_whatever_it_was() -> None:
    assert isinstance(wire.error_of(wire.failure_of(StoreAccessDenied("no"))), StoreUnavailable)
    assert isinstance(wire.error_of(wire.Failure(77, "of a newer peer")), StoreUnavailable)
    unknown = wire.error_of(wire.Failure(1, "?", [31_000, 1]))
    assert isinstance(unknown, ApiError)
    assert unknown.code is ErrorCode.UNKNOWN_SERVER_ERROR
    by = wire.error_of(wire.Failure(2, "?", text="SomethingNew"))
    assert isinstance(by, BrokerFenced)
    assert by.by is FencedBy.REGISTRATION


def test_fields_of_a_newer_peer_are_passed_over() -> None:
    welcome = msgspec.msgpack.encode([2, 1, 3, 4, 7, "something new", {"and": "more"}])
    assert wire.decode_message(welcome) == wire.Welcome(version=1, node=NODE, epoch=ControllerEpoch(4), record_number=7)
    older_hello = msgspec.msgpack.encode([1, 1, "c", 3, b"s" * 16])
    assert isinstance(wire.decode_message(older_hello), wire.Hello)


@given(st.binary(max_size=200))
def test_whatever_arrives_is_a_message_or_malformed(data: bytes) -> None:
    try:
        message = wire.decode_message(data)
        if isinstance(message, wire.Ask):
            wire.decode_request(message.request)
    except wire.MalformedFrame:
        pass


def test_a_request_that_only_a_newer_broker_knows_is_malformed() -> None:
    with pytest.raises(wire.MalformedFrame):
        wire.decode_request(msgspec.Raw(msgspec.msgpack.encode([999, 1])))
    answered = wire.Answered(number=1, record_number=1, value=msgspec.Raw(msgspec.msgpack.encode("text")))
    with pytest.raises(wire.MalformedFrame):
        wire.decode_answer(requests.PrepareObjects(NODE, EPOCH, 1), answered)


def test_candidates_question_and_its_answer_come_back_as_they_were() -> None:
    for message in (wire.DoYouHear(ClusterId("c")), wire.Hear(ControllerEpoch(3)), wire.Hear(None)):
        assert message_of(wire.encode_frame(message)) == message
