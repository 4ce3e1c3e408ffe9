"""Pure: what is done with the records inside a batch beside checking them: compression, and questions about timestamps.

Questions are walks over the records and are asked in parts. What a batch decompresses to is bounded: what is done in
place by CONTENT_IN_PLACE_BYTES_MAX, everything by what a batch may have.
"""

import struct
from typing import Final, NamedTuple

from automq.binary import crc32c
from automq.core import RECORDS_PER_MS, walk_records
from automq.core.record_walk import Data, examine_record
from automq.ids import Offset
from automq.partition.record_validation import content_of, validate_content
from automq.partition.validation import ATTRIBUTES_LOW, AppendRules, check_batch
from automq.protocol.compression import compress
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.records import COMPRESSION_MASK, CRC_START, HEADER_BYTES, LENGTH_END, NO_TIMESTAMP, RecordBatch
from automq.steps import Steps

# Up to here a batch is walked in place, in about a millisecond.
IN_PLACE_RECORDS_MAX: Final = RECORDS_PER_MS
COMPRESSED_IN_PLACE_BYTES_MAX: Final = 16 << 10
CONTENT_IN_PLACE_BYTES_MAX: Final = 256 << 10
"""What a batch decompresses to in place, in less than a millisecond; more is for a worker."""
COMPRESSED_NOW_BYTES_MAX: Final = 32 << 10
"""What is compressed in place."""
BYTES_PER_US: Final = 800
"""Checked and copied in a microsecond."""
COMPRESSED_BYTES_PER_US: Final = 32
"""Decompressed or compressed, and walked."""

_INT16 = struct.Struct(">h")
_INT32 = struct.Struct(">i")
_UINT32 = struct.Struct(">I")
_INT64_MIN: Final = -(1 << 63)
_INT64_MAX: Final = (1 << 63) - 1


class FoundOffset(NamedTuple):
    """A record, by its timestamp and offset."""

    timestamp_ms: int
    offset: Offset


def in_place_us(records: memoryview, rules: AppendRules) -> int | None:
    """About how many microseconds the batch takes the event loop; None when its records take more than a thousand."""
    size = len(records)
    if size < HEADER_BYTES or not rules.reads_records:
        return size // BYTES_PER_US
    count: int = _INT32.unpack_from(records, HEADER_BYTES - _INT32.size)[0]
    if count > IN_PLACE_RECORDS_MAX:
        return None
    if not records[ATTRIBUTES_LOW] & COMPRESSION_MASK and rules.compression is None:
        return size // BYTES_PER_US + count * 1000 // RECORDS_PER_MS
    return None if size > COMPRESSED_IN_PLACE_BYTES_MAX else size // COMPRESSED_BYTES_PER_US


def prepare(records: memoryview, rules: AppendRules, now_ms: int) -> memoryview:
    """The small batch as its topic wants it stored, checked record by record and compressed the topic's way.

    Its header is corrected in its own bytes. Raises ApiError; DecompressedTooLarge when it is not small after all.
    """
    batch = check_batch(records, rules, now_ms)
    is_changed = needs_compression(batch, rules)
    data = content_of(batch, bytes_max=COMPRESSED_NOW_BYTES_MAX if is_changed else CONTENT_IN_PLACE_BYTES_MAX)
    correct_max_timestamp(batch, validate_content(data, batch, rules, now_ms))
    return compressed(batch, data, rules) if is_changed else records


def needs_compression(batch: RecordBatch, rules: AppendRules) -> bool:
    """Whether the topic has a compression of its own, and the batch another."""
    return rules.compression is not None and batch.compression is not rules.compression


def compressed(batch: RecordBatch, data: bytes | bytearray | memoryview, rules: AppendRules) -> memoryview:
    """The batch with its records, `data`, compressed the topic's way."""
    assert rules.compression is not None
    changed = bytearray(batch.view[:HEADER_BYTES]) + compress(rules.compression, data, rules.compression_level)
    _INT32.pack_into(changed, LENGTH_END - _INT32.size, len(changed) - LENGTH_END)
    _INT16.pack_into(changed, CRC_START, batch.attributes & ~COMPRESSION_MASK | rules.compression)
    _UINT32.pack_into(changed, CRC_START - _UINT32.size, crc32c(memoryview(changed)[CRC_START:]))
    return memoryview(changed)


