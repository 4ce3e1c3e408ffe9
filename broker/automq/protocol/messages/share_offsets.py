"""Share groups (KIP-932): offsets seen and changed from outside."""

import uuid
from dataclasses import dataclass

from automq.protocol.schema import Message, Scalar, array, int16, int32, int64, string, unique_id


@dataclass(slots=True, kw_only=True)
class DescribeShareGroupOffsetsRequestTopic:
    topic_name: str = string()
    partitions: list[int] = array(Scalar.INT32)


@dataclass(slots=True, kw_only=True)
class DescribeShareGroupOffsetsRequestGroup:
    group_id: str = string()
    topics: list[DescribeShareGroupOffsetsRequestTopic] | None = array(
        DescribeShareGroupOffsetsRequestTopic, nullable_since=0
    )


@dataclass(slots=True, kw_only=True)
class DescribeShareGroupOffsetsRequest(Message):
    """DescribeShareGroupOffsets (key 90) request, versions 0 to 1."""

    API_KEY = 90
    VERSIONS = range(2)
    FLEXIBLE_SINCE = 0

    groups: list[DescribeShareGroupOffsetsRequestGroup] = array(DescribeShareGroupOffsetsRequestGroup)


@dataclass(slots=True, kw_only=True)
class DescribeShareGroupOffsetsResponsePartition:
    partition_index: int = int32()
    start_offset: int = int64()
    leader_epoch: int = int32()
    lag: int = int64(since=1, default=-1, ignorable=True)
    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)


@dataclass(slots=True, kw_only=True)
class DescribeShareGroupOffsetsResponseTopic:
    topic_name: str = string()
    topic_id: uuid.UUID = unique_id()
    partitions: list[DescribeShareGroupOffsetsResponsePartition] = array(DescribeShareGroupOffsetsResponsePartition)


@dataclass(slots=True, kw_only=True)
class DescribeShareGroupOffsetsResponseGroup:
    group_id: str = string()
    topics: list[DescribeShareGroupOffsetsResponseTopic] = array(DescribeShareGroupOffsetsResponseTopic)
    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)


@dataclass(slots=True, kw_only=True)
class DescribeShareGroupOffsetsResponse(Message):
    """DescribeShareGroupOffsets (key 90) response, versions 0 to 1."""

    API_KEY = 90
    VERSIONS = range(2)
    FLEXIBLE_SINCE = 0

    throttle_time: int = int32()
    groups: list[DescribeShareGroupOffsetsResponseGroup] = array(DescribeShareGroupOffsetsResponseGroup)


@dataclass(slots=True, kw_only=True)
class AlterShareGroupOffsetsRequestPartition:
    partition_index: int = int32()
    start_offset: int = int64()


@dataclass(slots=True, kw_only=True)
class AlterShareGroupOffsetsRequestTopic:
    topic_name: str = string()
    partitions: list[AlterShareGroupOffsetsRequestPartition] = array(AlterShareGroupOffsetsRequestPartition)


@dataclass(slots=True, kw_only=True)
class AlterShareGroupOffsetsRequest(Message):
    """AlterShareGroupOffsets (key 91) request, version 0."""

    API_KEY = 91
    VERSIONS = range(1)
    FLEXIBLE_SINCE = 0

    group_id: str = string()
    topics: list[AlterShareGroupOffsetsRequestTopic] = array(AlterShareGroupOffsetsRequestTopic)


@dataclass(slots=True, kw_only=True)
class AlterShareGroupOffsetsResponsePartition:
    partition_index: int = int32()
    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)


@dataclass(slots=True, kw_only=True)
class AlterShareGroupOffsetsResponseTopic:
    topic_name: str = string()
    topic_id: uuid.UUID = unique_id()
    partitions: list[AlterShareGroupOffsetsResponsePartition] = array(AlterShareGroupOffsetsResponsePartition)


@dataclass(slots=True, kw_only=True)
class AlterShareGroupOffsetsResponse(Message):
    """AlterShareGroupOffsets (key 91) response, version 0."""

    API_KEY = 91
    VERSIONS = range(1)
    FLEXIBLE_SINCE = 0

    throttle_time: int = int32()
    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)
    responses: list[AlterShareGroupOffsetsResponseTopic] = array(AlterShareGroupOffsetsResponseTopic)


@dataclass(slots=True, kw_only=True)
class DeleteShareGroupOffsetsRequestTopic:
    topic_name: str = string()


@dataclass(slots=True, kw_only=True)
class DeleteShareGroupOffsetsRequest(Message):
    """DeleteShareGroupOffsets (key 92) request, version 0."""

    API_KEY = 92
    VERSIONS = range(1)
    FLEXIBLE_SINCE = 0

    group_id: str = string()
    topics: list[DeleteShareGroupOffsetsRequestTopic] = array(DeleteShareGroupOffsetsRequestTopic)


@dataclass(slots=True, kw_only=True)
class DeleteShareGroupOffsetsResponseTopic:
    topic_name: str = string()
    topic_id: uuid.UUID = unique_id()
    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)


@dataclass(slots=True, kw_only=True)
class DeleteShareGroupOffsetsResponse(Message):
    """DeleteShareGroupOffsets (key 92) response, version 0."""

    API_KEY = 92
    VERSIONS = range(1)
    FLEXIBLE_SINCE = 0

    throttle_time: int = int32()
    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)
    responses: list[DeleteShareGroupOffsetsResponseTopic] = array(DeleteShareGroupOffsetsResponseTopic)
