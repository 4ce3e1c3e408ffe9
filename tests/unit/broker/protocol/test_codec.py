"""The compiled codec: byte for byte what kio writes, for every API and version; bad input is an error."""

import dataclasses
import random
import tracemalloc
import zlib
from typing import Any

import pytest

from automq.protocol import codec
from automq.protocol.codec import (
    MalformedMessage,
    UnsupportedField,
    decode,
    decode_versioned,
    decode_whole,
    encode,
    encode_versioned,
)
from automq.protocol.encoder_source import compile_encoder
from automq.protocol.messages.admin import CreatableTopic, CreateTopicsRequest
from automq.protocol.messages.consumer_protocol import ConsumerProtocolAssignment, ConsumerProtocolSubscription
from automq.protocol.messages.controller import UnregisterBrokerRequest
from automq.protocol.messages.discovery import ApiVersionsRequest, MetadataRequest, MetadataRequestTopic
from automq.protocol.messages.fetch import FetchRequest
from automq.protocol.messages.group import HeartbeatRequest, JoinGroupResponse
from automq.protocol.messages.group_records import (
    GroupMetadataKey,
    GroupMetadataValue,
    MemberMetadata,
    OffsetCommitKey,
    OffsetCommitValue,
)
from automq.protocol.messages.header import RequestHeader, ResponseHeader
from automq.protocol.messages.offset import OffsetCommitRequest
from automq.protocol.messages.produce import ProduceRequest
from automq.protocol.schema import METADATA_KEY, ZERO_UUID, Message, Scalar, Wire, wire_of
from tests.support.kio_oracle import kio_bytes
from tests.support.messages import all_messages, random_message

INSTANCES = 6
ALL = all_messages()
FLEXIBLE = [(cls, version) for cls, version in ALL if cls.is_flexible(version)]
HEADERS_AND_DATA = [
    (cls, version)
    for cls in (RequestHeader, ResponseHeader, ConsumerProtocolSubscription, ConsumerProtocolAssignment)
    for version in cls.VERSIONS
]
GROUP_RECORDS = [
    (cls, version)
    for cls in (OffsetCommitKey, OffsetCommitValue, GroupMetadataKey, GroupMetadataValue)
    for version in cls.VERSIONS
]


def name_of(value: object) -> str:
    return getattr(value, "__name__", str(value))


def seeded(cls: type[Message], version: int) -> random.Random:
    return random.Random(zlib.crc32(f"{cls.__name__} {version}".encode()))


@pytest.mark.parametrize(("cls", "version"), ALL + HEADERS_AND_DATA, ids=name_of)
def test_bytes_are_those_of_kio(cls: type[Message], version: int) -> None:
    source = seeded(cls, version)
    for _ in range(INSTANCES):
        message = random_message(cls, version, source)
        if isinstance(message, UnregisterBrokerRequest):
            # A field of our own, which is not written while it has its default.
            message.broker_epoch = -1
        expected = kio_bytes(message, version)

        assert encode(message, version) == expected
        assert decode_whole(cls, version, expected) == message


@pytest.mark.parametrize(("cls", "version"), ALL + HEADERS_AND_DATA + GROUP_RECORDS, ids=name_of)
def test_message_cut_anywhere_is_malformed(cls: type[Message], version: int) -> None:
    source = seeded(cls, version)
    message = random_message(cls, version, source)
    data = encode(message, version)
    assert decode_whole(cls, version, data) == message
    cuts = range(len(data)) if len(data) < 200 else sorted(source.sample(range(len(data)), 200))
    for cut in cuts:
        with pytest.raises(MalformedMessage):
            decode(cls, version, data[:cut])


@pytest.mark.parametrize(("cls", "version"), FLEXIBLE, ids=name_of)
def test_unknown_tags_are_skipped_everywhere(cls: type[Message], version: int) -> None:
    source = seeded(cls, version)
    message = random_message(cls, version, source)
    newer_classes: dict[type, type] = {}
    newer = as_newer(message, newer_classes)
    data = bytearray()
    compile_encoder(newer_classes[cls], version, is_flexible=True)(newer, data)

    assert decode_whole(cls, version, bytes(data)) == message
    assert len(data) > len(encode(message, version))


