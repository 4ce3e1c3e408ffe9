"""Reading: Fetch, offsets by time, ends of leader epochs. The data path parses Fetch by hand (`fetch_codec`).

Structs that carry the same name in several messages of this module but differ have names of their own here:
`FetchEpochEndOffset` (`EpochEndOffset` of FetchResponse).
"""

import uuid
from dataclasses import dataclass

from automq.protocol.schema import (
    Message,
    Scalar,
    array,
    int8,
    int16,
    int32,
    int64,
    record_set,
    string,
    struct,
    unique_id,
)


@dataclass(slots=True, kw_only=True)
class ReplicaState:
    replica_id: int = int32(since=15, default=-1)
    replica_epoch: int = int64(since=15, default=-1)


@dataclass(slots=True, kw_only=True)
class FetchPartition:
    partition: int = int32()
    current_leader_epoch: int = int32(since=9, default=-1, ignorable=True)
    fetch_offset: int = int64()
    last_fetched_epoch: int = int32(since=12, default=-1)
    log_start_offset: int = int64(since=5, default=-1, ignorable=True)
    partition_max_bytes: int = int32()
    replica_directory_id: uuid.UUID = unique_id(since=17, tag=0, ignorable=True)
    high_watermark: int = int64(since=18, tag=1, default=9223372036854775807, ignorable=True)


@dataclass(slots=True, kw_only=True)
class FetchTopic:
    topic: str = string(until=12, ignorable=True)
    topic_id: uuid.UUID = unique_id(since=13, ignorable=True)
    partitions: list[FetchPartition] = array(FetchPartition)


@dataclass(slots=True, kw_only=True)
class ForgottenTopic:
    topic: str = string(since=7, until=12, ignorable=True)
    topic_id: uuid.UUID = unique_id(since=13, ignorable=True)
    partitions: list[int] = array(Scalar.INT32, since=7)


@dataclass(slots=True, kw_only=True)
class FetchRequest(Message):
    """Fetch (key 1) request, versions 4 to 18.

    Sessions from version 7. Topics by name up to version 12, by id from 13.
    """

    API_KEY = 1
    VERSIONS = range(4, 19)
    FLEXIBLE_SINCE = 12

    cluster_id: str | None = string(since=12, nullable_since=12, tag=0, default=None, ignorable=True)
    replica_id: int = int32(until=14, default=-1)
    replica_state: ReplicaState = struct(ReplicaState, since=15, tag=1)
    max_wait: int = int32()
    min_bytes: int = int32()
    max_bytes: int = int32(default=2147483647)
    isolation_level: int = int8()
    session_id: int = int32(since=7, ignorable=True)
    session_epoch: int = int32(since=7, default=-1, ignorable=True)
    topics: list[FetchTopic] = array(FetchTopic)
    forgotten_topics_data: list[ForgottenTopic] = array(ForgottenTopic, since=7)
    rack_id: str = string(since=11, ignorable=True)


@dataclass(slots=True, kw_only=True)
class FetchEpochEndOffset:
    epoch: int = int32(since=12, default=-1)
    end_offset: int = int64(since=12, default=-1)


@dataclass(slots=True, kw_only=True)
class LeaderIdAndEpoch:
    leader_id: int = int32(since=12, default=-1)
    leader_epoch: int = int32(since=12, default=-1)


@dataclass(slots=True, kw_only=True)
class SnapshotId:
    end_offset: int = int64(since=12, default=-1)
    epoch: int = int32(since=12, default=-1)


@dataclass(slots=True, kw_only=True)
class AbortedTransaction:
    producer_id: int = int64()
    first_offset: int = int64()


@dataclass(slots=True, kw_only=True)
class PartitionData:
    partition_index: int = int32()
    error_code: int = int16()
    high_watermark: int = int64()
    last_stable_offset: int = int64(default=-1)
    log_start_offset: int = int64(since=5, default=-1, ignorable=True)
    diverging_epoch: FetchEpochEndOffset = struct(FetchEpochEndOffset, since=12, tag=0)
    current_leader: LeaderIdAndEpoch = struct(LeaderIdAndEpoch, since=12, tag=1)
    snapshot_id: SnapshotId = struct(SnapshotId, since=12, tag=2)
    aborted_transactions: list[AbortedTransaction] | None = array(AbortedTransaction, nullable_since=0)
    preferred_read_replica: int = int32(since=11, default=-1)
    records: memoryview | None = record_set(nullable_since=0)


@dataclass(slots=True, kw_only=True)
class FetchableTopicResponse:
    topic: str = string(until=12, ignorable=True)
    topic_id: uuid.UUID = unique_id(since=13, ignorable=True)
    partitions: list[PartitionData] = array(PartitionData)


