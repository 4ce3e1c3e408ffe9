"""Transactions seen from outside: producers, transactions, lists.

Structs that carry the same name in several messages of this module but differ have names of their own here:
`ListedTransactionState` (`TransactionState` of ListTransactionsResponse).
"""

from dataclasses import dataclass

from automq.protocol.schema import Message, Scalar, array, int16, int32, int64, string


@dataclass(slots=True, kw_only=True)
class TopicRequest:
    name: str = string()
    partition_indexes: list[int] = array(Scalar.INT32)


@dataclass(slots=True, kw_only=True)
class DescribeProducersRequest(Message):
    """DescribeProducers (key 61) request, version 0."""

    API_KEY = 61
    VERSIONS = range(1)
    FLEXIBLE_SINCE = 0

    topics: list[TopicRequest] = array(TopicRequest)


@dataclass(slots=True, kw_only=True)
class ProducerState:
    producer_id: int = int64()
    producer_epoch: int = int32()
    last_sequence: int = int32(default=-1)
    last_timestamp: int = int64(default=-1)
    coordinator_epoch: int = int32()
    current_txn_start_offset: int = int64(default=-1)


@dataclass(slots=True, kw_only=True)
class PartitionResponse:
    partition_index: int = int32()
    error_code: int = int16()
    error_message: str | None = string(nullable_since=0, default=None)
    active_producers: list[ProducerState] = array(ProducerState)


@dataclass(slots=True, kw_only=True)
class TopicResponse:
    name: str = string()
    partitions: list[PartitionResponse] = array(PartitionResponse)


@dataclass(slots=True, kw_only=True)
class DescribeProducersResponse(Message):
    """DescribeProducers (key 61) response, version 0."""

    API_KEY = 61
    VERSIONS = range(1)
    FLEXIBLE_SINCE = 0

    throttle_time: int = int32()
    topics: list[TopicResponse] = array(TopicResponse)


@dataclass(slots=True, kw_only=True)
class DescribeTransactionsRequest(Message):
    """DescribeTransactions (key 65) request, version 0."""

    API_KEY = 65
    VERSIONS = range(1)
    FLEXIBLE_SINCE = 0

    transactional_ids: list[str] = array(Scalar.STRING)


@dataclass(slots=True, kw_only=True)
class TopicData:
    topic: str = string()
    partitions: list[int] = array(Scalar.INT32)


@dataclass(slots=True, kw_only=True)
class TransactionState:
    error_code: int = int16()
    transactional_id: str = string()
    transaction_state: str = string()
    transaction_timeout: int = int32()
    transaction_start_time: int = int64()
    producer_id: int = int64()
    producer_epoch: int = int16()
    topics: list[TopicData] = array(TopicData)


@dataclass(slots=True, kw_only=True)
class DescribeTransactionsResponse(Message):
    """DescribeTransactions (key 65) response, version 0."""

    API_KEY = 65
    VERSIONS = range(1)
    FLEXIBLE_SINCE = 0

    throttle_time: int = int32()
    transaction_states: list[TransactionState] = array(TransactionState)


@dataclass(slots=True, kw_only=True)
class ListTransactionsRequest(Message):
    """ListTransactions (key 66) request, versions 0 to 2."""

    API_KEY = 66
    VERSIONS = range(3)
    FLEXIBLE_SINCE = 0

    state_filters: list[str] = array(Scalar.STRING)
    producer_id_filters: list[int] = array(Scalar.INT64)
    duration_filter: int = int64(since=1, default=-1)
    transactional_id_pattern: str | None = string(since=2, nullable_since=2, default=None)


@dataclass(slots=True, kw_only=True)
class ListedTransactionState:
    transactional_id: str = string()
    producer_id: int = int64()
    transaction_state: str = string()


@dataclass(slots=True, kw_only=True)
class ListTransactionsResponse(Message):
    """ListTransactions (key 66) response, versions 0 to 2."""

    API_KEY = 66
    VERSIONS = range(3)
    FLEXIBLE_SINCE = 0

    throttle_time: int = int32()
    error_code: int = int16()
    unknown_state_filters: list[str] = array(Scalar.STRING)
    transaction_states: list[ListedTransactionState] = array(ListedTransactionState)
