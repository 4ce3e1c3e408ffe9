"""From exceptions to codes."""

import pytest

from automq.handlers.errors import error_code_of, error_message_of, write_error_code_of
from automq.ids import StreamEpoch, StreamId
from automq.protocol.errors import ApiError, ErrorCode
from automq.s3stream.model import (
    BrokerFenced,
    CorruptData,
    DataMissing,
    StorageFull,
    StreamFenced,
    StreamNotFound,
    StreamQuarantined,
)
from automq.s3stream.ports import StoreAccessDenied, StoreUnavailable

CASES = [
    (ApiError(ErrorCode.INVALID_REQUEST, "why"), ErrorCode.INVALID_REQUEST),
    (StreamNotFound("gone"), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
    (StreamFenced(stream=StreamId(1), ours=StreamEpoch(1), current=StreamEpoch(2)), ErrorCode.NOT_LEADER_OR_FOLLOWER),
    (BrokerFenced("fenced"), ErrorCode.NOT_LEADER_OR_FOLLOWER),
    (StorageFull("full"), ErrorCode.KAFKA_STORAGE_ERROR),
    (CorruptData(key="k", offset=1, length=2, what="block"), ErrorCode.CORRUPT_MESSAGE),
    (DataMissing(key="k", what="slot"), ErrorCode.CORRUPT_MESSAGE),
    (StreamQuarantined("damaged", key="k"), ErrorCode.KAFKA_STORAGE_ERROR),
    (StoreUnavailable("away"), ErrorCode.KAFKA_STORAGE_ERROR),
    (StoreAccessDenied("no"), ErrorCode.KAFKA_STORAGE_ERROR),
    (TimeoutError(), ErrorCode.REQUEST_TIMED_OUT),
    (ZeroDivisionError(), ErrorCode.UNKNOWN_SERVER_ERROR),
]


@pytest.mark.parametrize(("error", "code"), CASES, ids=lambda case: type(case).__name__)
def test_exception_has_its_code(error: Exception, code: ErrorCode) -> None:
    assert error_code_of(error) is code


def test_damage_is_no_fault_of_a_producers_message() -> None:
    assert write_error_code_of(DataMissing(key="k", what="slot")) is ErrorCode.KAFKA_STORAGE_ERROR
    assert write_error_code_of(StreamNotFound("gone")) is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def test_message_is_the_exceptions_own() -> None:
    assert error_message_of(ApiError(ErrorCode.INVALID_REQUEST, "why")) == "why"
    assert error_message_of(ApiError(ErrorCode.INVALID_REQUEST)) is None
    assert error_message_of(StoreUnavailable("away")) == "away"
    assert error_message_of(TimeoutError()) is None
