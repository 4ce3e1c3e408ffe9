"""Produce. The data path parses it by hand (`produce_codec`); these classes are the reference it is held against."""

import uuid
from dataclasses import dataclass

from automq.protocol.schema import Message, array, int16, int32, int64, record_set, string, struct, unique_id


@dataclass(slots=True, kw_only=True)
class PartitionProduceData:
    index: int = int32()
    records: memoryview | None = record_set(nullable_since=0)


@dataclass(slots=True, kw_only=True)
class TopicProduceData:
    name: str = string(until=12, ignorable=True)
    topic_id: uuid.UUID = unique_id(since=13, ignorable=True)
    partition_data: list[PartitionProduceData] = array(PartitionProduceData)


@dataclass(slots=True, kw_only=True)
class ProduceRequest(Message):
    """Produce (key 0) request, versions 3 to 13.

    Topics by name up to version 12, by id from 13. Versions 0 to 2 are advertised and refused.
    """

    API_KEY = 0
    VERSIONS = range(3, 14)
    FLEXIBLE_SINCE = 9

    transactional_id: str | None = string(nullable_since=0, default=None)
    acks: int = int16()
    timeout: int = int32()
    topic_data: list[TopicProduceData] = array(TopicProduceData)


@dataclass(slots=True, kw_only=True)
class BatchIndexAndErrorMessage:
    batch_index: int = int32(since=8)
    batch_index_error_message: str | None = string(since=8, nullable_since=8, default=None)


@dataclass(slots=True, kw_only=True)
class LeaderIdAndEpoch:
    leader_id: int = int32(since=10, default=-1)
    leader_epoch: int = int32(since=10, default=-1)


@dataclass(slots=True, kw_only=True)
class PartitionProduceResponse:
    index: int = int32()
    error_code: int = int16()
    base_offset: int = int64()
    log_append_time: int = int64(default=-1)
    log_start_offset: int = int64(since=5, default=-1, ignorable=True)
    record_errors: list[BatchIndexAndErrorMessage] = array(BatchIndexAndErrorMessage, since=8, ignorable=True)
    error_message: str | None = string(since=8, nullable_since=8, default=None, ignorable=True)
    current_leader: LeaderIdAndEpoch = struct(LeaderIdAndEpoch, since=10, tag=0)


@dataclass(slots=True, kw_only=True)
class TopicProduceResponse:
    name: str = string(until=12, ignorable=True)
    topic_id: uuid.UUID = unique_id(since=13, ignorable=True)
    partition_responses: list[PartitionProduceResponse] = array(PartitionProduceResponse)


@dataclass(slots=True, kw_only=True)
class NodeEndpoint:
    node_id: int = int32(since=10)
    host: str = string(since=10)
    port: int = int32(since=10)
    rack: str | None = string(since=10, nullable_since=10, default=None)


@dataclass(slots=True, kw_only=True)
class ProduceResponse(Message):
    """Produce (key 0) response, versions 3 to 13.

    From version 10 a partition may name its current leader in a tag.
    """

    API_KEY = 0
    VERSIONS = range(3, 14)
    FLEXIBLE_SINCE = 9

    responses: list[TopicProduceResponse] = array(TopicProduceResponse)
    throttle_time: int = int32()
    node_endpoints: list[NodeEndpoint] = array(NodeEndpoint, since=10, tag=0)
