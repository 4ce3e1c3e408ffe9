"""The one place where an exception becomes a Kafka error code."""

import asyncio
from collections.abc import Mapping
from typing import Final

from automq.protocol.errors import ApiError, ErrorCode
from automq.replicated.machine import LogFailed, LogFenced
from automq.s3stream.model import (
    BrokerFenced,
    FormatTooNew,
    ObjectRefused,
    OffsetOutOfRange,
    StorageFull,
    StoreDamaged,
    StreamClosed,
    StreamFenced,
    StreamNotFound,
    StreamQuarantined,
    StreamSealed,
)
from automq.s3stream.ports import NotController, StoreError

# Searched along the exception's class and its bases, nearest first. Everything a client should simply try again,
# perhaps elsewhere, has a retriable code.
CODES: Final[Mapping[type[BaseException], ErrorCode]] = {
    StreamNotFound: ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    StreamFenced: ErrorCode.NOT_LEADER_OR_FOLLOWER,
    StreamClosed: ErrorCode.NOT_LEADER_OR_FOLLOWER,
    StreamSealed: ErrorCode.NOT_LEADER_OR_FOLLOWER,
    BrokerFenced: ErrorCode.NOT_LEADER_OR_FOLLOWER,
    NotController: ErrorCode.NOT_CONTROLLER,
    LogFenced: ErrorCode.NOT_CONTROLLER,
    LogFailed: ErrorCode.NOT_CONTROLLER,
    OffsetOutOfRange: ErrorCode.OFFSET_OUT_OF_RANGE,
    StorageFull: ErrorCode.KAFKA_STORAGE_ERROR,
    ObjectRefused: ErrorCode.KAFKA_STORAGE_ERROR,
    StreamQuarantined: ErrorCode.KAFKA_STORAGE_ERROR,
    # A storage error is retried in silence: the consumer has to be told at which offset it stands.
    StoreDamaged: ErrorCode.CORRUPT_MESSAGE,
    FormatTooNew: ErrorCode.KAFKA_STORAGE_ERROR,
    StoreError: ErrorCode.KAFKA_STORAGE_ERROR,
    TimeoutError: ErrorCode.REQUEST_TIMED_OUT,
    asyncio.CancelledError: ErrorCode.NOT_LEADER_OR_FOLLOWER,
}


def error_code_of(error: BaseException) -> ErrorCode:
    """The code that tells a client of `error`; UNKNOWN_SERVER_ERROR for what nobody foresaw."""
    if isinstance(error, ApiError):
        return error.code
    for kind in type(error).__mro__:
        code = CODES.get(kind)
        if code is not None:
            return code
    return ErrorCode.UNKNOWN_SERVER_ERROR


def write_error_code_of(error: BaseException) -> ErrorCode:
    """As `error_code_of`, for a producer: to it, damage of the store is no fault of its own message."""
    return ErrorCode.KAFKA_STORAGE_ERROR if isinstance(error, StoreDamaged) else error_code_of(error)


def error_message_of(error: BaseException) -> str | None:
    """The sentence that goes with the code, where the answer has room for one."""
    if isinstance(error, ApiError):
        return error.message
    return str(error) or None
