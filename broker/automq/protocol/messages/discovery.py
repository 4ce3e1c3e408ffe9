"""What a client asks first: which APIs there are, which brokers, which topics."""

import uuid
from dataclasses import dataclass

from automq.protocol.schema import Message, Scalar, array, boolean, int8, int16, int32, int64, string, struct, unique_id


@dataclass(slots=True, kw_only=True)
class ApiVersionsRequest(Message):
    """ApiVersions (key 18) request, versions 0 to 4.

    A version the broker does not know is answered in version 0. From version 3 a client names its software.
    """

    API_KEY = 18
    VERSIONS = range(5)
    FLEXIBLE_SINCE = 3

    client_software_name: str = string(since=3, ignorable=True)
    client_software_version: str = string(since=3, ignorable=True)


@dataclass(slots=True, kw_only=True)
class ApiVersion:
    api_key: int = int16()
    min_version: int = int16()
    max_version: int = int16()


@dataclass(slots=True, kw_only=True)
class SupportedFeatureKey:
    name: str = string(since=3)
    min_version: int = int16(since=3)
    max_version: int = int16(since=3)


@dataclass(slots=True, kw_only=True)
class FinalizedFeatureKey:
    name: str = string(since=3)
    max_version_level: int = int16(since=3)
    min_version_level: int = int16(since=3)


@dataclass(slots=True, kw_only=True)
class ApiVersionsResponse(Message):
    """ApiVersions (key 18) response, versions 0 to 4.

    Its header is always version 0, flexible or not.
    """

    API_KEY = 18
    VERSIONS = range(5)
    FLEXIBLE_SINCE = 3

    error_code: int = int16()
    api_keys: list[ApiVersion] = array(ApiVersion)
    throttle_time: int = int32(since=1, ignorable=True)
    supported_features: list[SupportedFeatureKey] = array(SupportedFeatureKey, since=3, tag=0, ignorable=True)
    finalized_features_epoch: int = int64(since=3, tag=1, default=-1, ignorable=True)
    finalized_features: list[FinalizedFeatureKey] = array(FinalizedFeatureKey, since=3, tag=2, ignorable=True)
    zk_migration_ready: bool = boolean(since=3, tag=3, ignorable=True)


@dataclass(slots=True, kw_only=True)
class MetadataRequestTopic:
    topic_id: uuid.UUID = unique_id(since=10, ignorable=True)
    name: str | None = string(nullable_since=10, default=None)


@dataclass(slots=True, kw_only=True)
class MetadataRequest(Message):
    """Metadata (key 3) request, versions 0 to 13.

    Null topics mean all of them; in version 0, which has no null, an empty list does. Topic ids from version 10.
    """

    API_KEY = 3
    VERSIONS = range(14)
    FLEXIBLE_SINCE = 9

    topics: list[MetadataRequestTopic] | None = array(MetadataRequestTopic, nullable_since=1)
    allow_auto_topic_creation: bool = boolean(since=4, default=True)
    include_cluster_authorized_operations: bool = boolean(since=8, until=10)
    include_topic_authorized_operations: bool = boolean(since=8)


@dataclass(slots=True, kw_only=True)
class MetadataResponseBroker:
    node_id: int = int32()
    host: str = string()
    port: int = int32()
    rack: str | None = string(since=1, nullable_since=1, default=None, ignorable=True)


@dataclass(slots=True, kw_only=True)
class MetadataResponsePartition:
    error_code: int = int16()
    partition_index: int = int32()
    leader_id: int = int32()
    leader_epoch: int = int32(since=7, default=-1, ignorable=True)
    replica_nodes: list[int] = array(Scalar.INT32)
    isr_nodes: list[int] = array(Scalar.INT32)
    offline_replicas: list[int] = array(Scalar.INT32, since=5, ignorable=True)


@dataclass(slots=True, kw_only=True)
class MetadataResponseTopic:
    error_code: int = int16()
    name: str | None = string(nullable_since=12, default=None)
    topic_id: uuid.UUID = unique_id(since=10, ignorable=True)
    is_internal: bool = boolean(since=1, ignorable=True)
    partitions: list[MetadataResponsePartition] = array(MetadataResponsePartition)
    topic_authorized_operations: int = int32(since=8, default=-2147483648)


