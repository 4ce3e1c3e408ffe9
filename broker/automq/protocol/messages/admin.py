"""Topics and configs: create, delete, grow, trim, describe, alter.

Structs that carry the same name in several messages of this module but differ have names of their own here:
`IncrementalAlterableConfig` (`AlterableConfig` of IncrementalAlterConfigsRequest),
`IncrementalAlterConfigsResource` (`AlterConfigsResource` of IncrementalAlterConfigsRequest).
"""

import uuid
from dataclasses import dataclass

from automq.protocol.schema import Message, Scalar, array, boolean, int8, int16, int32, int64, string, unique_id


@dataclass(slots=True, kw_only=True)
class CreatableReplicaAssignment:
    partition_index: int = int32()
    broker_ids: list[int] = array(Scalar.INT32)


@dataclass(slots=True, kw_only=True)
class CreatableTopicConfig:
    name: str = string()
    value: str | None = string(nullable_since=0, default=None)


@dataclass(slots=True, kw_only=True)
class CreatableTopic:
    name: str = string()
    num_partitions: int = int32()
    replication_factor: int = int16()
    assignments: list[CreatableReplicaAssignment] = array(CreatableReplicaAssignment)
    configs: list[CreatableTopicConfig] = array(CreatableTopicConfig)


@dataclass(slots=True, kw_only=True)
class CreateTopicsRequest(Message):
    """CreateTopics (key 19) request, versions 2 to 7."""

    API_KEY = 19
    VERSIONS = range(2, 8)
    FLEXIBLE_SINCE = 5

    topics: list[CreatableTopic] = array(CreatableTopic)
    timeout: int = int32(default=60000)
    validate_only: bool = boolean()


@dataclass(slots=True, kw_only=True)
class CreatableTopicConfigs:
    name: str = string(since=5)
    value: str | None = string(since=5, nullable_since=5, default=None)
    read_only: bool = boolean(since=5)
    config_source: int = int8(since=5, default=-1, ignorable=True)
    is_sensitive: bool = boolean(since=5)


@dataclass(slots=True, kw_only=True)
class CreatableTopicResult:
    name: str = string()
    topic_id: uuid.UUID = unique_id(since=7, ignorable=True)
    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)
    topic_config_error_code: int = int16(since=5, tag=0, ignorable=True)
    num_partitions: int = int32(since=5, default=-1, ignorable=True)
    replication_factor: int = int16(since=5, default=-1, ignorable=True)
    configs: list[CreatableTopicConfigs] | None = array(
        CreatableTopicConfigs, since=5, nullable_since=5, ignorable=True
    )


@dataclass(slots=True, kw_only=True)
class CreateTopicsResponse(Message):
    """CreateTopics (key 19) response, versions 2 to 7."""

    API_KEY = 19
    VERSIONS = range(2, 8)
    FLEXIBLE_SINCE = 5

    throttle_time: int = int32()
    topics: list[CreatableTopicResult] = array(CreatableTopicResult)


@dataclass(slots=True, kw_only=True)
class DeleteTopicState:
    name: str | None = string(since=6, nullable_since=6, default=None)
    topic_id: uuid.UUID = unique_id(since=6)


@dataclass(slots=True, kw_only=True)
class DeleteTopicsRequest(Message):
    """DeleteTopics (key 20) request, versions 1 to 6.

    Names only up to version 5, names or ids from 6.
    """

    API_KEY = 20
    VERSIONS = range(1, 7)
    FLEXIBLE_SINCE = 4

    topics: list[DeleteTopicState] = array(DeleteTopicState, since=6)
    topic_names: list[str] = array(Scalar.STRING, until=5, ignorable=True)
    timeout: int = int32()


@dataclass(slots=True, kw_only=True)
class DeletableTopicResult:
    name: str | None = string(nullable_since=6, default=None)
    topic_id: uuid.UUID = unique_id(since=6, ignorable=True)
    error_code: int = int16()
    error_message: str | None = string(since=5, nullable_since=5, default=None, ignorable=True)


