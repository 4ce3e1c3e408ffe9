"""Pure: the walk over a batch's records that Kafka makes before it appends them.

A client's header is a claim. What the broker decides on later (retention, lookups by time, offsets) is taken from the
records themselves, and a batch that a consumer could not read is refused here, where its producer can still be told.
Each record's lengths, offset delta, headers and, by the topic's config, key and timestamp are checked. Costs about a
microsecond a record.

Problems of single records are collected and named one by one (KIP-467); a batch that cannot be walked is refused whole.
"""

from collections.abc import Generator, Sequence
from typing import Final, NamedTuple

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
from automq.protocol.records import HEADER_BYTES, NO_TIMESTAMP, RecordBatch

# What a batch may decompress to: sixteen times the largest batch that is taken by default with room to spare.
DECOMPRESSED_BYTES_MAX: Final = 64 << 20
# Named in the answer; more of them would say nothing new.
RECORD_ERRORS_MAX: Final = 1000

Data = bytes | bytearray | memoryview

_VARINT_BYTES_MAX: Final = 10
_NULL: Final = 1
"""The zigzag form of -1."""


class RecordsRefused(ApiError):
    """Single records are at fault; `record_errors` names them, the others of the batch are refused with them."""

    def __init__(self, code: ErrorCode, message: str, record_errors: Sequence[BatchIndexAndErrorMessage]) -> None:
        super().__init__(code, message)
        self.record_errors = record_errors


# Walked in about a millisecond.
RECORDS_PER_PART: Final = 1000


class Walked(NamedTuple):
    """What the records say."""

    max_timestamp_ms: int
    """NO_TIMESTAMP when no record has one."""
    keyless: list[int]
    """Indexes of records without a key, when keys are needed."""
    untimely: list[tuple[int, int]]
    """Indexes and timestamps of records outside the bounds."""
    position: int
    """Behind the last of them."""


def validate_records(batch: RecordBatch, rules: AppendRules, now_ms: int) -> int:
    """The greatest timestamp of the records of a batch whose header was checked. Raises ApiError."""
    return validate_content(content_of(batch), batch, rules, now_ms)


def content_of(batch: RecordBatch) -> Data:
    """The records, decompressed. Raises ApiError for what Kafka's clients could not read."""
    content = batch.view[HEADER_BYTES:]
    kind = batch.compression
    if kind is Compression.NONE:
        return content
    try:
        if kind is Compression.LZ4:
            check_lz4_blocks(content)
        return decompress(kind, content, bytes_max=DECOMPRESSED_BYTES_MAX)
    except (CorruptCompression, DecompressedTooLarge) as error:
        raise ApiError(ErrorCode.INVALID_RECORD, str(error)) from None


def validate_content(content: Data, batch: RecordBatch, rules: AppendRules, now_ms: int) -> int:
    """As `validate_records`, of records that are decompressed already."""
    bounds = _bounds(rules, now_ms)
    return _judged(_walk_part(content, batch, rules, bounds, range(batch.record_count), 0), bounds)


def validation_steps(content: Data, batch: RecordBatch, rules: AppendRules, now_ms: int) -> Generator[int, None, int]:
    """As `validate_content`, in parts: yields about how many microseconds each took."""
    bounds = _bounds(rules, now_ms)
    count = batch.record_count
    walked = Walked(NO_TIMESTAMP, [], [], 0)
    for first in range(0, count, RECORDS_PER_PART):
        records = range(first, min(first + RECORDS_PER_PART, count))
        part = _walk_part(content, batch, rules, bounds, records, walked.position)
        walked.keyless.extend(part.keyless)
        walked.untimely.extend(part.untimely)
        greatest = max(walked.max_timestamp_ms, part.max_timestamp_ms)
        walked = walked._replace(max_timestamp_ms=greatest, position=part.position)
        yield RECORDS_PER_PART
    return _judged(walked, bounds)


Bounds = tuple[int, int]
"""The earliest and the latest timestamp of a record."""


def _bounds(rules: AppendRules, now_ms: int) -> Bounds:
    if rules.is_log_append_time:
        return -(1 << 63), 1 << 63
    return now_ms - rules.before_ms_max, now_ms + rules.after_ms_max


def _walk_part(
    content: Data, batch: RecordBatch, rules: AppendRules, bounds: Bounds, records: range, position: int
) -> "Walked":
    try:
        return walk(content, batch, bounds=bounds, needs_keys=rules.is_compacted, records=records, position=position)
    except (IndexError, ValueError) as error:
        reason = str(error) if isinstance(error, ValueError) else "a record does not fit the batch"
        raise ApiError(
            ErrorCode.INVALID_RECORD, f"the {batch.record_count} records of the batch are not well-formed: {reason}"
        ) from None


