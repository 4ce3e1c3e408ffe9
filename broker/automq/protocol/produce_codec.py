"""Produce by hand: requests parsed without copying records, answers in one buffer.

The classes are those of `messages.produce`, and tests hold both functions against the compiled codec. By hand it takes
about half the time, which is felt: it is what every acknowledged batch pays.

`records` are writable views into the frame and valid as long as the frame is; everything else is copied.
"""

import functools
import struct
from collections.abc import Callable, Sequence
from typing import Final

from automq.binary import read_unsigned_varint, write_unsigned_varint
from automq.protocol.apis import APIS, ApiKey, encode_response
from automq.protocol.codec import MalformedMessage, decode_whole
from automq.protocol.decoder_source import STRING_BYTES_MAX, skip_tags, uuid_of
from automq.protocol.messages.produce import (
    BatchIndexAndErrorMessage,
    LeaderIdAndEpoch,
    NodeEndpoint,
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
    TopicProduceResponse,
)
from automq.protocol.schema import ZERO_UUID

FLEXIBLE_SINCE: Final = 9
TOPIC_IDS_SINCE: Final = 13
LEADERS_SINCE: Final = 10
NARROW_ELEMENTS_MAX: Final = 500
"""Topics and partitions of a request that is parsed at one go: some milliseconds, until they are appended."""
NO_OFFSET: Final = -1
NO_TIMESTAMP: Final = -1

_new = object.__new__
_int16 = struct.Struct(">h").unpack_from
_int32 = struct.Struct(">i").unpack_from
_acks_timeout_count = struct.Struct(">hiB").unpack_from
_index_length = struct.Struct(">iBB").unpack_from
_acks_timeout = struct.Struct(">hi").unpack_from
_pack_int32 = struct.Struct(">i").pack
_pack_size_id = struct.Struct(">ii").pack
_pack_size_into = struct.Struct(">i").pack_into
# Index, error, base offset, log append time; then log start offset; then no record errors and no message.
_pack_result_v3 = struct.Struct(">ihqq").pack
_pack_result_v5 = struct.Struct(">ihqqq").pack
_pack_result_v8 = struct.Struct(">ihqqqih").pack
_pack_result_v9 = struct.Struct(">ihqqqBBB").pack
# An answer for one partition, flexible: size, correlation id, no tags, one topic; and what comes behind its name.
_pack_one_front = struct.Struct(">iiBB").pack
_pack_one_result = struct.Struct(">BihqqqBBBBiB").pack
_ONE_RESULT_BYTES: Final = struct.calcsize(">BihqqqBBBBiB")


class ManyPartitions(Exception):
    """The request has more elements than are parsed at one go."""


def parse_produce_request(frame: memoryview, offset: int, version: int) -> ProduceRequest:
    """The Produce request (version 3 to 13) in `frame` from `offset` on. Raises MalformedMessage, ManyPartitions.

    What follows it is ignored, as Kafka does.
    """
    try:
        if version >= FLEXIBLE_SINCE:
            request, _ = _parse_flexible(frame, offset, version)
        else:
            request, _ = _parse_classic(frame, offset)
    except (IndexError, struct.error):
        raise _malformed(f"{len(frame)} bytes are too few", version, len(frame)) from None
    except UnicodeDecodeError:
        raise _malformed("text is not UTF-8", version, offset) from None
    except ValueError as error:
        raise _malformed(str(error), version, offset) from None
    return request


def _malformed(reason: str, version: int, position: int) -> MalformedMessage:
    return MalformedMessage(reason, message_name="ProduceRequest", version=version, position=position)


