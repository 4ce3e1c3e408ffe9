"""Pure: may this record batch be appended, and the few bytes of it that a broker rewrites.

A batch stays opaque: its header is checked, its records are read one by one only where a topic's config asks for it
(`records_work`). The batch's checksum does not cover bytes 0 to 20, so base offset and leader epoch are assigned in
place.

    0 base offset i64 | 8 length i32 | 12 leader epoch i32 | 16 magic i8 | 17 CRC-32C u32 of everything from 21 on
    21 attributes i16 | 23 last offset delta i32 | 27 base timestamp i64 | 35 max timestamp i64 | 43 producer id i64
    51 producer epoch i16 | 53 base sequence i32 | 57 record count i32 | 61 records

Where Kafka reads every record to find these out, the header is believed instead: that the greatest timestamp is the
one the header names, that offset deltas are 0 to n-1. What the header cannot hide is checked: its count must agree with
its offsets, and must fit the bytes of a batch that is not compressed.
"""

import struct
from dataclasses import dataclass
from typing import Final

from crc32c import crc32c

from automq.protocol.errors import ApiError, ErrorCode

HEADER_BYTES: Final = 61
CRC_FROM: Final = 21
MAGIC: Final = 2

COMPRESSION_MASK: Final = 0x07
COMPRESSION_MAX: Final = 4
ZSTD: Final = 4
ZSTD_SINCE_PRODUCE: Final = 7
LOG_APPEND_TIME: Final = 0x08
TRANSACTIONAL: Final = 0x10
CONTROL: Final = 0x20

NO_TIMESTAMP: Final = -1
NO_PRODUCER: Final = -1

# Length, attributes, timestamp delta, offset delta, key length, value length, header count: a byte each at least.
RECORD_BYTES_MIN: Final = 7

# Legacy formats have their magic at the same place; less than this cannot say what it is.
_MAGIC_END: Final = 17
_LENGTH_FROM: Final = 12

_unpack_header = struct.Struct(">qiibIhiqqqhii").unpack_from
_pack_assigned = struct.Struct(">qii").pack_into
_pack_crc = struct.Struct(">I").pack_into
_pack_attributes = struct.Struct(">h").pack_into
_pack_timestamp = struct.Struct(">q").pack_into


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendRules:
    """What a topic's config says about its batches."""

    batch_bytes_max: int = 1_048_588
    is_log_append_time: bool = False
    before_ms_max: int = 2**63 - 1
    """How far a record's timestamp may lie in the past."""
    after_ms_max: int = 3_600_000
    """How far a record's timestamp may lie in the future."""
    compression: int | None = None
    """What batches are stored with; None keeps the producer's."""
    is_compacted: bool = False
    """Records need keys."""


class Batch:
    """The header of a batch that passed. Not frozen: one is made for every produced batch."""

    __slots__ = (
        "attributes",
        "base_sequence",
        "count",
        "max_timestamp_ms",
        "producer_epoch",
        "producer_id",
        "size",
    )

    def __init__(
        self,
        size: int,
        attributes: int,
        count: int,
        max_timestamp_ms: int,
        producer_id: int,
        producer_epoch: int,
        base_sequence: int,
    ) -> None:
        self.size = size
        self.attributes = attributes
        self.count = count
        self.max_timestamp_ms = max_timestamp_ms
        self.producer_id = producer_id
        self.producer_epoch = producer_epoch
        self.base_sequence = base_sequence


def check_batch(records: memoryview, rules: AppendRules, now_ms: int, is_internal: bool = False) -> Batch:
    """The header of the only batch in `records`. Raises ApiError with the code Kafka gives.

    `is_internal` is the broker itself: it may write control batches and large ones.
    """
    size = len(records)
    if size < HEADER_BYTES:
        raise _too_short(records)
    (
        base_offset, length, _, magic, crc, attributes, last_delta,
        base_timestamp, max_timestamp, producer_id, producer_epoch, base_sequence, count,
    ) = _unpack_header(records)  # fmt: skip
    if magic != MAGIC:
        raise _wrong_magic(magic)
    if length + _LENGTH_FROM != size:
        raise _wrong_length(length + _LENGTH_FROM, size)
    if base_offset != 0:
        raise ApiError(ErrorCode.INVALID_RECORD, f"the base offset of a new batch must be 0, not {base_offset}")
    if size > rules.batch_bytes_max and not is_internal:
        raise ApiError(
            ErrorCode.MESSAGE_TOO_LARGE,
            f"batch of {size} bytes; the topic's max.message.bytes is {rules.batch_bytes_max}",
        )
    if crc32c(records[CRC_FROM:], 0, 0) != crc:
        raise ApiError(ErrorCode.CORRUPT_MESSAGE, "the batch's checksum does not match its bytes")
    if count <= 0 or last_delta != count - 1:
        raise ApiError(ErrorCode.INVALID_RECORD, f"{count} records cannot have the offsets 0 to {last_delta}")
    compression = attributes & COMPRESSION_MASK
    if compression > COMPRESSION_MAX:
        raise ApiError(ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, f"compression type {compression} is not known")
    if not compression and count * RECORD_BYTES_MIN > size - HEADER_BYTES:
        raise ApiError(ErrorCode.INVALID_RECORD, f"{count} records do not fit {size - HEADER_BYTES} bytes")
    if attributes & (CONTROL | TRANSACTIONAL) and not is_internal:
        raise _refused_kind(attributes)
    if producer_id >= 0 and (base_sequence < 0 or producer_epoch < 0):
        raise ApiError(
            ErrorCode.INVALID_RECORD, f"producer {producer_id} needs an epoch and a sequence, not {base_sequence}"
        )
    if not is_internal:
        _check_timestamps(attributes, base_timestamp, max_timestamp, rules, now_ms)
    return Batch(size, attributes, count, max_timestamp, producer_id, producer_epoch, base_sequence)