def _judged(walked: Walked, bounds: Bounds) -> int:
    """The greatest timestamp. Raises RecordsRefused."""
    earliest, latest = bounds
    if walked.untimely:
        raise RecordsRefused(
            ErrorCode.INVALID_TIMESTAMP,
            "One or more records have been rejected due to invalid timestamp",
            [
                BatchIndexAndErrorMessage(
                    batch_index=index,
                    batch_index_error_message=f"Timestamp {timestamp} of message with offset {index} is out of range. "
                    f"The timestamp should be within [{earliest}, {latest}]",
                )
                for index, timestamp in walked.untimely[:RECORD_ERRORS_MAX]
            ],
        )
    if walked.keyless:
        raise RecordsRefused(
            ErrorCode.INVALID_RECORD,
            f"One or more records have been rejected due to {len(walked.keyless)} record errors in total: compacted "
            "topics take no record without a key",
            [
                BatchIndexAndErrorMessage(
                    batch_index=index, batch_index_error_message="Compacted topic cannot accept message without key."
                )
                for index in walked.keyless[:RECORD_ERRORS_MAX]
            ],
        )
    return walked.max_timestamp_ms


def walk(  # noqa: C901, PLR0912, PLR0915 - the hot loop: a call for each of a record's seven numbers would double its cost
    data: Data,
    batch: RecordBatch,
    *,
    bounds: Bounds,
    needs_keys: bool,
    records: range,
    position: int,
) -> Walked:
    """Those `records` of the batch, the first of which lies at `position`.

    Raises IndexError or ValueError when `data` is not exactly the records that the header announces.
    """
    end = len(data)
    earliest, latest = bounds
    base_timestamp = batch.base_timestamp
    has_time = base_timestamp != NO_TIMESTAMP
    greatest = NO_TIMESTAMP
    keyless: list[int] = []
    untimely: list[tuple[int, int]] = []
    for index in records:
        raw = data[position]
        position += 1
        if raw >= 0x80:
            raw, position = _read_rest(data, position, raw)
        record_end = position + (raw >> 1)
        if raw & 1 or record_end > end:
            raise ValueError(f"record {index} does not end in the batch")
        raw = data[position + 1]
        position += 2
        if raw >= 0x80:
            raw, position = _read_rest(data, position, raw)
        timestamp = base_timestamp + ((raw >> 1) ^ -(raw & 1))
        raw = data[position]
        position += 1
        if raw >= 0x80:
            raw, position = _read_rest(data, position, raw)
        if raw != index << 1:
            raise ValueError(f"record {index} has another offset delta")
        raw = data[position]
        position += 1
        if raw >= 0x80:
            raw, position = _read_rest(data, position, raw)
        if not raw & 1:
            position += raw >> 1
        elif raw != _NULL:
            raise ValueError(f"record {index} has a key of negative length")
        elif needs_keys:
            keyless.append(index)
        raw = data[position]
        position += 1
        if raw >= 0x80:
            raw, position = _read_rest(data, position, raw)
        if not raw & 1:
            position += raw >> 1
        elif raw != _NULL:
            raise ValueError(f"record {index} has a value of negative length")
        # A single zero byte: no headers.
        position = _pass_headers(data, position, record_end) if data[position] else position + 1
        if position != record_end:
            raise ValueError(f"record {index} has another length than its parts")
        if has_time:
            if timestamp > greatest:
                greatest = timestamp
            if not earliest <= timestamp <= latest:
                untimely.append((index, timestamp))
    if records.stop == batch.record_count and position != end:
        raise ValueError(f"{end - position} bytes lie behind the last record")
    return Walked(greatest, keyless, untimely, position)


def _pass_headers(data: Data, position: int, end: int) -> int:
    """Where a record's headers end. Raises IndexError or ValueError."""
    raw, position = _read_raw(data, position)
    count = raw >> 1
    if raw & 1 or count * 2 > end - position:
        raise ValueError("a record has more headers than bytes")
    for _ in range(count):
        raw, position = _read_raw(data, position)
        if raw & 1:
            raise ValueError("a header has no name")
        name_at, position = position, position + (raw >> 1)
        if position > end:
            raise ValueError("a header does not end in its record")
        bytes(data[name_at:position]).decode()
        raw, position = _read_raw(data, position)
        if not raw & 1:
            position += raw >> 1
        elif raw != _NULL:
            raise ValueError("a header has a value of negative length")
        if position > end:
            raise ValueError("a header does not end in its record")
    return position


def _read_raw(data: Data, position: int) -> tuple[int, int]:
    """An unsigned varint and the position behind it; the zigzag is the caller's. Raises IndexError or ValueError."""
    raw = data[position]
    return (raw, position + 1) if raw < 0x80 else _read_rest(data, position + 1, raw)


def _read_rest(data: Data, position: int, first: int) -> tuple[int, int]:
    """As `_read_raw`, of a number whose first byte was read and is not its last."""
    byte = data[position]
    if byte < 0x80:
        return first & 0x7F | byte << 7, position + 1
    raw, shift = first & 0x7F, 7
    for at in range(position, position + _VARINT_BYTES_MAX - 1):
        byte = data[at]
        raw |= (byte & 0x7F) << shift
        if byte < 0x80:
            return raw, at + 1
        shift += 7
    raise ValueError("a number has more than ten bytes")