def _parse_flexible(frame: memoryview, offset: int, version: int) -> tuple[ProduceRequest, int]:
    # Nearly all lengths but those of records fit one byte: the call for longer ones is avoided.
    size = len(frame)
    request: ProduceRequest = _new(ProduceRequest)
    if frame[offset]:
        request.transactional_id, offset = _compact_string(frame, offset)
    else:
        request.transactional_id = None
        offset += 1
    request.acks, request.timeout, topic_count = _acks_timeout_count(frame, offset)
    offset += 7
    if topic_count > 127:
        topic_count, offset = read_unsigned_varint(frame, offset - 1)
    has_ids = version >= TOPIC_IDS_SINCE
    left = NARROW_ELEMENTS_MAX - topic_count
    if topic_count < 1 or topic_count * 3 > size - offset + 3:
        raise _bad_count(topic_count - 1)
    if left < 0:
        raise ManyPartitions
    request.topic_data = topics = []
    for _ in range(topic_count - 1):
        topic: TopicProduceData = _new(TopicProduceData)
        if has_ids:
            end = offset + 16
            if end > size:
                raise IndexError
            topic.name = ""
            topic.topic_id = uuid_of(bytes(frame[offset:end]))
            offset = end
        else:
            length = frame[offset]
            end = offset + length
            if 0 < length < 128 and end <= size:
                topic.name = str(frame[offset + 1 : end], "utf-8")
                offset = end
            else:
                topic.name, offset = _compact_string(frame, offset)
            topic.topic_id = ZERO_UUID
        count = frame[offset]
        offset += 1
        if count > 127:
            count, offset = read_unsigned_varint(frame, offset - 1)
        left -= count
        if count < 1 or count * 6 > size - offset + 6:
            raise _bad_count(count - 1)
        if left < 0:
            raise ManyPartitions
        topic.partition_data, offset = _parse_flexible_partitions(frame, offset, count - 1)
        offset = skip_tags(frame, offset, size) if frame[offset] else offset + 1
        topics.append(topic)
    return request, skip_tags(frame, offset, size) if frame[offset] else offset + 1


def _parse_flexible_partitions(frame: memoryview, offset: int, count: int) -> tuple[list[PartitionProduceData], int]:
    size = len(frame)
    partitions = []
    for _ in range(count):
        partition: PartitionProduceData = _new(PartitionProduceData)
        # The index and the first two bytes of the length, which is all of it up to 16 KiB.
        partition.index, length, second = _index_length(frame, offset)
        if length < 128:
            offset += 5
        elif second < 128:
            length += (second << 7) - 128
            offset += 6
        else:
            length, offset = read_unsigned_varint(frame, offset + 4)
        if length:
            end = offset + length - 1
            partition.records = frame[offset:end]
            # Reading behind the records also finds them cut off.
            offset = end
        else:
            partition.records = None
        offset = skip_tags(frame, offset, size) if frame[offset] else offset + 1
        partitions.append(partition)
    return partitions, offset


def _compact_string(frame: memoryview, offset: int) -> tuple[str, int]:
    length = frame[offset]
    offset += 1
    if length > 127:
        length, offset = read_unsigned_varint(frame, offset - 1)
    if not length:
        raise ValueError("null where a name must be")
    end = offset + length - 1
    if end > len(frame) or length > STRING_BYTES_MAX:
        raise IndexError
    return str(frame[offset:end], "utf-8"), end


def _parse_classic(frame: memoryview, offset: int) -> tuple[ProduceRequest, int]:
    size = len(frame)
    request: ProduceRequest = _new(ProduceRequest)
    request.transactional_id, offset = _classic_string(frame, offset)
    request.acks, request.timeout = _acks_timeout(frame, offset)
    (topic_count,) = _int32(frame, offset + 6)
    offset += 10
    left = NARROW_ELEMENTS_MAX - topic_count
    if topic_count < 0 or topic_count * 6 > size - offset:
        raise _bad_count(topic_count)
    if left < 0:
        raise ManyPartitions
    request.topic_data = topics = []
    for _ in range(topic_count):
        topic: TopicProduceData = _new(TopicProduceData)
        name, offset = _classic_string(frame, offset)
        if name is None:
            raise ValueError("null where a name must be")
        topic.name = name
        topic.topic_id = ZERO_UUID
        (count,) = _int32(frame, offset)
        offset += 4
        left -= count
        if count < 0 or count * 8 > size - offset:
            raise _bad_count(count)
        if left < 0:
            raise ManyPartitions
        topic.partition_data = partitions = []
        for _ in range(count):
            partition: PartitionProduceData = _new(PartitionProduceData)
            (partition.index,) = _int32(frame, offset)
            (length,) = _int32(frame, offset + 4)
            offset += 8
            if length >= 0:
                end = offset + length
                if end > size:
                    raise IndexError
                partition.records = frame[offset:end]
                offset = end
            else:
                partition.records = None
            partitions.append(partition)
        topics.append(topic)
    return request, offset


