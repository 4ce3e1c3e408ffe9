"""Fetch by hand: requests parsed, answers as a list of parts, records not copied.

Requests become the classes of `messages.fetch`. An answer is made of `FetchResult`s, whose records are any parts of an
answer that are whole batches together; between them come small buffers with everything else. Tests hold
both functions against the compiled codec.
"""

import struct
import uuid
from collections.abc import Sequence
from typing import Final

from automq.binary import read_unsigned_varint, write_unsigned_varint
from automq.protocol.codec import decode
from automq.protocol.connection import Part
from automq.protocol.decoder_source import uuid_of
from automq.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic, NodeEndpoint, ReplicaState
from automq.protocol.schema import ZERO_UUID
from automq.steps import Steps

FLEXIBLE_SINCE: Final = 12
TOPIC_IDS_SINCE: Final = 13
REPLICA_STATE_SINCE: Final = 15
NODE_ENDPOINTS_SINCE: Final = 16

NO_OFFSET: Final = -1
NO_REPLICA: Final = -1
HIGH_WATERMARK_MAX: Final = 2**63 - 1

_new = object.__new__
# Version 12 on: max wait, min bytes, max bytes, isolation, session id, session epoch; before 15 a replica id in front.
_unpack_top_v12 = struct.Struct(">iiiibii").unpack_from
_unpack_top_v15 = struct.Struct(">iiibii").unpack_from
# Index, leader epoch, fetch offset, last fetched epoch, log start offset, max bytes.
_unpack_partition_v12 = struct.Struct(">iiqiqi").unpack_from
_EPOCH_AT_V12: Final = 21
_EPOCH_AT_V15: Final = 17
_ELEMENTS_MAX: Final = 100_000
"""More partitions than a broker ever has; beyond, the compiled codec decides."""

# Partitions of an answer that are encoded at one go where it is done in turns; each takes less than a microsecond.
PARTITIONS_A_PART: Final = 500

_pack_int16 = struct.Struct(">h").pack
_pack_int32 = struct.Struct(">i").pack
_pack_size_into = struct.Struct(">i").pack_into
_pack_top_v4 = struct.Struct(">iii").pack
_pack_top_v7 = struct.Struct(">iiihi").pack
_pack_top_v12 = struct.Struct(">iiBihi").pack
# With a list of no topics, and no tags.
_pack_quiet_v12 = struct.Struct(">iiBihiBB").pack
_QUIET_BYTES: Final = 17
_pack_partition_v4 = struct.Struct(">ihqq").pack
_pack_partition_v5 = struct.Struct(">ihqqq").pack
# No aborted transactions, and the preferred replica.
_pack_partition_v12 = struct.Struct(">ihqqqBi").pack
_pack_aborted = struct.Struct(">qq").pack
# Tag, size, and the struct with its own empty section of tags.
_pack_diverging = struct.Struct(">BBiqB").pack
_pack_leader = struct.Struct(">BBiiB").pack


def parse_fetch_request(frame: memoryview, offset: int, version: int) -> FetchRequest:
    """The Fetch request (version 4 to 18) that fills `frame` from `offset`. Raises MalformedMessage.

    By hand goes the request as clients send it today; old versions, forgotten topics, and everything that is not
    well-formed are the compiled codec's.
    """
    if version >= FLEXIBLE_SINCE:
        try:
            request = _parse_flexible(frame, offset, version)
        except (IndexError, struct.error, ValueError):
            request = None
        if request is not None:
            return request
    # What follows the message is ignored, as Kafka does.
    return decode(FetchRequest, version, frame, offset)[0]


