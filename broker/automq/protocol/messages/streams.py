"""Streams groups (KIP-1071).

Structs that carry the same name in several messages of this module but differ have names of their own here:
`DescribedSubtopology` (`Subtopology` of StreamsGroupDescribeResponse), `DescribedTopology` (`Topology` of
StreamsGroupDescribeResponse).
"""

from dataclasses import dataclass

from automq.protocol.schema import Message, Scalar, array, boolean, int8, int16, int32, int64, string, struct, uint16


@dataclass(slots=True, kw_only=True)
class KeyValue:
    key: str = string()
    value: str = string()


@dataclass(slots=True, kw_only=True)
class TopicInfo:
    name: str = string()
    partitions: int = int32()
    replication_factor: int = int16()
    topic_configs: list[KeyValue] = array(KeyValue)


@dataclass(slots=True, kw_only=True)
class CopartitionGroup:
    source_topics: list[int] = array(Scalar.INT16)
    source_topic_regex: list[int] = array(Scalar.INT16)
    repartition_source_topics: list[int] = array(Scalar.INT16)


@dataclass(slots=True, kw_only=True)
class Subtopology:
    subtopology_id: str = string()
    source_topics: list[str] = array(Scalar.STRING)
    source_topic_regex: list[str] = array(Scalar.STRING)
    state_changelog_topics: list[TopicInfo] = array(TopicInfo)
    repartition_sink_topics: list[str] = array(Scalar.STRING)
    repartition_source_topics: list[TopicInfo] = array(TopicInfo)
    copartition_groups: list[CopartitionGroup] = array(CopartitionGroup)


@dataclass(slots=True, kw_only=True)
class Topology:
    epoch: int = int32()
    subtopologies: list[Subtopology] = array(Subtopology)


@dataclass(slots=True, kw_only=True)
class TaskIds:
    subtopology_id: str = string()
    partitions: list[int] = array(Scalar.INT32)


@dataclass(slots=True, kw_only=True)
class Endpoint:
    host: str = string()
    port: int = uint16()


@dataclass(slots=True, kw_only=True)
class TaskOffset:
    subtopology_id: str = string()
    partition: int = int32()
    offset: int = int64()


@dataclass(slots=True, kw_only=True)
class StreamsGroupHeartbeatRequest(Message):
    """StreamsGroupHeartbeat (key 88) request, version 0."""

    API_KEY = 88
    VERSIONS = range(1)
    FLEXIBLE_SINCE = 0

    group_id: str = string()
    member_id: str = string()
    member_epoch: int = int32()
    endpoint_information_epoch: int = int32()
    instance_id: str | None = string(nullable_since=0, default=None)
    rack_id: str | None = string(nullable_since=0, default=None)
    rebalance_timeout: int = int32(default=-1)
    topology: Topology | None = struct(Topology, nullable_since=0, default=None)
    active_tasks: list[TaskIds] | None = array(TaskIds, nullable_since=0, default=None)
    standby_tasks: list[TaskIds] | None = array(TaskIds, nullable_since=0, default=None)
    warmup_tasks: list[TaskIds] | None = array(TaskIds, nullable_since=0, default=None)
    process_id: str | None = string(nullable_since=0, default=None)
    user_endpoint: Endpoint | None = struct(Endpoint, nullable_since=0, default=None)
    client_tags: list[KeyValue] | None = array(KeyValue, nullable_since=0, default=None)
    task_offsets: list[TaskOffset] | None = array(TaskOffset, nullable_since=0, default=None)
    task_end_offsets: list[TaskOffset] | None = array(TaskOffset, nullable_since=0, default=None)
    shutdown_application: bool = boolean()


@dataclass(slots=True, kw_only=True)
class Status:
    status_code: int = int8()
    status_detail: str = string()


@dataclass(slots=True, kw_only=True)
class TopicPartition:
    topic: str = string()
    partitions: list[int] = array(Scalar.INT32)