def _classic_string(frame: memoryview, offset: int) -> tuple[str | None, int]:
    (length,) = _int16(frame, offset)
    offset += 2
    if length < 0:
        return None, offset
    end = offset + length
    if end > len(frame):
        raise IndexError
    return str(frame[offset:end], "utf-8"), end


def _bad_count(count: int) -> ValueError:
    if count < 0:
        return ValueError("null where an array must be")
    return ValueError(f"an array of {count} elements is too long")


class ProduceResult:
    """The answer for one partition. Not frozen: made for every batch produced."""

    __slots__ = (
        "base_offset",
        "current_leader",
        "error_code",
        "error_message",
        "index",
        "log_append_time",
        "log_start_offset",
        "record_errors",
    )

    def __init__(
        self,
        index: int,
        error_code: int,
        base_offset: int = NO_OFFSET,
        log_append_time: int = NO_TIMESTAMP,
        log_start_offset: int = NO_OFFSET,
        error_message: str | None = None,
        record_errors: Sequence[BatchIndexAndErrorMessage] = (),
        current_leader: LeaderIdAndEpoch | None = None,
    ) -> None:
        self.index = index
        self.error_code = error_code
        self.base_offset = base_offset
        self.log_append_time = log_append_time
        self.log_start_offset = log_start_offset
        self.error_message = error_message
        self.record_errors = record_errors
        self.current_leader = current_leader


TopicResults = tuple[TopicProduceData, Sequence[ProduceResult]]
"""A topic of the request and the answers for its partitions."""


def encode_produce_response(
    *,
    version: int,
    correlation_id: int,
    topics: Sequence[TopicResults],
    throttle_time: int = 0,
    node_endpoints: Sequence[NodeEndpoint] = (),
) -> bytes | bytearray:
    """A whole frame. What a version has no room for (messages, leaders) is left out of it."""
    if version >= FLEXIBLE_SINCE and len(topics) == 1 and len(topics[0][1]) == 1 and not node_endpoints:
        topic, (result,) = topics[0]
        if result.error_message is None and result.current_leader is None and not result.record_errors:
            return _encode_one(version, correlation_id, topic, result, throttle_time)
    is_plain = not node_endpoints
    for _, results in topics:
        for result in results:
            if result.error_message is not None or result.current_leader is not None or result.record_errors:
                is_plain = False
    if not is_plain:
        return _encode_with_details(version, correlation_id, topics, throttle_time, node_endpoints)
    if version >= FLEXIBLE_SINCE:
        return _encode_plain_flexible(version, correlation_id, topics, throttle_time)
    return _encode_plain_classic(version, correlation_id, topics, throttle_time)


def change_produce_response(
    frame: bytes | bytearray, version: int, change: Callable[[PartitionProduceResponse], None]
) -> bytes:
    """An answer that is encoded already, after `change` of each partition's. Takes its time."""
    correlation_id = int.from_bytes(frame[4:8], "big", signed=True)
    response = decode_whole(ProduceResponse, version, bytes(frame), 9 if version >= FLEXIBLE_SINCE else 8)
    for topic in response.responses:
        for partition in topic.partition_responses:
            change(partition)
    return encode_response(APIS[ApiKey.PRODUCE], version, correlation_id, response)


