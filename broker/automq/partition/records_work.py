"""Pure: everything that looks at the records inside a batch, one by one.

It costs a microsecond and more a record, so it is done only where a topic's config or a question about timestamps needs
it, and for large batches in a worker. What a batch decompresses to is bounded.
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from automq.binary import crc32c, read_varint
from automq.ids import Offset
from automq.partition.validation import ATTRIBUTES_LOW, AppendRules, check_batch
from automq.protocol.compression import CorruptCompression, DecompressedTooLarge, compress, decompress
from automq.protocol.errors import ApiError, ErrorCode
from automq.protocol.records import COMPRESSION_MASK, CRC_START, HEADER_BYTES, LENGTH_END, NO_TIMESTAMP, RecordBatch

# What a batch may decompress to: sixteen times the largest batch that is taken by default with room to spare.
DECOMPRESSED_BYTES_MAX: Final = 64 << 20

# Below this a batch is looked at in place: a worker's round trip costs more.
IN_PLACE_BYTES_MAX: Final = 16 << 10

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
    has_key: bool


def needs_records(records: memoryview, rules: AppendRules) -> bool:
    """Whether `prepare` has anything to do for this batch."""
    if rules.is_compacted:
        return True
    if rules.compression is None or len(records) < HEADER_BYTES:
        return False
    return bool(records[ATTRIBUTES_LOW] & COMPRESSION_MASK != rules.compression)


def prepare(records: memoryview, rules: AppendRules, now_ms: int) -> memoryview:
    """The batch as its topic wants it stored: every record with a key, compressed the topic's way. Raises ApiError."""
    batch = check_batch(records, rules, now_ms)
    data = _decompressed(batch)
    if rules.is_compacted and not all(record.has_key for record in _records(data, batch.record_count)):
        raise ApiError(ErrorCode.INVALID_RECORD, "a compacted topic takes no record without a key")
    if rules.compression is None or batch.compression is rules.compression:
        return records
    changed = bytearray(records[:HEADER_BYTES]) + compress(rules.compression, data, rules.compression_level)
    _INT32.pack_into(changed, LENGTH_END - _INT32.size, len(changed) - LENGTH_END)
    _INT16.pack_into(changed, CRC_START, batch.attributes & ~COMPRESSION_MASK | rules.compression)
    _UINT32.pack_into(changed, CRC_START - _UINT32.size, crc32c(memoryview(changed)[CRC_START:]))
    return memoryview(changed)


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
            offset_delta, key_at = read_varint(data, key_at)
            key_length, _ = read_varint(data, key_at)
            position = body + length
            if offset_delta != expected or length <= 0 or position > end:
                break
            yield _Record(timestamp_delta, offset_delta, key_length >= 0)
        else:
            if position == end:
                return
    except (IndexError, ValueError):
        pass
    raise ApiError(ErrorCode.INVALID_RECORD, f"the {count} records of the batch are not well-formed")
