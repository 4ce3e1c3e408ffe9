"""Pure: the walk over a batch's records that Kafka makes before it appends them.

A client's header is a claim. What the broker decides on later (retention, lookups by time, offsets) is taken from the
records themselves, and a batch that a consumer could not read is refused here, where its producer can still be told.
Each record's lengths, offset delta, headers and, by the topic's config, key and timestamp are checked. The walk itself
is `core.walk_records`: compiled, ten nanoseconds a record, else about a microsecond. Why it refuses is found out after.

Problems of single records are collected and named one by one (KIP-467); a batch that cannot be walked is refused whole.
"""

from collections.abc import Generator, Sequence
from typing import Final

from automq.core import RECORDS_PER_MS, walk_records
from automq.core.record_walk import Data, examine_record
from automq.partition.validation import AppendRules
from automq.protocol.compression import (
    Compression,
    CorruptCompression,
    DecompressedTooLarge,
    check_lz4_blocks,
    decompress,
)
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.messages.produce import BatchIndexAndErrorMessage
from automq.protocol.records import COMPRESSION_MASK, HEADER_BYTES, NO_TIMESTAMP, RecordBatch
from automq.steps import at_once

# What a batch may decompress to: sixty-four times the largest batch that is taken by default.
DECOMPRESSED_BYTES_MAX: Final = 64 << 20
# Named in the answer; more of them would say nothing new.
RECORD_ERRORS_MAX: Final = 1000

_INT64_MIN: Final = -(1 << 63)
_INT64_MAX: Final = (1 << 63) - 1


class RecordsRefused(ApiError):
    """Single records are at fault; `record_errors` names them, the others of the batch are refused with them."""

    def __init__(self, code: ErrorCode, message: str, record_errors: Sequence[BatchIndexAndErrorMessage]) -> None:
        super().__init__(code, message)
        self.record_errors = record_errors


def validate_records(
    batch: RecordBatch, rules: AppendRules, now_ms: int, *, bytes_max: int = DECOMPRESSED_BYTES_MAX
) -> int:
    """The greatest timestamp of the records of a batch whose header was checked. Raises as `content_of`, ApiError."""
    return validate_content(content_of(batch, bytes_max=bytes_max), batch, rules, now_ms)


def content_of(batch: RecordBatch, *, bytes_max: int = DECOMPRESSED_BYTES_MAX) -> Data:
    """The records, decompressed. Raises ApiError for what Kafka's clients could not read.

    DecompressedTooLarge where they are more than `bytes_max`, if that is less than what any batch may have.
    """
    content = batch.view[HEADER_BYTES:]
    # Members of an enumeration take a while to find, and most batches come as they are.
    if not batch.attributes & COMPRESSION_MASK:
        return content
    kind = batch.compression
    try:
        if kind is Compression.LZ4:
            check_lz4_blocks(content)
        return decompress(kind, content, bytes_max=bytes_max)
    except CorruptCompression as error:
        raise ApiError(ErrorCode.INVALID_RECORD, str(error)) from None
    except DecompressedTooLarge as error:
        if bytes_max < DECOMPRESSED_BYTES_MAX:
            raise
        raise ApiError(ErrorCode.INVALID_RECORD, str(error)) from None


def validate_content(content: Data, batch: RecordBatch, rules: AppendRules, now_ms: int) -> int:
    """As `validate_records`, of records that are decompressed already."""
    earliest, latest = bounds = bounds_of(rules, now_ms)
    count, base_ms = batch.record_count, batch.base_timestamp
    greatest_ms, index, position = walk_records(content, 0, count, 0, base_ms, earliest, latest, rules.is_compacted)
    if index < count or position != len(content):
        raise at_once(_refusal_steps(content, batch, rules, bounds, index, position))
    return greatest_ms


def validation_steps(content: Data, batch: RecordBatch, rules: AppendRules, now_ms: int) -> Generator[int, None, int]:
    """As `validate_content`, in parts: yields about how many microseconds each took."""
    earliest, latest = bounds = bounds_of(rules, now_ms)
    count, base_ms = batch.record_count, batch.base_timestamp
    greatest_ms, index, position = NO_TIMESTAMP, 0, 0
    while index < count:
        stop = min(index + RECORDS_PER_MS, count)
        part_ms, index, position = walk_records(
            content, index, stop, position, base_ms, earliest, latest, rules.is_compacted
        )
        greatest_ms = max(greatest_ms, part_ms)
        yield 1000
        if index < stop:
            break
    if index < count or position != len(content):
        raise (yield from _refusal_steps(content, batch, rules, bounds, index, position))
    return greatest_ms


Bounds = tuple[int, int]
"""The earliest and the latest timestamp of a record."""


def bounds_of(rules: AppendRules, now_ms: int) -> Bounds:
    """Of the timestamps that are taken now."""
    if rules.is_log_append_time:
        return _INT64_MIN, _INT64_MAX
    return max(_INT64_MIN, now_ms - rules.before_ms_max), min(_INT64_MAX, now_ms + rules.after_ms_max)


def _refusal_steps(
    content: Data, batch: RecordBatch, rules: AppendRules, bounds: Bounds, index: int, position: int
) -> Generator[int, None, ApiError]:
    """Why the records are refused: the first one that may not be taken is `index`, at `position`, or all may.

    In parts, as `validation_steps`; no more than RECORD_ERRORS_MAX records are looked at one by one.
    """
    earliest, latest = bounds
    count, base_ms = batch.record_count, batch.base_timestamp
    untimely: list[tuple[int, int]] = []
    keyless: list[int] = []
    examined = 0
    while index < count and examined < RECORD_ERRORS_MAX:
        try:
            record = examine_record(content, index, position, base_ms)
        except ValueError as error:
            return _malformed(batch, str(error))
        if base_ms != NO_TIMESTAMP and not earliest <= record.timestamp_ms <= latest:
            untimely.append((index, record.timestamp_ms))
        if rules.is_compacted and not record.has_key:
            keyless.append(index)
        examined += 1
        stop = min(index + 1 + RECORDS_PER_MS, count)
        began = index
        _, index, position = walk_records(
            content, index + 1, stop, record.end, base_ms, earliest, latest, rules.is_compacted
        )
        yield 3 + (index - began) * 1000 // RECORDS_PER_MS
    if index == count and position != len(content):
        return _malformed(batch, f"{len(content) - position} bytes lie behind the last record")
    return _refused(untimely, keyless, bounds)


def _malformed(batch: RecordBatch, reason: str) -> ApiError:
    return ApiError(
        ErrorCode.INVALID_RECORD, f"the {batch.record_count} records of the batch are not well-formed: {reason}"
    )


def _refused(untimely: list[tuple[int, int]], keyless: list[int], bounds: Bounds) -> RecordsRefused:
    earliest, latest = bounds
    if untimely:
        return RecordsRefused(
            ErrorCode.INVALID_TIMESTAMP,
            "One or more records have been rejected due to invalid timestamp",
            [
                BatchIndexAndErrorMessage(
                    batch_index=index,
                    batch_index_error_message=f"Timestamp {timestamp} of message with offset {index} is out of range. "
                    f"The timestamp should be within [{earliest}, {latest}]",
                )
                for index, timestamp in untimely
            ],
        )
    return RecordsRefused(
        ErrorCode.INVALID_RECORD,
        f"One or more records have been rejected due to {len(keyless)} record errors in total: compacted "
        "topics take no record without a key",
        [
            BatchIndexAndErrorMessage(
                batch_index=index, batch_index_error_message="Compacted topic cannot accept message without key."
            )
            for index in keyless
        ],
    )
