"""Placement and storage: log directories, elections, reassignments, config resources."""

from dataclasses import dataclass

from automq.protocol.schema import Message, Scalar, array, boolean, int8, int16, int32, int64, string


@dataclass(slots=True, kw_only=True)
class AlterReplicaLogDirTopic:
    name: str = string()
    partitions: list[int] = array(Scalar.INT32)


@dataclass(slots=True, kw_only=True)
class AlterReplicaLogDir:
    path: str = string()
    topics: list[AlterReplicaLogDirTopic] = array(AlterReplicaLogDirTopic)


@dataclass(slots=True, kw_only=True)
class AlterReplicaLogDirsRequest(Message):
    """AlterReplicaLogDirs (key 34) request, versions 1 to 2."""

    API_KEY = 34
    VERSIONS = range(1, 3)
    FLEXIBLE_SINCE = 2

    dirs: list[AlterReplicaLogDir] = array(AlterReplicaLogDir)


@dataclass(slots=True, kw_only=True)
class AlterReplicaLogDirPartitionResult:
    partition_index: int = int32()
    error_code: int = int16()


@dataclass(slots=True, kw_only=True)
class AlterReplicaLogDirTopicResult:
    topic_name: str = string()
    partitions: list[AlterReplicaLogDirPartitionResult] = array(AlterReplicaLogDirPartitionResult)


@dataclass(slots=True, kw_only=True)
class AlterReplicaLogDirsResponse(Message):
    """AlterReplicaLogDirs (key 34) response, versions 1 to 2."""

    API_KEY = 34
    VERSIONS = range(1, 3)
    FLEXIBLE_SINCE = 2

    throttle_time: int = int32()
    results: list[AlterReplicaLogDirTopicResult] = array(AlterReplicaLogDirTopicResult)


@dataclass(slots=True, kw_only=True)
class DescribableLogDirTopic:
    topic: str = string()
    partitions: list[int] = array(Scalar.INT32)


@dataclass(slots=True, kw_only=True)
class DescribeLogDirsRequest(Message):
    """DescribeLogDirs (key 35) request, versions 1 to 5."""

    API_KEY = 35
    VERSIONS = range(1, 6)
    FLEXIBLE_SINCE = 2

    topics: list[DescribableLogDirTopic] | None = array(DescribableLogDirTopic, nullable_since=0)


@dataclass(slots=True, kw_only=True)
class DescribeLogDirsPartition:
    partition_index: int = int32()
    partition_size: int = int64()
    offset_lag: int = int64()
    is_future_key: bool = boolean()


@dataclass(slots=True, kw_only=True)
class DescribeLogDirsTopic:
    name: str = string()
    partitions: list[DescribeLogDirsPartition] = array(DescribeLogDirsPartition)


@dataclass(slots=True, kw_only=True)
class DescribeLogDirsResult:
    error_code: int = int16()
    log_dir: str = string()
    topics: list[DescribeLogDirsTopic] = array(DescribeLogDirsTopic)
    total_bytes: int = int64(since=4, default=-1, ignorable=True)
    usable_bytes: int = int64(since=4, default=-1, ignorable=True)
    is_cordoned: bool = boolean(since=5, ignorable=True)


@dataclass(slots=True, kw_only=True)
class DescribeLogDirsResponse(Message):
    """DescribeLogDirs (key 35) response, versions 1 to 5."""

    API_KEY = 35
    VERSIONS = range(1, 6)
    FLEXIBLE_SINCE = 2

    throttle_time: int = int32()
    error_code: int = int16(since=3, ignorable=True)
    results: list[DescribeLogDirsResult] = array(DescribeLogDirsResult)


@dataclass(slots=True, kw_only=True)
class TopicPartitions:
    topic: str = string()
    partitions: list[int] = array(Scalar.INT32)


@dataclass(slots=True, kw_only=True)
class ElectLeadersRequest(Message):
    """ElectLeaders (key 43) request, versions 0 to 2."""

    API_KEY = 43
    VERSIONS = range(3)
    FLEXIBLE_SINCE = 2

    election_type: int = int8(since=1)
    topic_partitions: list[TopicPartitions] | None = array(TopicPartitions, nullable_since=0)
    timeout: int = int32(default=60000)


@dataclass(slots=True, kw_only=True)
class PartitionResult:
    partition_id: int = int32()
    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)


@dataclass(slots=True, kw_only=True)
class ReplicaElectionResult:
    topic: str = string()
    partition_result: list[PartitionResult] = array(PartitionResult)