def _parse_flexible(frame: memoryview, offset: int, version: int) -> FetchRequest | None:
    """The request, or None for what is not the common case."""
    size = len(frame)
    request: FetchRequest = _new(FetchRequest)
    request.cluster_id = None
    request.replica_state = _new(ReplicaState)
    request.replica_state.replica_id = -1
    request.replica_state.replica_epoch = -1
    if version >= REPLICA_STATE_SINCE:
        request.replica_id = -1
        (
            request.max_wait,
            request.min_bytes,
            request.max_bytes,
            request.isolation_level,
            request.session_id,
            request.session_epoch,
        ) = _unpack_top_v15(frame, offset)
        offset += 21
    else:
        (
            request.replica_id,
            request.max_wait,
            request.min_bytes,
            request.max_bytes,
            request.isolation_level,
            request.session_id,
            request.session_epoch,
        ) = _unpack_top_v12(frame, offset)
        offset += 25
    topics, offset = _parse_topics(frame, offset, has_ids=version >= TOPIC_IDS_SINCE)
    # One is the empty list of forgotten topics.
    if topics is None or frame[offset] != 1:
        return None
    request.topics = topics
    request.forgotten_topics_data = []
    length, offset = read_unsigned_varint(frame, offset + 1)
    end = offset + length - 1
    if length < 1 or end + 1 != size or frame[end]:
        return None
    request.rack_id = str(frame[offset:end], "utf-8")
    return request


def _parse_topics(frame: memoryview, offset: int, *, has_ids: bool) -> tuple[list[FetchTopic] | None, int]:
    """The topics and the offset behind them; None for what is not the common case."""
    size = len(frame)
    topic_count, offset = read_unsigned_varint(frame, offset)
    left = _ELEMENTS_MAX - topic_count
    if topic_count < 1 or left < 0:
        return None, offset
    topics = []
    for _ in range(topic_count - 1):
        topic: FetchTopic = _new(FetchTopic)
        if has_ids:
            end = offset + 16
            topic.topic = ""
            topic.topic_id = uuid_of(bytes(frame[offset:end]))
        else:
            length, offset = read_unsigned_varint(frame, offset)
            end = offset + length - 1
            if length < 1 or end > size:
                return None, offset
            topic.topic = str(frame[offset:end], "utf-8")
            topic.topic_id = ZERO_UUID
        count, offset = read_unsigned_varint(frame, end)
        left -= count
        if count < 1 or left < 0:
            return None, offset
        topic.partitions = partitions = []
        for _ in range(count - 1):
            partition: FetchPartition = _new(FetchPartition)
            (
                partition.partition,
                partition.current_leader_epoch,
                partition.fetch_offset,
                partition.last_fetched_epoch,
                partition.log_start_offset,
                partition.partition_max_bytes,
            ) = _unpack_partition_v12(frame, offset)
            partition.replica_directory_id = ZERO_UUID
            partition.high_watermark = HIGH_WATERMARK_MAX
            if frame[offset + 32]:
                return None, offset
            offset += 33
            partitions.append(partition)
        if frame[offset]:
            return None, offset
        offset += 1
        topics.append(topic)
    return topics, offset


def session_epoch_at(version: int, body_offset: int) -> int:
    """Where the session's epoch lies in a frame of a flexible version, its own size not counted."""
    return body_offset + (_EPOCH_AT_V15 if version >= REPLICA_STATE_SINCE else _EPOCH_AT_V12)


