"""Producer ids and transactions."""

from dataclasses import dataclass

from automq.protocol.schema import Message, Scalar, array, boolean, int8, int16, int32, int64, string


@dataclass(slots=True, kw_only=True)
class InitProducerIdRequest(Message):
    """InitProducerId (key 22) request, versions 0 to 5.

    Version 6 (two-phase commit) is not stable in Kafka 4.3 and left out.
    """

    API_KEY = 22
    VERSIONS = range(6)
    FLEXIBLE_SINCE = 2

    transactional_id: str | None = string(nullable_since=0, default=None)
    transaction_timeout: int = int32()
    producer_id: int = int64(since=3, default=-1)
    producer_epoch: int = int16(since=3, default=-1)


@dataclass(slots=True, kw_only=True)
class InitProducerIdResponse(Message):
    """InitProducerId (key 22) response, versions 0 to 5."""

    API_KEY = 22
    VERSIONS = range(6)
    FLEXIBLE_SINCE = 2

    throttle_time: int = int32()
    error_code: int = int16()
    producer_id: int = int64(default=-1)
    producer_epoch: int = int16()


@dataclass(slots=True, kw_only=True)
class AddPartitionsToTxnTopic:
    name: str = string()
    partitions: list[int] = array(Scalar.INT32)


@dataclass(slots=True, kw_only=True)
class AddPartitionsToTxnTransaction:
    transactional_id: str = string(since=4)
    producer_id: int = int64(since=4)
    producer_epoch: int = int16(since=4)
    verify_only: bool = boolean(since=4)
    topics: list[AddPartitionsToTxnTopic] = array(AddPartitionsToTxnTopic, since=4)


@dataclass(slots=True, kw_only=True)
class AddPartitionsToTxnRequest(Message):
    """AddPartitionsToTxn (key 24) request, versions 0 to 5.

    Version 4 and later, several transactions at once, come from brokers only.
    """

    API_KEY = 24
    VERSIONS = range(6)
    FLEXIBLE_SINCE = 3

    transactions: list[AddPartitionsToTxnTransaction] = array(AddPartitionsToTxnTransaction, since=4)
    v3_and_below_transactional_id: str = string(until=3)
    v3_and_below_producer_id: int = int64(until=3)
    v3_and_below_producer_epoch: int = int16(until=3)
    v3_and_below_topics: list[AddPartitionsToTxnTopic] = array(AddPartitionsToTxnTopic, until=3)


@dataclass(slots=True, kw_only=True)
class AddPartitionsToTxnPartitionResult:
    partition_index: int = int32()
    partition_error_code: int = int16()


@dataclass(slots=True, kw_only=True)
class AddPartitionsToTxnTopicResult:
    name: str = string()
    results_by_partition: list[AddPartitionsToTxnPartitionResult] = array(AddPartitionsToTxnPartitionResult)


@dataclass(slots=True, kw_only=True)
class AddPartitionsToTxnResult:
    transactional_id: str = string(since=4)
    topic_results: list[AddPartitionsToTxnTopicResult] = array(AddPartitionsToTxnTopicResult, since=4)


@dataclass(slots=True, kw_only=True)
class AddPartitionsToTxnResponse(Message):
    """AddPartitionsToTxn (key 24) response, versions 0 to 5."""

    API_KEY = 24
    VERSIONS = range(6)
    FLEXIBLE_SINCE = 3

    throttle_time: int = int32()
    error_code: int = int16(since=4, ignorable=True)
    results_by_transaction: list[AddPartitionsToTxnResult] = array(AddPartitionsToTxnResult, since=4)
    results_by_topic_v3_and_below: list[AddPartitionsToTxnTopicResult] = array(AddPartitionsToTxnTopicResult, until=3)


@dataclass(slots=True, kw_only=True)
class AddOffsetsToTxnRequest(Message):
    """AddOffsetsToTxn (key 25) request, versions 0 to 4."""

    API_KEY = 25
    VERSIONS = range(5)
    FLEXIBLE_SINCE = 3

    transactional_id: str = string()
    producer_id: int = int64()
    producer_epoch: int = int16()
    group_id: str = string()


@dataclass(slots=True, kw_only=True)
class AddOffsetsToTxnResponse(Message):
    """AddOffsetsToTxn (key 25) response, versions 0 to 4."""

    API_KEY = 25
    VERSIONS = range(5)
    FLEXIBLE_SINCE = 3

    throttle_time: int = int32()
    error_code: int = int16()