def _encode_one(
    version: int, correlation_id: int, topic: TopicProduceData, result: ProduceResult, throttle_time: int
) -> bytes:
    """What librdkafka asks for: one partition a request."""
    name = topic.topic_id.bytes if version >= TOPIC_IDS_SINCE else _compact_name(topic.name)
    tail = _pack_one_result(
        2,
        result.index,
        result.error_code,
        result.base_offset,
        result.log_append_time,
        result.log_start_offset,
        1,
        0,
        0,
        0,
        throttle_time,
        0,
    )
    return _pack_one_front(6 + len(name) + _ONE_RESULT_BYTES, correlation_id, 0, 2) + name + tail


@functools.lru_cache(maxsize=4096)
def _compact_name(name: str) -> bytes:
    """The same few names again and again."""
    encoded = name.encode()
    out = bytearray()
    write_unsigned_varint(out, len(encoded) + 1)
    return bytes(out) + encoded


def _encode_plain_flexible(
    version: int, correlation_id: int, topics: Sequence[TopicResults], throttle_time: int
) -> bytearray:
    out = bytearray(_pack_size_id(0, correlation_id))
    out.append(0)
    write_unsigned_varint(out, len(topics) + 1)
    for topic, results in topics:
        if version >= TOPIC_IDS_SINCE:
            out += topic.topic_id.bytes
        else:
            name = topic.name.encode()
            write_unsigned_varint(out, len(name) + 1)
            out += name
        write_unsigned_varint(out, len(results) + 1)
        for result in results:
            out += _pack_result_v9(
                result.index,
                result.error_code,
                result.base_offset,
                result.log_append_time,
                result.log_start_offset,
                1,
                0,
                0,
            )
        out.append(0)
    out += _pack_int32(throttle_time)
    out.append(0)
    _pack_size_into(out, 0, len(out) - 4)
    return out


def _encode_plain_classic(
    version: int, correlation_id: int, topics: Sequence[TopicResults], throttle_time: int
) -> bytearray:
    out = bytearray(_pack_size_id(0, correlation_id))
    out += _pack_int32(len(topics))
    for topic, results in topics:
        name = topic.name.encode()
        out += len(name).to_bytes(2, "big")
        out += name
        out += _pack_int32(len(results))
        for result in results:
            index, code, base, time = result.index, result.error_code, result.base_offset, result.log_append_time
            if version >= 8:
                out += _pack_result_v8(index, code, base, time, result.log_start_offset, 0, -1)
            elif version >= 5:
                out += _pack_result_v5(index, code, base, time, result.log_start_offset)
            else:
                out += _pack_result_v3(index, code, base, time)
    out += _pack_int32(throttle_time)
    _pack_size_into(out, 0, len(out) - 4)
    return out


def _encode_with_details(
    version: int,
    correlation_id: int,
    topics: Sequence[TopicResults],
    throttle_time: int,
    node_endpoints: Sequence[NodeEndpoint],
) -> bytes:
    """The rare answer with more than numbers goes through the compiled codec."""
    has_leaders = version >= LEADERS_SINCE
    responses = []
    for topic, results in topics:
        partitions = [partition_response(result, has_leaders=has_leaders) for result in results]
        responses.append(TopicProduceResponse(name=topic.name, topic_id=topic.topic_id, partition_responses=partitions))
    response = ProduceResponse(
        responses=responses,
        throttle_time=throttle_time,
        node_endpoints=list(node_endpoints) if has_leaders else [],
    )
    return encode_response(APIS[ApiKey.PRODUCE], version, correlation_id, response)


def partition_response(result: ProduceResult, *, has_leaders: bool) -> PartitionProduceResponse:
    """The same for the compiled codec; `has_leaders`: the version has room for who leads."""
    partition = PartitionProduceResponse(
        index=result.index,
        error_code=result.error_code,
        base_offset=result.base_offset,
        log_append_time=result.log_append_time,
        log_start_offset=result.log_start_offset,
        record_errors=list(result.record_errors),
        error_message=result.error_message,
    )
    if has_leaders and result.current_leader is not None:
        partition.current_leader = result.current_leader
    return partition