@dataclass(slots=True, kw_only=True)
class DeleteTopicsResponse(Message):
    """DeleteTopics (key 20) response, versions 1 to 6."""

    API_KEY = 20
    VERSIONS = range(1, 7)
    FLEXIBLE_SINCE = 4

    throttle_time: int = int32()
    responses: list[DeletableTopicResult] = array(DeletableTopicResult)


@dataclass(slots=True, kw_only=True)
class CreatePartitionsAssignment:
    broker_ids: list[int] = array(Scalar.INT32)


@dataclass(slots=True, kw_only=True)
class CreatePartitionsTopic:
    name: str = string()
    count: int = int32()
    assignments: list[CreatePartitionsAssignment] | None = array(CreatePartitionsAssignment, nullable_since=0)


@dataclass(slots=True, kw_only=True)
class CreatePartitionsRequest(Message):
    """CreatePartitions (key 37) request, versions 0 to 3."""

    API_KEY = 37
    VERSIONS = range(4)
    FLEXIBLE_SINCE = 2

    topics: list[CreatePartitionsTopic] = array(CreatePartitionsTopic)
    timeout: int = int32()
    validate_only: bool = boolean()


@dataclass(slots=True, kw_only=True)
class CreatePartitionsTopicResult:
    name: str = string()
    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)


@dataclass(slots=True, kw_only=True)
class CreatePartitionsResponse(Message):
    """CreatePartitions (key 37) response, versions 0 to 3."""

    API_KEY = 37
    VERSIONS = range(4)
    FLEXIBLE_SINCE = 2

    throttle_time: int = int32()
    results: list[CreatePartitionsTopicResult] = array(CreatePartitionsTopicResult)


@dataclass(slots=True, kw_only=True)
class DeleteRecordsPartition:
    partition_index: int = int32()
    offset: int = int64()


@dataclass(slots=True, kw_only=True)
class DeleteRecordsTopic:
    name: str = string()
    partitions: list[DeleteRecordsPartition] = array(DeleteRecordsPartition)


@dataclass(slots=True, kw_only=True)
class DeleteRecordsRequest(Message):
    """DeleteRecords (key 21) request, versions 0 to 2."""

    API_KEY = 21
    VERSIONS = range(3)
    FLEXIBLE_SINCE = 2

    topics: list[DeleteRecordsTopic] = array(DeleteRecordsTopic)
    timeout: int = int32()


@dataclass(slots=True, kw_only=True)
class DeleteRecordsPartitionResult:
    partition_index: int = int32()
    low_watermark: int = int64()
    error_code: int = int16()


@dataclass(slots=True, kw_only=True)
class DeleteRecordsTopicResult:
    name: str = string()
    partitions: list[DeleteRecordsPartitionResult] = array(DeleteRecordsPartitionResult)


@dataclass(slots=True, kw_only=True)
class DeleteRecordsResponse(Message):
    """DeleteRecords (key 21) response, versions 0 to 2."""

    API_KEY = 21
    VERSIONS = range(3)
    FLEXIBLE_SINCE = 2

    throttle_time: int = int32()
    topics: list[DeleteRecordsTopicResult] = array(DeleteRecordsTopicResult)


@dataclass(slots=True, kw_only=True)
class DescribeConfigsResource:
    resource_type: int = int8()
    resource_name: str = string()
    configuration_keys: list[str] | None = array(Scalar.STRING, nullable_since=0)


@dataclass(slots=True, kw_only=True)
class DescribeConfigsRequest(Message):
    """DescribeConfigs (key 32) request, versions 1 to 4."""

    API_KEY = 32
    VERSIONS = range(1, 5)
    FLEXIBLE_SINCE = 4

    resources: list[DescribeConfigsResource] = array(DescribeConfigsResource)
    include_synonyms: bool = boolean()
    include_documentation: bool = boolean(since=3)