@dataclass(slots=True, kw_only=True)
class NodeEndpoint:
    node_id: int = int32(since=16)
    host: str = string(since=16)
    port: int = int32(since=16)
    rack: str | None = string(since=16, nullable_since=16, default=None)


@dataclass(slots=True, kw_only=True)
class FetchResponse(Message):
    """Fetch (key 1) response, versions 4 to 18.

    Topics by name up to version 12, by id from 13.
    """

    API_KEY = 1
    VERSIONS = range(4, 19)
    FLEXIBLE_SINCE = 12

    throttle_time: int = int32()
    error_code: int = int16(since=7, ignorable=True)
    session_id: int = int32(since=7)
    responses: list[FetchableTopicResponse] = array(FetchableTopicResponse)
    node_endpoints: list[NodeEndpoint] = array(NodeEndpoint, since=16, tag=0)


@dataclass(slots=True, kw_only=True)
class ListOffsetsPartition:
    partition_index: int = int32()
    current_leader_epoch: int = int32(since=4, default=-1, ignorable=True)
    timestamp: int = int64()


@dataclass(slots=True, kw_only=True)
class ListOffsetsTopic:
    name: str = string()
    partitions: list[ListOffsetsPartition] = array(ListOffsetsPartition)


@dataclass(slots=True, kw_only=True)
class ListOffsetsRequest(Message):
    """ListOffsets (key 2) request, versions 1 to 11.

    Negative timestamps are special offsets: -1 latest, -2 earliest, -3 largest timestamp, -4 local, -5 tiered, -6
    not uploaded yet.
    """

    API_KEY = 2
    VERSIONS = range(1, 12)
    FLEXIBLE_SINCE = 6

    replica_id: int = int32()
    isolation_level: int = int8(since=2)
    topics: list[ListOffsetsTopic] = array(ListOffsetsTopic)
    timeout: int = int32(since=10, ignorable=True)


@dataclass(slots=True, kw_only=True)
class ListOffsetsPartitionResponse:
    partition_index: int = int32()
    error_code: int = int16()
    timestamp: int = int64(default=-1)
    offset: int = int64(default=-1)
    leader_epoch: int = int32(since=4, default=-1)


@dataclass(slots=True, kw_only=True)
class ListOffsetsTopicResponse:
    name: str = string()
    partitions: list[ListOffsetsPartitionResponse] = array(ListOffsetsPartitionResponse)


@dataclass(slots=True, kw_only=True)
class ListOffsetsResponse(Message):
    """ListOffsets (key 2) response, versions 1 to 11."""

    API_KEY = 2
    VERSIONS = range(1, 12)
    FLEXIBLE_SINCE = 6

    throttle_time: int = int32(since=2, ignorable=True)
    topics: list[ListOffsetsTopicResponse] = array(ListOffsetsTopicResponse)


@dataclass(slots=True, kw_only=True)
class OffsetForLeaderPartition:
    partition: int = int32()
    current_leader_epoch: int = int32(default=-1)
    leader_epoch: int = int32()


@dataclass(slots=True, kw_only=True)
class OffsetForLeaderTopic:
    topic: str = string()
    partitions: list[OffsetForLeaderPartition] = array(OffsetForLeaderPartition)


@dataclass(slots=True, kw_only=True)
class OffsetForLeaderEpochRequest(Message):
    """OffsetForLeaderEpoch (key 23) request, versions 2 to 4."""

    API_KEY = 23
    VERSIONS = range(2, 5)
    FLEXIBLE_SINCE = 4

    replica_id: int = int32(since=3, default=-2, ignorable=True)
    topics: list[OffsetForLeaderTopic] = array(OffsetForLeaderTopic)


@dataclass(slots=True, kw_only=True)
class EpochEndOffset:
    error_code: int = int16()
    partition: int = int32()
    leader_epoch: int = int32(default=-1)
    end_offset: int = int64(default=-1)


@dataclass(slots=True, kw_only=True)
class OffsetForLeaderTopicResult:
    topic: str = string()
    partitions: list[EpochEndOffset] = array(EpochEndOffset)


@dataclass(slots=True, kw_only=True)
class OffsetForLeaderEpochResponse(Message):
    """OffsetForLeaderEpoch (key 23) response, versions 2 to 4."""

    API_KEY = 23
    VERSIONS = range(2, 5)
    FLEXIBLE_SINCE = 4

    throttle_time: int = int32()
    topics: list[OffsetForLeaderTopicResult] = array(OffsetForLeaderTopicResult)
