"""Share groups (KIP-932): membership, fetch, acknowledge, describe.

Structs that carry the same name in several messages of this module but differ have names of their own here:
`ShareAcknowledgePartitionData` (`PartitionData` of ShareAcknowledgeResponse), `DescribedTopicPartitions`
(`TopicPartitions` of ShareGroupDescribeResponse), `DescribedAssignment` (`Assignment` of
ShareGroupDescribeResponse).
"""

import uuid
from dataclasses import dataclass

from automq.protocol.schema import (
    Message,
    Scalar,
    array,
    boolean,
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
class ShareGroupHeartbeatRequest(Message):
    """ShareGroupHeartbeat (key 76) request, version 1."""

    API_KEY = 76
    VERSIONS = range(1, 2)
    FLEXIBLE_SINCE = 0

    group_id: str = string()
    member_id: str = string()
    member_epoch: int = int32()
    rack_id: str | None = string(nullable_since=0, default=None)
    subscribed_topic_names: list[str] | None = array(Scalar.STRING, nullable_since=0, default=None)


@dataclass(slots=True, kw_only=True)
class TopicPartitions:
    topic_id: uuid.UUID = unique_id()
    partitions: list[int] = array(Scalar.INT32)


@dataclass(slots=True, kw_only=True)
class Assignment:
    topic_partitions: list[TopicPartitions] = array(TopicPartitions)


@dataclass(slots=True, kw_only=True)
class ShareGroupHeartbeatResponse(Message):
    """ShareGroupHeartbeat (key 76) response, version 1."""

    API_KEY = 76
    VERSIONS = range(1, 2)
    FLEXIBLE_SINCE = 0

    throttle_time: int = int32()
    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)
    member_id: str | None = string(nullable_since=0, default=None)
    member_epoch: int = int32()
    heartbeat_interval: int = int32()
    assignment: Assignment | None = struct(Assignment, nullable_since=0, default=None)


@dataclass(slots=True, kw_only=True)
class AcknowledgementBatch:
    first_offset: int = int64()
    last_offset: int = int64()
    acknowledge_types: list[int] = array(Scalar.INT8)


@dataclass(slots=True, kw_only=True)
class FetchPartition:
    partition_index: int = int32()
    acknowledgement_batches: list[AcknowledgementBatch] = array(AcknowledgementBatch)


@dataclass(slots=True, kw_only=True)
class FetchTopic:
    topic_id: uuid.UUID = unique_id()
    partitions: list[FetchPartition] = array(FetchPartition)


@dataclass(slots=True, kw_only=True)
class ForgottenTopic:
    topic_id: uuid.UUID = unique_id()
    partitions: list[int] = array(Scalar.INT32)


@dataclass(slots=True, kw_only=True)
class ShareFetchRequest(Message):
    """ShareFetch (key 78) request, versions 1 to 2."""

    API_KEY = 78
    VERSIONS = range(1, 3)
    FLEXIBLE_SINCE = 0

    group_id: str | None = string(nullable_since=0, default=None)
    member_id: str | None = string(nullable_since=0, default=None)
    share_session_epoch: int = int32()
    max_wait: int = int32()
    min_bytes: int = int32()
    max_bytes: int = int32(default=2147483647)
    max_records: int = int32()
    batch_size: int = int32()
    share_acquire_mode: int = int8(since=2, ignorable=True)
    is_renew_ack: bool = boolean(since=2)
    topics: list[FetchTopic] = array(FetchTopic)
    forgotten_topics_data: list[ForgottenTopic] = array(ForgottenTopic)


@dataclass(slots=True, kw_only=True)
class LeaderIdAndEpoch:
    leader_id: int = int32()
    leader_epoch: int = int32()


@dataclass(slots=True, kw_only=True)
class AcquiredRecords:
    first_offset: int = int64()
    last_offset: int = int64()
    delivery_count: int = int16()


@dataclass(slots=True, kw_only=True)
class PartitionData:
    partition_index: int = int32()
    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)
    acknowledge_error_code: int = int16()
    acknowledge_error_message: str | None = string(nullable_since=0, default=None)
    current_leader: LeaderIdAndEpoch = struct(LeaderIdAndEpoch)
    records: memoryview | None = record_set()
    acquired_records: list[AcquiredRecords] = array(AcquiredRecords)


@dataclass(slots=True, kw_only=True)
class ShareFetchableTopicResponse:
    topic_id: uuid.UUID = unique_id()
    partitions: list[PartitionData] = array(PartitionData)


