"""The controller quorum, features, and taking brokers off the list.

Structs that carry the same name in several messages of this module but differ have names of their own here:
`PartitionRequest` (`PartitionData` of DescribeQuorumRequest), `TopicRequest` (`TopicData` of
DescribeQuorumRequest), `VoterListener` (`Listener` of AddRaftVoterRequest).
"""

import uuid
from dataclasses import dataclass

from automq.protocol.schema import Message, array, boolean, int8, int16, int32, int64, string, uint16, unique_id


@dataclass(slots=True, kw_only=True)
class PartitionRequest:
    partition_index: int = int32()


@dataclass(slots=True, kw_only=True)
class TopicRequest:
    topic_name: str = string()
    partitions: list[PartitionRequest] = array(PartitionRequest)


@dataclass(slots=True, kw_only=True)
class DescribeQuorumRequest(Message):
    """DescribeQuorum (key 55) request, versions 0 to 2."""

    API_KEY = 55
    VERSIONS = range(3)
    FLEXIBLE_SINCE = 0

    topics: list[TopicRequest] = array(TopicRequest)


@dataclass(slots=True, kw_only=True)
class ReplicaState:
    replica_id: int = int32()
    replica_directory_id: uuid.UUID = unique_id(since=2)
    log_end_offset: int = int64()
    last_fetch_timestamp: int = int64(since=1, default=-1, ignorable=True)
    last_caught_up_timestamp: int = int64(since=1, default=-1, ignorable=True)


@dataclass(slots=True, kw_only=True)
class PartitionData:
    partition_index: int = int32()
    error_code: int = int16()
    error_message: str | None = string(since=2, nullable_since=2, default=None, ignorable=True)
    leader_id: int = int32()
    leader_epoch: int = int32()
    high_watermark: int = int64()
    current_voters: list[ReplicaState] = array(ReplicaState)
    observers: list[ReplicaState] = array(ReplicaState)


@dataclass(slots=True, kw_only=True)
class TopicData:
    topic_name: str = string()
    partitions: list[PartitionData] = array(PartitionData)


@dataclass(slots=True, kw_only=True)
class Listener:
    name: str = string(since=2)
    host: str = string(since=2)
    port: int = uint16(since=2)


@dataclass(slots=True, kw_only=True)
class Node:
    node_id: int = int32(since=2)
    listeners: list[Listener] = array(Listener, since=2)


@dataclass(slots=True, kw_only=True)
class DescribeQuorumResponse(Message):
    """DescribeQuorum (key 55) response, versions 0 to 2."""

    API_KEY = 55
    VERSIONS = range(3)
    FLEXIBLE_SINCE = 0

    error_code: int = int16()
    error_message: str | None = string(since=2, nullable_since=2, default=None, ignorable=True)
    topics: list[TopicData] = array(TopicData)
    nodes: list[Node] = array(Node, since=2)


@dataclass(slots=True, kw_only=True)
class FeatureUpdateKey:
    feature: str = string()
    max_version_level: int = int16()
    allow_downgrade: bool = boolean(until=0)
    upgrade_type: int = int8(since=1, default=1)


@dataclass(slots=True, kw_only=True)
class UpdateFeaturesRequest(Message):
    """UpdateFeatures (key 57) request, versions 0 to 2."""

    API_KEY = 57
    VERSIONS = range(3)
    FLEXIBLE_SINCE = 0

    timeout: int = int32(default=60000)
    feature_updates: list[FeatureUpdateKey] = array(FeatureUpdateKey)
    validate_only: bool = boolean(since=1)


@dataclass(slots=True, kw_only=True)
class UpdatableFeatureResult:
    feature: str = string(until=1)
    error_code: int = int16(until=1)
    error_message: str | None = string(until=1, nullable_since=0, default=None)


@dataclass(slots=True, kw_only=True)
class UpdateFeaturesResponse(Message):
    """UpdateFeatures (key 57) response, versions 0 to 2."""

    API_KEY = 57
    VERSIONS = range(3)
    FLEXIBLE_SINCE = 0

    throttle_time: int = int32()
    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)
    results: list[UpdatableFeatureResult] = array(UpdatableFeatureResult, until=1, ignorable=True)


@dataclass(slots=True, kw_only=True)
class UnregisterBrokerRequest(Message):
    """UnregisterBroker (key 64) request, version 0."""

    API_KEY = 64
    VERSIONS = range(1)
    FLEXIBLE_SINCE = 0

    broker_id: int = int32()
    broker_epoch: int = int64(tag=10_000, default=-1, ignorable=True)
    """Ours, far from the tags that Kafka gives: the incarnation that is to be ended first."""


@dataclass(slots=True, kw_only=True)
class UnregisterBrokerResponse(Message):
    """UnregisterBroker (key 64) response, version 0."""

    API_KEY = 64
    VERSIONS = range(1)
    FLEXIBLE_SINCE = 0

    throttle_time: int = int32()
    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)


@dataclass(slots=True, kw_only=True)
class VoterListener:
    name: str = string()
    host: str = string()
    port: int = uint16()


@dataclass(slots=True, kw_only=True)
class AddRaftVoterRequest(Message):
    """AddRaftVoter (key 80) request, versions 0 to 1."""

    API_KEY = 80
    VERSIONS = range(2)
    FLEXIBLE_SINCE = 0

    cluster_id: str | None = string(nullable_since=0, default=None)
    timeout: int = int32()
    voter_id: int = int32()
    voter_directory_id: uuid.UUID = unique_id()
    listeners: list[VoterListener] = array(VoterListener)
    ack_when_committed: bool = boolean(since=1, default=True)


@dataclass(slots=True, kw_only=True)
class AddRaftVoterResponse(Message):
    """AddRaftVoter (key 80) response, versions 0 to 1."""

    API_KEY = 80
    VERSIONS = range(2)
    FLEXIBLE_SINCE = 0

    throttle_time: int = int32()
    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)


@dataclass(slots=True, kw_only=True)
class RemoveRaftVoterRequest(Message):
    """RemoveRaftVoter (key 81) request, version 0."""

    API_KEY = 81
    VERSIONS = range(1)
    FLEXIBLE_SINCE = 0

    cluster_id: str | None = string(nullable_since=0, default=None)
    voter_id: int = int32()
    voter_directory_id: uuid.UUID = unique_id()


@dataclass(slots=True, kw_only=True)
class RemoveRaftVoterResponse(Message):
    """RemoveRaftVoter (key 81) response, version 0."""

    API_KEY = 81
    VERSIONS = range(1)
    FLEXIBLE_SINCE = 0

    throttle_time: int = int32()
    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)
