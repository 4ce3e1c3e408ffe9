"""Pure: what is done with the records inside a batch beside checking them: compression, and questions about timestamps.

It costs a microsecond and more a record, so large batches are worked on by a worker. What a batch decompresses to is
bounded.
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from automq.binary import crc32c, read_varint
from automq.core import RECORDS_PER_MS
from automq.ids import Offset
from automq.partition.record_validation import DECOMPRESSED_BYTES_MAX, content_of, validate_content
from automq.partition.validation import ATTRIBUTES_LOW, AppendRules, check_batch
from automq.protocol.compression import CorruptCompression, DecompressedTooLarge, compress, decompress
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.records import COMPRESSION_MASK, CRC_START, HEADER_BYTES, LENGTH_END, NO_TIMESTAMP, RecordBatch

# Up to here a batch is walked in place, in about a millisecond.
IN_PLACE_RECORDS_MAX: Final = RECORDS_PER_MS
COMPRESSED_IN_PLACE_BYTES_MAX: Final = 16 << 10

_INT16 = struct.Struct(">h")
_INT32 = struct.Struct(">i")
_UINT32 = struct.Struct(">I")


class FoundOffset(NamedTuple):
    """A record, by its timestamp and offset."""

    timestamp_ms: int
    offset: Offset


class _Record(NamedTuple):
    timestamp_delta: int
    offset_delta: int


def is_small(records: memoryview, rules: AppendRules) -> bool:
    """Whether the batch is checked and stored within about a millisecond of the event loop."""
    if len(records) < HEADER_BYTES or not rules.reads_records:
        return True
    (count,) = _INT32.unpack_from(records, HEADER_BYTES - _INT32.size)
    if count > IN_PLACE_RECORDS_MAX:
        return False
    is_plain = not records[ATTRIBUTES_LOW] & COMPRESSION_MASK and rules.compression is None
    return is_plain or len(records) <= COMPRESSED_IN_PLACE_BYTES_MAX


def prepare(records: memoryview, rules: AppendRules, now_ms: int) -> memoryview:
    """The batch as its topic wants it stored, checked record by record and compressed the topic's way.

    Its header is corrected in its own bytes. Raises ApiError.
    """
    batch = check_batch(records, rules, now_ms)
    data = content_of(batch)
    correct_max_timestamp(batch, validate_content(data, batch, rules, now_ms))
    return compressed(batch, data, rules) if needs_compression(batch, rules) else records


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


def first_record_at(batch: memoryview, timestamp_ms: int, *, from_offset: Offset) -> FoundOffset | None:
    """The first record at or after `from_offset` whose timestamp is at least `timestamp_ms`."""
    for found in _timestamps(batch):
        if found.timestamp_ms >= timestamp_ms and found.offset >= from_offset:
            return found
    return None


def newest_record(batch: memoryview, *, from_offset: Offset) -> FoundOffset | None:
    """The first record at or after `from_offset` that has the batch's greatest timestamp."""
    newest: FoundOffset | None = None
    for found in _timestamps(batch):
        if found.offset >= from_offset and (newest is None or found.timestamp_ms > newest.timestamp_ms):
            newest = found
    return newest


def _timestamps(view: memoryview) -> Iterator[FoundOffset]:
    batch = RecordBatch(view)
    base, count = batch.base_offset, batch.record_count
    if batch.is_log_append_time:
        yield from (FoundOffset(batch.max_timestamp, Offset(base + delta)) for delta in range(count))
        return
    for record in _records(_decompressed(batch), count):
        has_time = batch.base_timestamp != NO_TIMESTAMP
        timestamp = batch.base_timestamp + record.timestamp_delta if has_time else NO_TIMESTAMP
        yield FoundOffset(timestamp, Offset(base + record.offset_delta))


def _decompressed(batch: RecordBatch) -> bytes | bytearray | memoryview:
    try:
        return decompress(batch.compression, batch.view[HEADER_BYTES:], bytes_max=DECOMPRESSED_BYTES_MAX)
    except (CorruptCompression, DecompressedTooLarge) as error:
        raise ApiError(ErrorCode.CORRUPT_MESSAGE, str(error)) from None


def _records(data: bytes | bytearray | memoryview, count: int) -> Iterator[_Record]:
    """Every record's head. Raises ApiError when they are not what the header says."""
    position = 0
    end = len(data)
    try:
        for expected in range(count):
            length, body = read_varint(data, position)
            timestamp_delta, key_at = read_varint(data, body + 1)
            offset_delta, _ = read_varint(data, key_at)
            position = body + length
            if offset_delta != expected or length <= 0 or position > end:
                break
            yield _Record(timestamp_delta, offset_delta)
        else:
            if position == end:
                return
    except (IndexError, ValueError):
        pass
    raise ApiError(ErrorCode.INVALID_RECORD, f"the {count} records of the batch are not well-formed")