def correct_max_timestamp(batch: RecordBatch, max_timestamp_ms: int, *, records_crc: int | None = None) -> None:
    """Rule: what retention and lookups by time rest on is what the records say; the header follows, with its CRC."""
    if batch.max_timestamp != max_timestamp_ms:
        batch.stamp(
            max_timestamp=max_timestamp_ms, is_log_append_time=batch.is_log_append_time, records_crc=records_crc
        )


def first_record_at(
    content: Data, batch: RecordBatch, timestamp_ms: int, from_offset: Offset
) -> Steps[FoundOffset | None]:
    """The first record at or after `from_offset` whose timestamp is at least `timestamp_ms`, which is not negative.

    In parts: yields about how many microseconds each took. `content` is the batch's, decompressed. Raises ApiError.
    """
    base, count = batch.base_offset, batch.record_count
    first = max(0, from_offset - base)
    if batch.is_log_append_time:
        is_there = first < count and batch.max_timestamp >= timestamp_ms
        return FoundOffset(batch.max_timestamp, Offset(base + first)) if is_there else None
    position, _ = yield from _walk(content, batch, min(first, count))
    index, position, _ = yield from _walk_until(content, batch, first, count, position, timestamp_ms - 1)
    if index >= count:
        if index == count and position != len(content):
            raise _malformed(batch)
        return None
    return FoundOffset(_timestamp(content, batch, index, position), Offset(base + index))


def newest_record(content: Data, batch: RecordBatch, from_offset: Offset) -> Steps[FoundOffset | None]:
    """The first record at or after `from_offset` that has the greatest timestamp of those. As `first_record_at`."""
    base, count = batch.base_offset, batch.record_count
    first = max(0, from_offset - base)
    if first >= count:
        return None
    if batch.is_log_append_time:
        return FoundOffset(batch.max_timestamp, Offset(base + first))
    start, _ = yield from _walk(content, batch, first)
    index, end, newest_ms = yield from _walk_until(content, batch, first, count, start, _INT64_MAX)
    if index < count or end != len(content):
        raise _malformed(batch)
    if newest_ms == NO_TIMESTAMP:
        return FoundOffset(NO_TIMESTAMP, Offset(base + first))
    index, _, _ = yield from _walk_until(content, batch, first, count, start, newest_ms - 1)
    return FoundOffset(newest_ms, Offset(base + index))


def _walk(content: Data, batch: RecordBatch, stop: int) -> Steps[tuple[int, int]]:
    """Past the first `stop` records: the position behind them, and their greatest timestamp. Raises ApiError."""
    index, position, newest_ms = yield from _walk_until(content, batch, 0, stop, 0, _INT64_MAX)
    if index < stop:
        raise _malformed(batch)
    return position, newest_ms


def _walk_until(
    content: Data, batch: RecordBatch, index: int, stop: int, position: int, latest_ms: int
) -> Steps[tuple[int, int, int]]:
    """To the first record of [index, stop) that is later than `latest_ms`, or is not well-formed, in parts.

    Its index and position, and the greatest timestamp before it.
    """
    newest_ms = NO_TIMESTAMP
    while index < stop:
        first, part = index, min(index + RECORDS_PER_MS, stop)
        part_ms, index, position = walk_records(
            content, first, part, position, batch.base_timestamp, _INT64_MIN, latest_ms, False
        )
        newest_ms = max(newest_ms, part_ms)
        yield 1 + (index - first) * 1000 // RECORDS_PER_MS
        if index < part:
            break
    return index, position, newest_ms


def _timestamp(content: Data, batch: RecordBatch, index: int, position: int) -> int:
    try:
        return examine_record(content, index, position, batch.base_timestamp).timestamp_ms
    except ValueError:
        raise _malformed(batch) from None


def _malformed(batch: RecordBatch) -> ApiError:
    return ApiError(ErrorCode.INVALID_RECORD, f"the {batch.record_count} records of the batch are not well-formed")