@dataclass(slots=True, kw_only=True)
class NodeEndpoint:
    node_id: int = int32()
    host: str = string()
    port: int = int32()
    rack: str | None = string(nullable_since=0, default=None)


@dataclass(slots=True, kw_only=True)
class ShareFetchResponse(Message):
    """ShareFetch (key 78) response, versions 1 to 2."""

    API_KEY = 78
    VERSIONS = range(1, 3)
    FLEXIBLE_SINCE = 0

    throttle_time: int = int32()
    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)
    acquisition_lock_timeout: int = int32()
    responses: list[ShareFetchableTopicResponse] = array(ShareFetchableTopicResponse)
    node_endpoints: list[NodeEndpoint] = array(NodeEndpoint)


@dataclass(slots=True, kw_only=True)
class AcknowledgePartition:
    partition_index: int = int32()
    acknowledgement_batches: list[AcknowledgementBatch] = array(AcknowledgementBatch)


@dataclass(slots=True, kw_only=True)
class AcknowledgeTopic:
    topic_id: uuid.UUID = unique_id()
    partitions: list[AcknowledgePartition] = array(AcknowledgePartition)


@dataclass(slots=True, kw_only=True)
class ShareAcknowledgeRequest(Message):
    """ShareAcknowledge (key 79) request, versions 1 to 2."""

    API_KEY = 79
    VERSIONS = range(1, 3)
    FLEXIBLE_SINCE = 0

    group_id: str | None = string(nullable_since=0, default=None)
    member_id: str | None = string(nullable_since=0, default=None)
    share_session_epoch: int = int32()
    is_renew_ack: bool = boolean(since=2)
    topics: list[AcknowledgeTopic] = array(AcknowledgeTopic)


@dataclass(slots=True, kw_only=True)
class ShareAcknowledgePartitionData:
    partition_index: int = int32()
    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)
    current_leader: LeaderIdAndEpoch = struct(LeaderIdAndEpoch)


@dataclass(slots=True, kw_only=True)
class ShareAcknowledgeTopicResponse:
    topic_id: uuid.UUID = unique_id()
    partitions: list[ShareAcknowledgePartitionData] = array(ShareAcknowledgePartitionData)


@dataclass(slots=True, kw_only=True)
class ShareAcknowledgeResponse(Message):
    """ShareAcknowledge (key 79) response, versions 1 to 2."""

    API_KEY = 79
    VERSIONS = range(1, 3)
    FLEXIBLE_SINCE = 0

    throttle_time: int = int32()
    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)
    acquisition_lock_timeout: int = int32(since=2, ignorable=True)
    responses: list[ShareAcknowledgeTopicResponse] = array(ShareAcknowledgeTopicResponse)
    node_endpoints: list[NodeEndpoint] = array(NodeEndpoint)


@dataclass(slots=True, kw_only=True)
class ShareGroupDescribeRequest(Message):
    """ShareGroupDescribe (key 77) request, version 1."""

    API_KEY = 77
    VERSIONS = range(1, 2)
    FLEXIBLE_SINCE = 0

    group_ids: list[str] = array(Scalar.STRING)
    include_authorized_operations: bool = boolean()


@dataclass(slots=True, kw_only=True)
class DescribedTopicPartitions:
    topic_id: uuid.UUID = unique_id()
    topic_name: str = string()
    partitions: list[int] = array(Scalar.INT32)


@dataclass(slots=True, kw_only=True)
class DescribedAssignment:
    topic_partitions: list[DescribedTopicPartitions] = array(DescribedTopicPartitions)


@dataclass(slots=True, kw_only=True)
class Member:
    member_id: str = string()
    rack_id: str | None = string(nullable_since=0, default=None)
    member_epoch: int = int32()
    client_id: str = string()
    client_host: str = string()
    subscribed_topic_names: list[str] = array(Scalar.STRING)
    assignment: DescribedAssignment = struct(DescribedAssignment)


@dataclass(slots=True, kw_only=True)
class DescribedGroup:
    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)
    group_id: str = string()
    group_state: str = string()
    group_epoch: int = int32()
    assignment_epoch: int = int32()
    assignor_name: str = string()
    members: list[Member] = array(Member)
    authorized_operations: int = int32(default=-2147483648)


@dataclass(slots=True, kw_only=True)
class ShareGroupDescribeResponse(Message):
    """ShareGroupDescribe (key 77) response, version 1."""

    API_KEY = 77
    VERSIONS = range(1, 2)
    FLEXIBLE_SINCE = 0

    throttle_time: int = int32()
    groups: list[DescribedGroup] = array(DescribedGroup)
