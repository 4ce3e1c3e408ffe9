"""The consumer group protocol of KIP-848.

Structs that carry the same name in several messages of this module but differ have names of their own here:
`DescribedTopicPartitions` (`TopicPartitions` of ConsumerGroupDescribeResponse), `DescribedAssignment` (`Assignment`
of ConsumerGroupDescribeResponse).
"""

import uuid
from dataclasses import dataclass

from automq.protocol.schema import Message, Scalar, array, boolean, int8, int16, int32, string, struct, unique_id


@dataclass(slots=True, kw_only=True)
class TopicPartitions:
    topic_id: uuid.UUID = unique_id()
    partitions: list[int] = array(Scalar.INT32)


@dataclass(slots=True, kw_only=True)
class ConsumerGroupHeartbeatRequest(Message):
    """ConsumerGroupHeartbeat (key 68) request, versions 0 to 1."""

    API_KEY = 68
    VERSIONS = range(2)
    FLEXIBLE_SINCE = 0

    group_id: str = string()
    member_id: str = string()
    member_epoch: int = int32()
    instance_id: str | None = string(nullable_since=0, default=None)
    rack_id: str | None = string(nullable_since=0, default=None)
    rebalance_timeout: int = int32(default=-1)
    subscribed_topic_names: list[str] | None = array(Scalar.STRING, nullable_since=0, default=None)
    subscribed_topic_regex: str | None = string(since=1, nullable_since=1, default=None)
    server_assignor: str | None = string(nullable_since=0, default=None)
    topic_partitions: list[TopicPartitions] | None = array(TopicPartitions, nullable_since=0, default=None)


@dataclass(slots=True, kw_only=True)
class Assignment:
    topic_partitions: list[TopicPartitions] = array(TopicPartitions)


@dataclass(slots=True, kw_only=True)
class ConsumerGroupHeartbeatResponse(Message):
    """ConsumerGroupHeartbeat (key 68) response, versions 0 to 1."""

    API_KEY = 68
    VERSIONS = range(2)
    FLEXIBLE_SINCE = 0

    throttle_time: int = int32()
    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)
    member_id: str | None = string(nullable_since=0, default=None)
    member_epoch: int = int32()
    heartbeat_interval: int = int32()
    assignment: Assignment | None = struct(Assignment, nullable_since=0, default=None)


@dataclass(slots=True, kw_only=True)
class ConsumerGroupDescribeRequest(Message):
    """ConsumerGroupDescribe (key 69) request, versions 0 to 1."""

    API_KEY = 69
    VERSIONS = range(2)
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
    instance_id: str | None = string(nullable_since=0, default=None)
    rack_id: str | None = string(nullable_since=0, default=None)
    member_epoch: int = int32()
    client_id: str = string()
    client_host: str = string()
    subscribed_topic_names: list[str] = array(Scalar.STRING)
    subscribed_topic_regex: str | None = string(nullable_since=0, default=None)
    assignment: DescribedAssignment = struct(DescribedAssignment)
    target_assignment: DescribedAssignment = struct(DescribedAssignment)
    member_type: int = int8(since=1, default=-1, ignorable=True)


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
class ConsumerGroupDescribeResponse(Message):
    """ConsumerGroupDescribe (key 69) response, versions 0 to 1."""

    API_KEY = 69
    VERSIONS = range(2)
    FLEXIBLE_SINCE = 0

    throttle_time: int = int32()
    groups: list[DescribedGroup] = array(DescribedGroup)