@dataclass(slots=True, kw_only=True)
class MetadataResponse(Message):
    """Metadata (key 3) response, versions 0 to 13.

    Topic ids from version 10, nullable names from 12, an error for the whole answer from 13.
    """

    API_KEY = 3
    VERSIONS = range(14)
    FLEXIBLE_SINCE = 9

    throttle_time: int = int32(since=3, ignorable=True)
    brokers: list[MetadataResponseBroker] = array(MetadataResponseBroker)
    cluster_id: str | None = string(since=2, nullable_since=2, default=None, ignorable=True)
    controller_id: int = int32(since=1, default=-1, ignorable=True)
    topics: list[MetadataResponseTopic] = array(MetadataResponseTopic)
    cluster_authorized_operations: int = int32(since=8, until=10, default=-2147483648)
    error_code: int = int16(since=13, ignorable=True)


@dataclass(slots=True, kw_only=True)
class DescribeClusterRequest(Message):
    """DescribeCluster (key 60) request, versions 0 to 2."""

    API_KEY = 60
    VERSIONS = range(3)
    FLEXIBLE_SINCE = 0

    include_cluster_authorized_operations: bool = boolean()
    endpoint_type: int = int8(since=1, default=1)
    include_fenced_brokers: bool = boolean(since=2)
    balancer_moves: int = int32(tag=10_000, default=-1, ignorable=True)
    """Ours, far from the tags that Kafka gives: tell of the balancer, and of so many of its last moves."""


@dataclass(slots=True, kw_only=True)
class DescribeClusterBroker:
    broker_id: int = int32()
    host: str = string()
    port: int = int32()
    rack: str | None = string(nullable_since=0, default=None)
    is_fenced: bool = boolean(since=2)


@dataclass(slots=True, kw_only=True)
class DescribeClusterResponse(Message):
    """DescribeCluster (key 60) response, versions 0 to 2."""

    API_KEY = 60
    VERSIONS = range(3)
    FLEXIBLE_SINCE = 0

    throttle_time: int = int32()
    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)
    endpoint_type: int = int8(since=1, default=1)
    cluster_id: str = string()
    controller_id: int = int32(default=-1)
    brokers: list[DescribeClusterBroker] = array(DescribeClusterBroker)
    cluster_authorized_operations: int = int32(default=-2147483648)
    balancer: str | None = string(tag=10_000, nullable_since=0, default=None, ignorable=True)
    """Ours: what was asked for, as JSON."""


@dataclass(slots=True, kw_only=True)
class TopicRequest:
    name: str = string()


@dataclass(slots=True, kw_only=True)
class Cursor:
    topic_name: str = string()
    partition_index: int = int32()


@dataclass(slots=True, kw_only=True)
class DescribeTopicPartitionsRequest(Message):
    """DescribeTopicPartitions (key 75) request, version 0."""

    API_KEY = 75
    VERSIONS = range(1)
    FLEXIBLE_SINCE = 0

    topics: list[TopicRequest] = array(TopicRequest)
    response_partition_limit: int = int32(default=2000)
    cursor: Cursor | None = struct(Cursor, nullable_since=0, default=None)


@dataclass(slots=True, kw_only=True)
class DescribeTopicPartitionsResponsePartition:
    error_code: int = int16()
    partition_index: int = int32()
    leader_id: int = int32()
    leader_epoch: int = int32(default=-1)
    replica_nodes: list[int] = array(Scalar.INT32)
    isr_nodes: list[int] = array(Scalar.INT32)
    eligible_leader_replicas: list[int] | None = array(Scalar.INT32, nullable_since=0, default=None)
    last_known_elr: list[int] | None = array(Scalar.INT32, nullable_since=0, default=None)
    offline_replicas: list[int] = array(Scalar.INT32)


@dataclass(slots=True, kw_only=True)
class DescribeTopicPartitionsResponseTopic:
    error_code: int = int16()
    name: str | None = string(nullable_since=0, default=None)
    topic_id: uuid.UUID = unique_id()
    is_internal: bool = boolean()
    partitions: list[DescribeTopicPartitionsResponsePartition] = array(DescribeTopicPartitionsResponsePartition)
    topic_authorized_operations: int = int32(default=-2147483648)


@dataclass(slots=True, kw_only=True)
class DescribeTopicPartitionsResponse(Message):
    """DescribeTopicPartitions (key 75) response, version 0."""

    API_KEY = 75
    VERSIONS = range(1)
    FLEXIBLE_SINCE = 0

    throttle_time: int = int32()
    topics: list[DescribeTopicPartitionsResponseTopic] = array(DescribeTopicPartitionsResponseTopic)
    next_cursor: Cursor | None = struct(Cursor, nullable_since=0, default=None)