def check_produce_version(records: memoryview, version: int) -> None:
    """Clients that speak Produce below version 7 cannot read zstd back. Raises ApiError."""
    if version < ZSTD_SINCE_PRODUCE and len(records) >= HEADER_BYTES and records[22] & COMPRESSION_MASK == ZSTD:
        raise ApiError(ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, f"zstd needs Produce version {ZSTD_SINCE_PRODUCE}")


def is_transactional(records: memoryview) -> bool:
    """Whether the batch is part of a transaction, as its header says."""
    return len(records) >= HEADER_BYTES and bool(records[22] & TRANSACTIONAL)


def assign(records: memoryview, base_offset: int, leader_epoch: int) -> None:
    """Write base offset and leader epoch into the batch."""
    _pack_assigned(records, 0, base_offset, len(records) - _LENGTH_FROM, leader_epoch)


def stamp(records: memoryview, batch: Batch, now_ms: int) -> None:
    """Give all records of the batch the time they were appended at; the checksum covers that."""
    batch.attributes |= LOG_APPEND_TIME
    batch.max_timestamp_ms = now_ms
    _pack_attributes(records, CRC_FROM, batch.attributes)
    _pack_timestamp(records, 35, now_ms)
    _pack_crc(records, 17, crc32c(records[CRC_FROM:], 0, 0))


def _check_timestamps(
    attributes: int, base_timestamp: int, max_timestamp: int, rules: AppendRules, now_ms: int
) -> None:
    """Bounds from the header alone: the first record's timestamp and the greatest one."""
    if attributes & LOG_APPEND_TIME:
        raise ApiError(ErrorCode.INVALID_TIMESTAMP, "only the broker may set the timestamp type LogAppendTime")
    if rules.is_log_append_time:
        return
    if max_timestamp != NO_TIMESTAMP and max_timestamp > now_ms + rules.after_ms_max:
        raise ApiError(
            ErrorCode.INVALID_TIMESTAMP,
            f"timestamp {max_timestamp} is more than {rules.after_ms_max} ms after the broker's time {now_ms}",
        )
    if base_timestamp != NO_TIMESTAMP and base_timestamp < now_ms - rules.before_ms_max:
        raise ApiError(
            ErrorCode.INVALID_TIMESTAMP,
            f"timestamp {base_timestamp} is more than {rules.before_ms_max} ms before the broker's time {now_ms}",
        )


def _refused_kind(attributes: int) -> ApiError:
    if attributes & CONTROL:
        return ApiError(ErrorCode.INVALID_RECORD, "clients may not write control batches")
    return ApiError(ErrorCode.INVALID_TXN_STATE, "this broker does not serve transactions yet")


def _too_short(records: memoryview) -> ApiError:
    if len(records) < _MAGIC_END:
        return ApiError(ErrorCode.INVALID_RECORD, "a partition needs a record batch")
    if records[16] != MAGIC:
        return _wrong_magic(records[16])
    return ApiError(ErrorCode.CORRUPT_MESSAGE, f"{len(records)} bytes are less than a batch's header")


def _wrong_magic(magic: int) -> ApiError:
    if magic in (0, 1):
        return ApiError(ErrorCode.INVALID_RECORD, f"message format {magic} is not supported any more: use version 2")
    return ApiError(ErrorCode.CORRUPT_MESSAGE, f"magic {magic} is not known")


def _wrong_length(batch_bytes: int, size: int) -> ApiError:
    if batch_bytes < HEADER_BYTES:
        return ApiError(ErrorCode.CORRUPT_MESSAGE, f"a batch of {batch_bytes} bytes is less than its header")
    if batch_bytes > size:
        return ApiError(ErrorCode.INVALID_RECORD, f"a batch of {batch_bytes} bytes is cut off at {size}")
    return ApiError(ErrorCode.INVALID_RECORD, "a partition takes exactly one record batch")