@dataclass(slots=True, kw_only=True)
class DescribeConfigsSynonym:
    name: str = string()
    value: str | None = string(nullable_since=0, default=None)
    source: int = int8()


@dataclass(slots=True, kw_only=True)
class DescribeConfigsResourceResult:
    name: str = string()
    value: str | None = string(nullable_since=0, default=None)
    read_only: bool = boolean()
    config_source: int = int8(default=-1)
    is_sensitive: bool = boolean()
    synonyms: list[DescribeConfigsSynonym] = array(DescribeConfigsSynonym)
    config_type: int = int8(since=3, ignorable=True)
    documentation: str | None = string(since=3, nullable_since=3, default=None, ignorable=True)


@dataclass(slots=True, kw_only=True)
class DescribeConfigsResult:
    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)
    resource_type: int = int8()
    resource_name: str = string()
    configs: list[DescribeConfigsResourceResult] = array(DescribeConfigsResourceResult)


@dataclass(slots=True, kw_only=True)
class DescribeConfigsResponse(Message):
    """DescribeConfigs (key 32) response, versions 1 to 4."""

    API_KEY = 32
    VERSIONS = range(1, 5)
    FLEXIBLE_SINCE = 4

    throttle_time: int = int32()
    results: list[DescribeConfigsResult] = array(DescribeConfigsResult)


@dataclass(slots=True, kw_only=True)
class AlterableConfig:
    name: str = string()
    value: str | None = string(nullable_since=0, default=None)


@dataclass(slots=True, kw_only=True)
class AlterConfigsResource:
    resource_type: int = int8()
    resource_name: str = string()
    configs: list[AlterableConfig] = array(AlterableConfig)


@dataclass(slots=True, kw_only=True)
class AlterConfigsRequest(Message):
    """AlterConfigs (key 33) request, versions 0 to 2.

    Replaces all overrides of a resource.
    """

    API_KEY = 33
    VERSIONS = range(3)
    FLEXIBLE_SINCE = 2

    resources: list[AlterConfigsResource] = array(AlterConfigsResource)
    validate_only: bool = boolean()


@dataclass(slots=True, kw_only=True)
class AlterConfigsResourceResponse:
    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)
    resource_type: int = int8()
    resource_name: str = string()


@dataclass(slots=True, kw_only=True)
class AlterConfigsResponse(Message):
    """AlterConfigs (key 33) response, versions 0 to 2."""

    API_KEY = 33
    VERSIONS = range(3)
    FLEXIBLE_SINCE = 2

    throttle_time: int = int32()
    responses: list[AlterConfigsResourceResponse] = array(AlterConfigsResourceResponse)


@dataclass(slots=True, kw_only=True)
class IncrementalAlterableConfig:
    name: str = string()
    config_operation: int = int8()
    value: str | None = string(nullable_since=0, default=None)


@dataclass(slots=True, kw_only=True)
class IncrementalAlterConfigsResource:
    resource_type: int = int8()
    resource_name: str = string()
    configs: list[IncrementalAlterableConfig] = array(IncrementalAlterableConfig)


@dataclass(slots=True, kw_only=True)
class IncrementalAlterConfigsRequest(Message):
    """IncrementalAlterConfigs (key 44) request, versions 0 to 1."""

    API_KEY = 44
    VERSIONS = range(2)
    FLEXIBLE_SINCE = 1

    resources: list[IncrementalAlterConfigsResource] = array(IncrementalAlterConfigsResource)
    validate_only: bool = boolean()


@dataclass(slots=True, kw_only=True)
class IncrementalAlterConfigsResponse(Message):
    """IncrementalAlterConfigs (key 44) response, versions 0 to 1."""

    API_KEY = 44
    VERSIONS = range(2)
    FLEXIBLE_SINCE = 1

    throttle_time: int = int32()
    responses: list[AlterConfigsResourceResponse] = array(AlterConfigsResourceResponse)