class FetchResult:
    """The answer for one partition. Not frozen: made for every partition of every fetch."""

    __slots__ = (
        "aborted_transactions",
        "current_leader",
        "diverging_epoch",
        "error_code",
        "high_watermark",
        "index",
        "last_stable_offset",
        "log_start_offset",
        "preferred_read_replica",
        "records",
        "size",
    )

    def __init__(
        self,
        index: int,
        error_code: int,
        high_watermark: int = NO_OFFSET,
        last_stable_offset: int = NO_OFFSET,
        log_start_offset: int = NO_OFFSET,
        records: Sequence[Part] = (),
        size: int = 0,
        aborted_transactions: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        """`size` is that of all `records`; aborted transactions are (producer id, first offset)."""
        self.index = index
        self.error_code = error_code
        self.high_watermark = high_watermark
        self.last_stable_offset = last_stable_offset
        self.log_start_offset = log_start_offset
        self.records = records
        self.size = size
        self.aborted_transactions = aborted_transactions
        self.preferred_read_replica = NO_REPLICA
        self.diverging_epoch: tuple[int, int] | None = None
        """(epoch, end offset), for a client whose log ends in another epoch than ours."""
        self.current_leader: tuple[int, int] | None = None
        """(node, epoch), with errors that say somebody else leads."""


class FetchTopicResult:
    """A topic's answers: by name up to version 12, by id from 13."""

    __slots__ = ("name", "partitions", "topic_id")

    def __init__(self, name: str, topic_id: uuid.UUID, partitions: list[FetchResult]) -> None:
        self.name = name
        self.topic_id = topic_id
        self.partitions = partitions


def encode_fetch_response(
    *,
    version: int,
    correlation_id: int,
    topics: Sequence[FetchTopicResult],
    session_id: int = 0,
    error_code: int = 0,
    throttle_time: int = 0,
    node_endpoints: Sequence[NodeEndpoint] = (),
) -> list[Part]:
    """A whole frame as parts in order. The records are among them: their sizes count, they are not looked at.

    What a version has no room for (leaders, endpoints, the error and session of versions below 7) is left out.
    """
    body = _Body(_head(version, correlation_id, len(topics), session_id, error_code, throttle_time))
    for topic in topics:
        _append_topic_head(body.out, topic, version)
        _append_partitions(body, topic.partitions, version)
        if version >= FLEXIBLE_SINCE:
            body.out.append(0)
    return _finished(body, version, node_endpoints)


def encode_fetch_in_turns(
    *,
    version: int,
    correlation_id: int,
    topics: Sequence[FetchTopicResult],
    session_id: int = 0,
    error_code: int = 0,
    throttle_time: int = 0,
    node_endpoints: Sequence[NodeEndpoint] = (),
) -> Steps[list[Part]]:
    """As `encode_fetch_response`, of very many partitions."""
    body = _Body(_head(version, correlation_id, len(topics), session_id, error_code, throttle_time))
    for topic in topics:
        _append_topic_head(body.out, topic, version)
        for start in range(0, len(topic.partitions), PARTITIONS_A_PART):
            some = topic.partitions[start : start + PARTITIONS_A_PART]
            _append_partitions(body, some, version)
            yield len(some)
        if version >= FLEXIBLE_SINCE:
            body.out.append(0)
    return _finished(body, version, node_endpoints)


def _head(
    version: int, correlation_id: int, topics: int, session_id: int, error_code: int, throttle_time: int
) -> bytearray:
    if version >= FLEXIBLE_SINCE:
        out = bytearray(_pack_top_v12(0, correlation_id, 0, throttle_time, error_code, session_id))
        write_unsigned_varint(out, topics + 1)
        return out
    if version >= 7:
        out = bytearray(_pack_top_v7(0, correlation_id, throttle_time, error_code, session_id))
    else:
        out = bytearray(_pack_top_v4(0, correlation_id, throttle_time))
    out += _pack_int32(topics)
    return out


def _finished(body: "_Body", version: int, node_endpoints: Sequence[NodeEndpoint]) -> list[Part]:
    out = body.out
    if version >= FLEXIBLE_SINCE:
        if node_endpoints and version >= NODE_ENDPOINTS_SINCE:
            _append_node_endpoints(out, node_endpoints)
        else:
            out.append(0)
    body.buffers.append(out)
    _pack_size_into(body.first, 0, body.before + len(out) - 4)
    return body.buffers


class _Body:
    """An answer that is being written."""

    __slots__ = ("before", "buffers", "first", "out")

    def __init__(self, first: bytearray) -> None:
        self.first = self.out = first
        """What follows the records that were written last."""
        self.buffers: list[Part] = []
        """All before that."""
        self.before = 0
        """Bytes of them."""


def _append_topic_head(out: bytearray, topic: FetchTopicResult, version: int) -> None:
    if version < FLEXIBLE_SINCE:
        name = topic.name.encode()
        out += _pack_int16(len(name))
        out += name
        out += _pack_int32(len(topic.partitions))
        return
    if version >= TOPIC_IDS_SINCE:
        out += topic.topic_id.bytes
    else:
        name = topic.name.encode()
        write_unsigned_varint(out, len(name) + 1)
        out += name
    write_unsigned_varint(out, len(topic.partitions) + 1)


def _append_partitions(body: _Body, partitions: Sequence[FetchResult], version: int) -> None:
    if version < FLEXIBLE_SINCE:
        _append_classic(body, partitions, version)
        return
    out = body.out
    for result in partitions:
        if result.aborted_transactions is None:
            out += _pack_partition_v12(
                result.index,
                result.error_code,
                result.high_watermark,
                result.last_stable_offset,
                result.log_start_offset,
                0,
                result.preferred_read_replica,
            )
        else:
            _append_with_aborted(out, result, result.aborted_transactions)
        size = result.size
        if size < 127:
            out.append(size + 1)
        else:
            write_unsigned_varint(out, size + 1)
        if size:
            body.before += size + len(out)
            body.buffers.append(out)
            body.buffers.extend(result.records)
            out = bytearray()
        if result.current_leader is None and result.diverging_epoch is None:
            out.append(0)
        else:
            _append_tags(out, result)
    body.out = out


def encode_quiet_response(version: int, correlation_id: int, session_id: int, throttle_time: int) -> list[Part]:
    """As `encode_fetch_response`, of nothing: what an idle consumer with a session gets."""
    if version < FLEXIBLE_SINCE:
        return encode_fetch_response(
            version=version,
            correlation_id=correlation_id,
            topics=(),
            session_id=session_id,
            throttle_time=throttle_time,
        )
    return [_pack_quiet_v12(_QUIET_BYTES, correlation_id, 0, throttle_time, 0, session_id, 1, 0)]


def _append_with_aborted(out: bytearray, result: FetchResult, aborted: Sequence[tuple[int, int]]) -> None:
    out += _pack_partition_v5(
        result.index, result.error_code, result.high_watermark, result.last_stable_offset, result.log_start_offset
    )
    write_unsigned_varint(out, len(aborted) + 1)
    for producer_id, first_offset in aborted:
        out += _pack_aborted(producer_id, first_offset)
        out.append(0)
    out += _pack_int32(result.preferred_read_replica)


def _append_tags(out: bytearray, result: FetchResult) -> None:
    diverging, leader = result.diverging_epoch, result.current_leader
    out.append((diverging is not None) + (leader is not None))
    if diverging is not None:
        out += _pack_diverging(0, 13, diverging[0], diverging[1], 0)
    if leader is not None:
        out += _pack_leader(1, 9, leader[0], leader[1], 0)


def _append_node_endpoints(out: bytearray, endpoints: Sequence[NodeEndpoint]) -> None:
    content = bytearray()
    write_unsigned_varint(content, len(endpoints) + 1)
    for endpoint in endpoints:
        content += _pack_int32(endpoint.node_id)
        host = endpoint.host.encode()
        write_unsigned_varint(content, len(host) + 1)
        content += host
        content += _pack_int32(endpoint.port)
        if endpoint.rack is None:
            content.append(0)
        else:
            rack = endpoint.rack.encode()
            write_unsigned_varint(content, len(rack) + 1)
            content += rack
        content.append(0)
    out += b"\x01\x00"
    write_unsigned_varint(out, len(content))
    out += content


def _append_classic(body: _Body, partitions: Sequence[FetchResult], version: int) -> None:
    out = body.out
    for result in partitions:
        index, code, end, stable = (
            result.index,
            result.error_code,
            result.high_watermark,
            result.last_stable_offset,
        )
        if version >= 5:
            out += _pack_partition_v5(index, code, end, stable, result.log_start_offset)
        else:
            out += _pack_partition_v4(index, code, end, stable)
        aborted = result.aborted_transactions
        out += _pack_int32(-1 if aborted is None else len(aborted))
        for producer_id, first_offset in aborted or ():
            out += _pack_aborted(producer_id, first_offset)
        if version >= 11:
            out += _pack_int32(result.preferred_read_replica)
        out += _pack_int32(result.size)
        if result.size:
            body.before += result.size + len(out)
            body.buffers.append(out)
            body.buffers.extend(result.records)
            out = bytearray()
    body.out = out
