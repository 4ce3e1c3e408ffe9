"""Share groups (KIP-932): state kept by one broker for another.

Structs that carry the same name in several messages of this module but differ have names of their own here:
`InitializePartitionData` (`PartitionData` of InitializeShareGroupStateRequest), `InitializePartitionResult`
(`PartitionResult` of InitializeShareGroupStateResponse), `ReadPartitionData` (`PartitionData` of
ReadShareGroupStateRequest), `ReadPartitionResult` (`PartitionResult` of ReadShareGroupStateResponse),
`WritePartitionData` (`PartitionData` of WriteShareGroupStateRequest), `WritePartitionResult` (`PartitionResult` of
WriteShareGroupStateResponse), `DeletePartitionData` (`PartitionData` of DeleteShareGroupStateRequest),
`DeletePartitionResult` (`PartitionResult` of DeleteShareGroupStateResponse), `ReadSummaryPartitionData`
(`PartitionData` of ReadShareGroupStateSummaryRequest), `ReadSummaryPartitionResult` (`PartitionResult` of
ReadShareGroupStateSummaryResponse).
"""

import uuid
from dataclasses import dataclass

from automq.protocol.schema import Message, array, int8, int16, int32, int64, string, unique_id


@dataclass(slots=True, kw_only=True)
class InitializePartitionData:
    partition: int = int32()
    state_epoch: int = int32()
    start_offset: int = int64()


@dataclass(slots=True, kw_only=True)
class InitializeStateData:
    topic_id: uuid.UUID = unique_id()
    partitions: list[InitializePartitionData] = array(InitializePartitionData)


@dataclass(slots=True, kw_only=True)
class InitializeShareGroupStateRequest(Message):
    """InitializeShareGroupState (key 83) request, version 0."""

    API_KEY = 83
    VERSIONS = range(1)
    FLEXIBLE_SINCE = 0

    group_id: str = string()
    topics: list[InitializeStateData] = array(InitializeStateData)


@dataclass(slots=True, kw_only=True)
class InitializePartitionResult:
    partition: int = int32()
    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)


@dataclass(slots=True, kw_only=True)
class InitializeStateResult:
    topic_id: uuid.UUID = unique_id()
    partitions: list[InitializePartitionResult] = array(InitializePartitionResult)


@dataclass(slots=True, kw_only=True)
class InitializeShareGroupStateResponse(Message):
    """InitializeShareGroupState (key 83) response, version 0."""

    API_KEY = 83
    VERSIONS = range(1)
    FLEXIBLE_SINCE = 0

    results: list[InitializeStateResult] = array(InitializeStateResult)


@dataclass(slots=True, kw_only=True)
class ReadPartitionData:
    partition: int = int32()
    leader_epoch: int = int32()


@dataclass(slots=True, kw_only=True)
class ReadStateData:
    topic_id: uuid.UUID = unique_id()
    partitions: list[ReadPartitionData] = array(ReadPartitionData)


@dataclass(slots=True, kw_only=True)
class ReadShareGroupStateRequest(Message):
    """ReadShareGroupState (key 84) request, version 0."""

    API_KEY = 84
    VERSIONS = range(1)
    FLEXIBLE_SINCE = 0

    group_id: str = string()
    topics: list[ReadStateData] = array(ReadStateData)


@dataclass(slots=True, kw_only=True)
class StateBatch:
    first_offset: int = int64()
    last_offset: int = int64()
    delivery_state: int = int8()
    delivery_count: int = int16()


@dataclass(slots=True, kw_only=True)
class ReadPartitionResult:
    partition: int = int32()
    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)
    state_epoch: int = int32()
    start_offset: int = int64()
    state_batches: list[StateBatch] = array(StateBatch)


@dataclass(slots=True, kw_only=True)
class ReadStateResult:
    topic_id: uuid.UUID = unique_id()
    partitions: list[ReadPartitionResult] = array(ReadPartitionResult)


@dataclass(slots=True, kw_only=True)
class ReadShareGroupStateResponse(Message):
    """ReadShareGroupState (key 84) response, version 0."""

    API_KEY = 84
    VERSIONS = range(1)
    FLEXIBLE_SINCE = 0

    results: list[ReadStateResult] = array(ReadStateResult)