def as_newer(message: Any, newer_classes: dict[type, type]) -> Any:
    """The same message of a later day: every struct has a tagged field that we do not know."""
    values: dict[str, object] = {"of_a_later_day": b"something"}
    for field in dataclasses.fields(message):
        value = getattr(message, field.name)
        if isinstance(wire_of(field).kind, Scalar) or value is None:
            values[field.name] = value
        elif isinstance(value, list):
            values[field.name] = [as_newer(item, newer_classes) for item in value]
        else:
            values[field.name] = as_newer(value, newer_classes)
    return newer_class(type(message), newer_classes)(**values)


def newer_class(cls: type, newer_classes: dict[type, type]) -> type:
    if cls not in newer_classes:
        fields: list[tuple[str, Any, Any]] = []
        for field in dataclasses.fields(cls):
            wire = dataclasses.replace(wire_of(field), ignorable=True)
            if not isinstance(wire.kind, Scalar):
                default = newer_class(wire.kind, newer_classes) if isinstance(wire.default, type) else wire.default
                wire = dataclasses.replace(wire, kind=newer_class(wire.kind, newer_classes), default=default)
            fields.append((field.name, Any, dataclasses.field(default=None, metadata={METADATA_KEY: wire})))
        extra = dataclasses.replace(a_binary_wire(), tag=9999)
        fields.append(("of_a_later_day", Any, dataclasses.field(default=None, metadata={METADATA_KEY: extra})))
        newer_classes[cls] = dataclasses.make_dataclass(cls.__name__, fields)
    return newer_classes[cls]


def a_binary_wire() -> Wire:
    (field,) = [field for field in dataclasses.fields(MemberMetadata) if field.name == "assignment"]
    return wire_of(field)


@pytest.mark.parametrize(("cls", "version"), ALL, ids=name_of)
def test_one_wrong_byte_is_harmless(cls: type[Message], version: int) -> None:
    source = seeded(cls, version)
    original = encode(random_message(cls, version, source), version)
    for _ in range(min(60, 4 * len(original))):
        data = bytearray(original)
        data[source.randrange(len(data))] = source.choice([0, 1, 0x7F, 0x80, 0xFF, source.randrange(256)])
        try:
            decode_whole(cls, version, bytes(data))
        except MalformedMessage:
            pass


def test_extreme_numbers_survive() -> None:
    for value in (-(2**63), 2**63 - 1):
        message = OffsetCommitValue(offset=value, commit_timestamp=value)
        for version in OffsetCommitValue.VERSIONS:
            assert decode_whole(OffsetCommitValue, version, encode(message, version)) == message


@pytest.mark.parametrize(
    ("cls", "version", "data"),
    [
        (MetadataRequest, 12, b"\xff\xff\xff\xff\x07" + bytes(100)),
        (MetadataRequest, 1, b"\x7f\xff\xff\xff" + bytes(100)),
        (MetadataRequest, 12, b"\xff\xff\xff\xff\xff\xff\xff" + bytes(100)),
        (ApiVersionsRequest, 3, b"\xff\xff\xff\xff\x07" + bytes(100)),
        (ApiVersionsRequest, 3, b"\x01\x01\xff\xff\xff\xff\x07" + bytes(100)),
    ],
)
def test_claimed_length_allocates_nothing(cls: type[Message], version: int, data: bytes) -> None:
    decode_whole(MetadataRequest, 12, encode(MetadataRequest(), 12))
    tracemalloc.start()
    try:
        with pytest.raises(MalformedMessage):
            decode(cls, version, data)
        assert tracemalloc.get_traced_memory()[1] < 500_000
    finally:
        tracemalloc.stop()


def test_elements_are_counted_over_the_whole_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "ELEMENTS_MAX", 10)
    topics = [CreatableTopic(name="t") for _ in range(5)]
    assert decode_whole(CreateTopicsRequest, 5, encode(CreateTopicsRequest(topics=topics), 5)).topics == topics

    topics = [CreatableTopic(name="t") for _ in range(11)]
    with pytest.raises(MalformedMessage, match="too long"):
        decode(CreateTopicsRequest, 5, encode(CreateTopicsRequest(topics=topics), 5))


def test_tags_are_counted() -> None:
    with pytest.raises(MalformedMessage, match="tagged fields are too many"):
        decode(ApiVersionsRequest, 3, b"\x01\x01\x91\x4e" + bytes(30_000))


def test_bytes_behind_the_message_are_malformed() -> None:
    data = encode(HeartbeatRequest(group_id="g"), 4) + b"\x00"

    assert decode(HeartbeatRequest, 4, data) == (HeartbeatRequest(group_id="g"), len(data) - 1)
    with pytest.raises(MalformedMessage, match="1 bytes behind the message"):
        decode_whole(HeartbeatRequest, 4, data)