@dataclass(slots=True, kw_only=True)
class EndTxnRequest(Message):
    """EndTxn (key 26) request, versions 0 to 5."""

    API_KEY = 26
    VERSIONS = range(6)
    FLEXIBLE_SINCE = 3

    transactional_id: str = string()
    producer_id: int = int64()
    producer_epoch: int = int16()
    committed: bool = boolean()


@dataclass(slots=True, kw_only=True)
class EndTxnResponse(Message):
    """EndTxn (key 26) response, versions 0 to 5."""

    API_KEY = 26
    VERSIONS = range(6)
    FLEXIBLE_SINCE = 3

    throttle_time: int = int32()
    error_code: int = int16()
    producer_id: int = int64(since=5, default=-1, ignorable=True)
    producer_epoch: int = int16(since=5, default=-1, ignorable=True)


@dataclass(slots=True, kw_only=True)
class TxnOffsetCommitRequestPartition:
    partition_index: int = int32()
    committed_offset: int = int64()
    committed_leader_epoch: int = int32(since=2, default=-1, ignorable=True)
    committed_metadata: str | None = string(nullable_since=0, default=None)


@dataclass(slots=True, kw_only=True)
class TxnOffsetCommitRequestTopic:
    name: str = string()
    partitions: list[TxnOffsetCommitRequestPartition] = array(TxnOffsetCommitRequestPartition)


@dataclass(slots=True, kw_only=True)
class TxnOffsetCommitRequest(Message):
    """TxnOffsetCommit (key 28) request, versions 0 to 5."""

    API_KEY = 28
    VERSIONS = range(6)
    FLEXIBLE_SINCE = 3

    transactional_id: str = string()
    group_id: str = string()
    producer_id: int = int64()
    producer_epoch: int = int16()
    generation_id: int = int32(since=3, default=-1)
    member_id: str = string(since=3)
    group_instance_id: str | None = string(since=3, nullable_since=3, default=None)
    topics: list[TxnOffsetCommitRequestTopic] = array(TxnOffsetCommitRequestTopic)


@dataclass(slots=True, kw_only=True)
class TxnOffsetCommitResponsePartition:
    partition_index: int = int32()
    error_code: int = int16()


@dataclass(slots=True, kw_only=True)
class TxnOffsetCommitResponseTopic:
    name: str = string()
    partitions: list[TxnOffsetCommitResponsePartition] = array(TxnOffsetCommitResponsePartition)


@dataclass(slots=True, kw_only=True)
class TxnOffsetCommitResponse(Message):
    """TxnOffsetCommit (key 28) response, versions 0 to 5."""

    API_KEY = 28
    VERSIONS = range(6)
    FLEXIBLE_SINCE = 3

    throttle_time: int = int32()
    topics: list[TxnOffsetCommitResponseTopic] = array(TxnOffsetCommitResponseTopic)


@dataclass(slots=True, kw_only=True)
class WritableTxnMarkerTopic:
    name: str = string()
    partition_indexes: list[int] = array(Scalar.INT32)


@dataclass(slots=True, kw_only=True)
class WritableTxnMarker:
    producer_id: int = int64()
    producer_epoch: int = int16()
    transaction_result: bool = boolean()
    topics: list[WritableTxnMarkerTopic] = array(WritableTxnMarkerTopic)
    coordinator_epoch: int = int32()
    transaction_version: int = int8(since=2, ignorable=True)


@dataclass(slots=True, kw_only=True)
class WriteTxnMarkersRequest(Message):
    """WriteTxnMarkers (key 27) request, versions 1 to 2."""

    API_KEY = 27
    VERSIONS = range(1, 3)
    FLEXIBLE_SINCE = 0

    markers: list[WritableTxnMarker] = array(WritableTxnMarker)


@dataclass(slots=True, kw_only=True)
class WritableTxnMarkerPartitionResult:
    partition_index: int = int32()
    error_code: int = int16()


@dataclass(slots=True, kw_only=True)
class WritableTxnMarkerTopicResult:
    name: str = string()
    partitions: list[WritableTxnMarkerPartitionResult] = array(WritableTxnMarkerPartitionResult)


@dataclass(slots=True, kw_only=True)
class WritableTxnMarkerResult:
    producer_id: int = int64()
    topics: list[WritableTxnMarkerTopicResult] = array(WritableTxnMarkerTopicResult)


@dataclass(slots=True, kw_only=True)
class WriteTxnMarkersResponse(Message):
    """WriteTxnMarkers (key 27) response, versions 1 to 2."""

    API_KEY = 27
    VERSIONS = range(1, 3)
    FLEXIBLE_SINCE = 0

    markers: list[WritableTxnMarkerResult] = array(WritableTxnMarkerResult)