@dataclass(slots=True, kw_only=True)
class WritePartitionData:
    partition: int = int32()
    state_epoch: int = int32()
    leader_epoch: int = int32()
    start_offset: int = int64()
    delivery_complete_count: int = int32(since=1, default=-1, ignorable=True)
    state_batches: list[StateBatch] = array(StateBatch)


@dataclass(slots=True, kw_only=True)
class WriteStateData:
    topic_id: uuid.UUID = unique_id()
    partitions: list[WritePartitionData] = array(WritePartitionData)


@dataclass(slots=True, kw_only=True)
class WriteShareGroupStateRequest(Message):
    """WriteShareGroupState (key 85) request, versions 0 to 1."""

    API_KEY = 85
    VERSIONS = range(2)
    FLEXIBLE_SINCE = 0

    group_id: str = string()
    topics: list[WriteStateData] = array(WriteStateData)


@dataclass(slots=True, kw_only=True)
class WritePartitionResult:
    partition: int = int32()
    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)


@dataclass(slots=True, kw_only=True)
class WriteStateResult:
    topic_id: uuid.UUID = unique_id()
    partitions: list[WritePartitionResult] = array(WritePartitionResult)


@dataclass(slots=True, kw_only=True)
class WriteShareGroupStateResponse(Message):
    """WriteShareGroupState (key 85) response, versions 0 to 1."""

    API_KEY = 85
    VERSIONS = range(2)
    FLEXIBLE_SINCE = 0

    results: list[WriteStateResult] = array(WriteStateResult)


@dataclass(slots=True, kw_only=True)
class DeletePartitionData:
    partition: int = int32()


@dataclass(slots=True, kw_only=True)
class DeleteStateData:
    topic_id: uuid.UUID = unique_id()
    partitions: list[DeletePartitionData] = array(DeletePartitionData)


@dataclass(slots=True, kw_only=True)
class DeleteShareGroupStateRequest(Message):
    """DeleteShareGroupState (key 86) request, version 0."""

    API_KEY = 86
    VERSIONS = range(1)
    FLEXIBLE_SINCE = 0

    group_id: str = string()
    topics: list[DeleteStateData] = array(DeleteStateData)


@dataclass(slots=True, kw_only=True)
class DeletePartitionResult:
    partition: int = int32()
    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)


@dataclass(slots=True, kw_only=True)
class DeleteStateResult:
    topic_id: uuid.UUID = unique_id()
    partitions: list[DeletePartitionResult] = array(DeletePartitionResult)


@dataclass(slots=True, kw_only=True)
class DeleteShareGroupStateResponse(Message):
    """DeleteShareGroupState (key 86) response, version 0."""

    API_KEY = 86
    VERSIONS = range(1)
    FLEXIBLE_SINCE = 0

    results: list[DeleteStateResult] = array(DeleteStateResult)


@dataclass(slots=True, kw_only=True)
class ReadSummaryPartitionData:
    partition: int = int32()
    leader_epoch: int = int32()


@dataclass(slots=True, kw_only=True)
class ReadStateSummaryData:
    topic_id: uuid.UUID = unique_id()
    partitions: list[ReadSummaryPartitionData] = array(ReadSummaryPartitionData)


@dataclass(slots=True, kw_only=True)
class ReadShareGroupStateSummaryRequest(Message):
    """ReadShareGroupStateSummary (key 87) request, versions 0 to 1."""

    API_KEY = 87
    VERSIONS = range(2)
    FLEXIBLE_SINCE = 0

    group_id: str = string()
    topics: list[ReadStateSummaryData] = array(ReadStateSummaryData)


@dataclass(slots=True, kw_only=True)
class ReadSummaryPartitionResult:
    partition: int = int32()
    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)
    state_epoch: int = int32()
    leader_epoch: int = int32()
    start_offset: int = int64()
    delivery_complete_count: int = int32(since=1, default=-1, ignorable=True)


@dataclass(slots=True, kw_only=True)
class ReadStateSummaryResult:
    topic_id: uuid.UUID = unique_id()
    partitions: list[ReadSummaryPartitionResult] = array(ReadSummaryPartitionResult)


@dataclass(slots=True, kw_only=True)
class ReadShareGroupStateSummaryResponse(Message):
    """ReadShareGroupStateSummary (key 87) response, versions 0 to 1."""

    API_KEY = 87
    VERSIONS = range(2)
    FLEXIBLE_SINCE = 0

    results: list[ReadStateSummaryResult] = array(ReadStateSummaryResult)