def test_null_where_a_value_must_be_is_malformed() -> None:
    data = encode(MetadataRequest(topics=None), 12)
    assert decode_whole(MetadataRequest, 12, data).topics is None

    with pytest.raises(MalformedMessage, match="null where a value must be"):
        decode(MetadataRequest, 0, b"\xff\xff\xff\xff")


def test_text_that_is_not_utf8_is_malformed() -> None:
    data = encode(HeartbeatRequest(group_id="group"), 4).replace(b"group", b"gr\xffup")

    with pytest.raises(MalformedMessage, match="HeartbeatRequest version 4: text is not UTF-8 at byte 1"):
        decode(HeartbeatRequest, 4, data)


def test_compact_text_longer_than_the_old_form_allows_is_malformed() -> None:
    data = encode(ApiVersionsRequest(client_software_name="x" * 32768), 3)

    with pytest.raises(MalformedMessage, match="text is too long"):
        decode(ApiVersionsRequest, 3, data)


def test_offset_is_where_the_message_begins() -> None:
    message = HeartbeatRequest(group_id="g", member_id="m")
    data = b"header" + encode(message, 3)

    assert decode(HeartbeatRequest, 3, memoryview(data), 6) == (message, len(data))


def test_records_are_views_into_the_frame() -> None:
    message = random_message(ProduceRequest, 9, random.Random(4))
    frame = memoryview(bytearray(encode(message, 9)))

    decoded = decode_whole(ProduceRequest, 9, frame)

    records = [partition.records for topic in decoded.topic_data for partition in topic.partition_data]
    assert {type(view) for view in records} <= {memoryview, type(None)}
    assert all(view.obj is frame.obj for view in records if view is not None)


def test_ignorable_field_is_left_out() -> None:
    message = JoinGroupResponse(throttle_time=5, protocol_name="range")

    assert decode_whole(JoinGroupResponse, 1, encode(message, 1)).throttle_time == 0


def test_field_that_matters_is_refused_by_a_version_that_lacks_it() -> None:
    message = CreateTopicsRequest(validate_only=True)
    encode(message, 2)
    request = MetadataRequest(topics=[MetadataRequestTopic(name="t")], allow_auto_topic_creation=False)

    with pytest.raises(UnsupportedField, match="allow_auto_topic_creation has a value"):
        encode(request, 3)


@pytest.mark.parametrize(
    ("message", "version"),
    [
        (HeartbeatRequest(generation_id=2**31), 4),
        (JoinGroupResponse(protocol_name=None), 6),
        (FetchRequest(topics=None), 12),
    ],  # type: ignore[arg-type]
)
def test_value_the_wire_cannot_carry_is_refused(message: Message, version: int) -> None:
    with pytest.raises(UnsupportedField):
        encode(message, version)


def test_default_of_a_missing_field_is_kafkas() -> None:
    decoded = decode_whole(OffsetCommitRequest, 2, encode(OffsetCommitRequest(group_id="g"), 2))

    assert (decoded.generation_id_or_member_epoch, decoded.group_instance_id) == (-1, None)


@pytest.mark.parametrize(("cls", "version"), GROUP_RECORDS + HEADERS_AND_DATA[-4:], ids=name_of)
def test_versioned_message_round_trips(cls: type[Message], version: int) -> None:
    message = random_message(cls, version, seeded(cls, version))

    data = encode_versioned(message, version)

    assert data[:2] == version.to_bytes(2, "big")
    assert decode_versioned(cls, data) == message


def test_newer_subscription_is_read_as_our_newest() -> None:
    message = ConsumerProtocolSubscription(topics=["t"], rack_id="r")
    data = b"\x00\x07" + encode(message, 3) + b"more"

    assert decode_versioned(ConsumerProtocolSubscription, data, is_newest_for_newer=True) == message
    with pytest.raises(MalformedMessage, match="version is not known"):
        decode_versioned(ConsumerProtocolSubscription, data)


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x00\x09abc", b"\xff\xffabc"])
def test_versioned_message_of_no_version_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_versioned(OffsetCommitValue, data)


def test_the_id_of_no_topic_is_always_the_same_object() -> None:
    """What asks for topics by name has one in each of them, and is compared by identity."""
    encoded = encode(MetadataRequest(topics=[MetadataRequestTopic(name="a")] * 2), 12)
    decoded, _ = decode(MetadataRequest, 12, encoded)
    assert decoded.topics is not None
    assert [topic.topic_id is ZERO_UUID for topic in decoded.topics] == [True, True]