@dataclass(slots=True, kw_only=True)
class ElectLeadersResponse(Message):
    """ElectLeaders (key 43) response, versions 0 to 2."""

    API_KEY = 43
    VERSIONS = range(3)
    FLEXIBLE_SINCE = 2

    throttle_time: int = int32()
    error_code: int = int16(since=1)
    replica_election_results: list[ReplicaElectionResult] = array(ReplicaElectionResult)


@dataclass(slots=True, kw_only=True)
class ReassignablePartition:
    partition_index: int = int32()
    replicas: list[int] | None = array(Scalar.INT32, nullable_since=0, default=None)


@dataclass(slots=True, kw_only=True)
class ReassignableTopic:
    name: str = string()
    partitions: list[ReassignablePartition] = array(ReassignablePartition)


@dataclass(slots=True, kw_only=True)
class AlterPartitionReassignmentsRequest(Message):
    """AlterPartitionReassignments (key 45) request, versions 0 to 1."""

    API_KEY = 45
    VERSIONS = range(2)
    FLEXIBLE_SINCE = 0

    timeout: int = int32(default=60000)
    allow_replication_factor_change: bool = boolean(since=1, default=True)
    topics: list[ReassignableTopic] = array(ReassignableTopic)


@dataclass(slots=True, kw_only=True)
class ReassignablePartitionResponse:
    partition_index: int = int32()
    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)


@dataclass(slots=True, kw_only=True)
class ReassignableTopicResponse:
    name: str = string()
    partitions: list[ReassignablePartitionResponse] = array(ReassignablePartitionResponse)


@dataclass(slots=True, kw_only=True)
class AlterPartitionReassignmentsResponse(Message):
    """AlterPartitionReassignments (key 45) response, versions 0 to 1."""

    API_KEY = 45
    VERSIONS = range(2)
    FLEXIBLE_SINCE = 0

    throttle_time: int = int32()
    allow_replication_factor_change: bool = boolean(since=1, default=True, ignorable=True)
    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)
    responses: list[ReassignableTopicResponse] = array(ReassignableTopicResponse)


@dataclass(slots=True, kw_only=True)
class ListPartitionReassignmentsTopics:
    name: str = string()
    partition_indexes: list[int] = array(Scalar.INT32)


@dataclass(slots=True, kw_only=True)
class ListPartitionReassignmentsRequest(Message):
    """ListPartitionReassignments (key 46) request, version 0."""

    API_KEY = 46
    VERSIONS = range(1)
    FLEXIBLE_SINCE = 0

    timeout: int = int32(default=60000)
    topics: list[ListPartitionReassignmentsTopics] | None = array(
        ListPartitionReassignmentsTopics, nullable_since=0, default=None
    )


@dataclass(slots=True, kw_only=True)
class OngoingPartitionReassignment:
    partition_index: int = int32()
    replicas: list[int] = array(Scalar.INT32)
    adding_replicas: list[int] = array(Scalar.INT32)
    removing_replicas: list[int] = array(Scalar.INT32)


@dataclass(slots=True, kw_only=True)
class OngoingTopicReassignment:
    name: str = string()
    partitions: list[OngoingPartitionReassignment] = array(OngoingPartitionReassignment)


@dataclass(slots=True, kw_only=True)
class ListPartitionReassignmentsResponse(Message):
    """ListPartitionReassignments (key 46) response, version 0."""

    API_KEY = 46
    VERSIONS = range(1)
    FLEXIBLE_SINCE = 0

    throttle_time: int = int32()
    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)
    topics: list[OngoingTopicReassignment] = array(OngoingTopicReassignment)


@dataclass(slots=True, kw_only=True)
class ListConfigResourcesRequest(Message):
    """ListConfigResources (key 74) request, versions 0 to 1."""

    API_KEY = 74
    VERSIONS = range(2)
    FLEXIBLE_SINCE = 0

    resource_types: list[int] = array(Scalar.INT8, since=1)


@dataclass(slots=True, kw_only=True)
class ConfigResource:
    resource_name: str = string()
    resource_type: int = int8(since=1, default=16, ignorable=True)


@dataclass(slots=True, kw_only=True)
class ListConfigResourcesResponse(Message):
    """ListConfigResources (key 74) response, versions 0 to 1."""

    API_KEY = 74
    VERSIONS = range(2)
    FLEXIBLE_SINCE = 0

    throttle_time: int = int32()
    error_code: int = int16()
    config_resources: list[ConfigResource] = array(ConfigResource)