@dataclass(slots=True, kw_only=True)
class EndpointToPartitions:
    user_endpoint: Endpoint = struct(Endpoint)
    active_partitions: list[TopicPartition] = array(TopicPartition)
    standby_partitions: list[TopicPartition] = array(TopicPartition)


@dataclass(slots=True, kw_only=True)
class StreamsGroupHeartbeatResponse(Message):
    """StreamsGroupHeartbeat (key 88) response, version 0."""

    API_KEY = 88
    VERSIONS = range(1)
    FLEXIBLE_SINCE = 0

    throttle_time: int = int32()
    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)
    member_id: str = string()
    member_epoch: int = int32()
    heartbeat_interval: int = int32()
    acceptable_recovery_lag: int = int32()
    task_offset_interval: int = int32()
    status: list[Status] | None = array(Status, nullable_since=0)
    active_tasks: list[TaskIds] | None = array(TaskIds, nullable_since=0, default=None)
    standby_tasks: list[TaskIds] | None = array(TaskIds, nullable_since=0, default=None)
    warmup_tasks: list[TaskIds] | None = array(TaskIds, nullable_since=0, default=None)
    endpoint_information_epoch: int = int32()
    partitions_by_user_endpoint: list[EndpointToPartitions] | None = array(
        EndpointToPartitions, nullable_since=0, default=None
    )


@dataclass(slots=True, kw_only=True)
class StreamsGroupDescribeRequest(Message):
    """StreamsGroupDescribe (key 89) request, version 0."""

    API_KEY = 89
    VERSIONS = range(1)
    FLEXIBLE_SINCE = 0

    group_ids: list[str] = array(Scalar.STRING)
    include_authorized_operations: bool = boolean()


@dataclass(slots=True, kw_only=True)
class DescribedSubtopology:
    subtopology_id: str = string()
    source_topics: list[str] = array(Scalar.STRING)
    repartition_sink_topics: list[str] = array(Scalar.STRING)
    state_changelog_topics: list[TopicInfo] = array(TopicInfo)
    repartition_source_topics: list[TopicInfo] = array(TopicInfo)


@dataclass(slots=True, kw_only=True)
class DescribedTopology:
    epoch: int = int32()
    subtopologies: list[DescribedSubtopology] | None = array(DescribedSubtopology, nullable_since=0, default=None)


@dataclass(slots=True, kw_only=True)
class Assignment:
    active_tasks: list[TaskIds] = array(TaskIds)
    standby_tasks: list[TaskIds] = array(TaskIds)
    warmup_tasks: list[TaskIds] = array(TaskIds)


@dataclass(slots=True, kw_only=True)
class Member:
    member_id: str = string()
    member_epoch: int = int32()
    instance_id: str | None = string(nullable_since=0, default=None)
    rack_id: str | None = string(nullable_since=0, default=None)
    client_id: str = string()
    client_host: str = string()
    topology_epoch: int = int32()
    process_id: str = string()
    user_endpoint: Endpoint | None = struct(Endpoint, nullable_since=0, default=None)
    client_tags: list[KeyValue] = array(KeyValue)
    task_offsets: list[TaskOffset] = array(TaskOffset)
    task_end_offsets: list[TaskOffset] = array(TaskOffset)
    assignment: Assignment = struct(Assignment)
    target_assignment: Assignment = struct(Assignment)
    is_classic: bool = boolean()


@dataclass(slots=True, kw_only=True)
class DescribedGroup:
    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)
    group_id: str = string()
    group_state: str = string()
    group_epoch: int = int32()
    assignment_epoch: int = int32()
    topology: DescribedTopology | None = struct(DescribedTopology, nullable_since=0, default=None)
    members: list[Member] = array(Member)
    authorized_operations: int = int32(default=-2147483648)


@dataclass(slots=True, kw_only=True)
class StreamsGroupDescribeResponse(Message):
    """StreamsGroupDescribe (key 89) response, version 0."""

    API_KEY = 89
    VERSIONS = range(1)
    FLEXIBLE_SINCE = 0

    throttle_time: int = int32()
    groups: list[DescribedGroup] = array(DescribedGroup)
