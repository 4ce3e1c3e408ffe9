"""Committed offsets: commit, fetch, delete."""

import uuid
from dataclasses import dataclass

from automq.protocol.schema import Message, Scalar, array, boolean, int16, int32, int64, string, unique_id


@dataclass(slots=True, kw_only=True)
class OffsetCommitRequestPartition:
    partition_index: int = int32()
    committed_offset: int = int64()
    committed_leader_epoch: int = int32(since=6, default=-1, ignorable=True)
    committed_metadata: str | None = string(nullable_since=0, default=None)


@dataclass(slots=True, kw_only=True)
class OffsetCommitRequestTopic:
    name: str = string(until=9, ignorable=True)
    topic_id: uuid.UUID = unique_id(since=10, ignorable=True)
    partitions: list[OffsetCommitRequestPartition] = array(OffsetCommitRequestPartition)


@dataclass(slots=True, kw_only=True)
class OffsetCommitRequest(Message):
    """OffsetCommit (key 8) request, versions 2 to 10.

    Topics by name up to version 9, by id from 10.
    """

    API_KEY = 8
    VERSIONS = range(2, 11)
    FLEXIBLE_SINCE = 8

    group_id: str = string()
    generation_id_or_member_epoch: int = int32(default=-1)
    member_id: str = string()
    group_instance_id: str | None = string(since=7, nullable_since=7, default=None)
    retention_time: int = int64(until=4, default=-1, ignorable=True)
    topics: list[OffsetCommitRequestTopic] = array(OffsetCommitRequestTopic)


@dataclass(slots=True, kw_only=True)
class OffsetCommitResponsePartition:
    partition_index: int = int32()
    error_code: int = int16()


@dataclass(slots=True, kw_only=True)
class OffsetCommitResponseTopic:
    name: str = string(until=9, ignorable=True)
    topic_id: uuid.UUID = unique_id(since=10, ignorable=True)
    partitions: list[OffsetCommitResponsePartition] = array(OffsetCommitResponsePartition)


@dataclass(slots=True, kw_only=True)
class OffsetCommitResponse(Message):
    """OffsetCommit (key 8) response, versions 2 to 10."""

    API_KEY = 8
    VERSIONS = range(2, 11)
    FLEXIBLE_SINCE = 8

    throttle_time: int = int32(since=3, ignorable=True)
    topics: list[OffsetCommitResponseTopic] = array(OffsetCommitResponseTopic)


@dataclass(slots=True, kw_only=True)
class OffsetFetchRequestTopic:
    name: str = string(until=7)
    partition_indexes: list[int] = array(Scalar.INT32, until=7)


@dataclass(slots=True, kw_only=True)
class OffsetFetchRequestTopics:
    name: str = string(since=8, until=9, ignorable=True)
    topic_id: uuid.UUID = unique_id(since=10, ignorable=True)
    partition_indexes: list[int] = array(Scalar.INT32, since=8)


@dataclass(slots=True, kw_only=True)
class OffsetFetchRequestGroup:
    group_id: str = string(since=8)
    member_id: str | None = string(since=9, nullable_since=9, default=None, ignorable=True)
    member_epoch: int = int32(since=9, default=-1, ignorable=True)
    topics: list[OffsetFetchRequestTopics] | None = array(OffsetFetchRequestTopics, since=8, nullable_since=8)


@dataclass(slots=True, kw_only=True)
class OffsetFetchRequest(Message):
    """OffsetFetch (key 9) request, versions 1 to 10.

    One group up to version 7, a list from 8. Topics by name up to version 9, by id from 10.
    """

    API_KEY = 9
    VERSIONS = range(1, 11)
    FLEXIBLE_SINCE = 6

    group_id: str = string(until=7)
    topics: list[OffsetFetchRequestTopic] | None = array(OffsetFetchRequestTopic, until=7, nullable_since=2)
    groups: list[OffsetFetchRequestGroup] = array(OffsetFetchRequestGroup, since=8)
    require_stable: bool = boolean(since=7)


@dataclass(slots=True, kw_only=True)
class OffsetFetchResponsePartition:
    partition_index: int = int32(until=7)
    committed_offset: int = int64(until=7)
    committed_leader_epoch: int = int32(since=5, until=7, default=-1, ignorable=True)
    metadata: str | None = string(until=7, nullable_since=0, default=None)
    error_code: int = int16(until=7)


@dataclass(slots=True, kw_only=True)
class OffsetFetchResponseTopic:
    name: str = string(until=7)
    partitions: list[OffsetFetchResponsePartition] = array(OffsetFetchResponsePartition, until=7)


@dataclass(slots=True, kw_only=True)
class OffsetFetchResponsePartitions:
    partition_index: int = int32(since=8)
    committed_offset: int = int64(since=8)
    committed_leader_epoch: int = int32(since=8, default=-1, ignorable=True)
    metadata: str | None = string(since=8, nullable_since=8, default=None)
    error_code: int = int16(since=8)


@dataclass(slots=True, kw_only=True)
class OffsetFetchResponseTopics:
    name: str = string(since=8, until=9, ignorable=True)
    topic_id: uuid.UUID = unique_id(since=10, ignorable=True)
    partitions: list[OffsetFetchResponsePartitions] = array(OffsetFetchResponsePartitions, since=8)


@dataclass(slots=True, kw_only=True)
class OffsetFetchResponseGroup:
    group_id: str = string(since=8)
    topics: list[OffsetFetchResponseTopics] = array(OffsetFetchResponseTopics, since=8)
    error_code: int = int16(since=8)


@dataclass(slots=True, kw_only=True)
class OffsetFetchResponse(Message):
    """OffsetFetch (key 9) response, versions 1 to 10."""

    API_KEY = 9
    VERSIONS = range(1, 11)
    FLEXIBLE_SINCE = 6

    throttle_time: int = int32(since=3, ignorable=True)
    topics: list[OffsetFetchResponseTopic] = array(OffsetFetchResponseTopic, until=7)
    error_code: int = int16(since=2, until=7, ignorable=True)
    groups: list[OffsetFetchResponseGroup] = array(OffsetFetchResponseGroup, since=8)


@dataclass(slots=True, kw_only=True)
class OffsetDeleteRequestPartition:
    partition_index: int = int32()


@dataclass(slots=True, kw_only=True)
class OffsetDeleteRequestTopic:
    name: str = string()
    partitions: list[OffsetDeleteRequestPartition] = array(OffsetDeleteRequestPartition)


@dataclass(slots=True, kw_only=True)
class OffsetDeleteRequest(Message):
    """OffsetDelete (key 47) request, version 0."""

    API_KEY = 47
    VERSIONS = range(1)

    group_id: str = string()
    topics: list[OffsetDeleteRequestTopic] = array(OffsetDeleteRequestTopic)


@dataclass(slots=True, kw_only=True)
class OffsetDeleteResponsePartition:
    partition_index: int = int32()
    error_code: int = int16()


@dataclass(slots=True, kw_only=True)
class OffsetDeleteResponseTopic:
    name: str = string()
    partitions: list[OffsetDeleteResponsePartition] = array(OffsetDeleteResponsePartition)


@dataclass(slots=True, kw_only=True)
class OffsetDeleteResponse(Message):
    """OffsetDelete (key 47) response, version 0."""

    API_KEY = 47
    VERSIONS = range(1)

    error_code: int = int16()
    throttle_time: int = int32()
    topics: list[OffsetDeleteResponseTopic] = array(OffsetDeleteResponseTopic)
