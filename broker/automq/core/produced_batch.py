"""One produced batch on its way into a slot of the write-ahead log: twins of the compiled functions.

They know three layouts and nothing else: that of a record batch (`protocol.records`), of a record in a slot
(`s3stream.wal.format`) and of a producer (`partition.producer_state`); tests hold them against those modules. What they
do not take is not wrong yet: the caller goes the long way then, which takes everything and says why it does not.
"""

import struct
from typing import Final

from crc32c import crc32c

from automq.core.record_walk import Data, walk_records

_unpack_header = struct.Struct(">qiibIhiqqqhii").unpack_from
_pack_place = struct.Struct(">qii").pack_into
_HEADER_BYTES: Final = 61
_LENGTH_END: Final = 12
_CRC_START: Final = 21
_MAGIC: Final = 2
_COMPRESSION_MAX: Final = 4
_RECORD_BYTES_MIN: Final = 7

_RECORD_HEADER = struct.Struct(">QQQqIII")
_pack_record_header = _RECORD_HEADER.pack_into
_RECORD_HEADER_BYTES: Final = _RECORD_HEADER.size

_ENTRY = struct.Struct(">qhqB")
_BATCH = struct.Struct(">iiqq")
_ENTRY_BYTES: Final = _ENTRY.size
_BATCH_BYTES: Final = _BATCH.size
_BATCHES_MAX: Final = 5
_SEQUENCE_MASK: Final = 0x7FFF_FFFF

Taken = tuple[int, int, int, int, int, int]
"""Record count, greatest timestamp, producer id, its epoch, first sequence, CRC-32C of the batch as it is placed."""
Placed = tuple[int, int, int, int, int, int]
"""The same, with the CRC of the slot's record headers at its end, and a greatest timestamp that may be a mark."""


def take_batch(
    records: Data,
    out: memoryview | None,
    position: int,
    base_offset: int,
    leader_epoch: int,
    bytes_max: int,
    earliest_ms: int,
    latest_ms: int,
    needs_keys: bool,
    walks: bool,
) -> Taken | None:
    """Check the only batch in `records`, and copy it to `position` of `out` with its place in the log written into it.

    None when it is not of the common shape, or anything is wrong with it: base offset 0, magic 2, attributes that say
    nothing but a compression, a count that agrees with its offsets, a producer with epoch and sequence or none, the
    right checksum, at most `bytes_max` bytes. With `walks` also no compression, and records as `walk_records` wants
    them whose greatest timestamp is the header's; without, what the header says of time lies within the bounds. What is
    in `out` from `position` on means nothing then. Without `out` the batch is only checked. Positional arguments.
    """
    size = len(records)
    if size < _HEADER_BYTES or size > bytes_max:
        return None
    (
        given_offset,
        length,
        _,
        magic,
        crc,
        attributes,
        last_offset_delta,
        base_timestamp,
        max_timestamp,
        producer_id,
        producer_epoch,
        first_sequence,
        count,
    ) = _unpack_header(records)
    if (
        given_offset
        or length + _LENGTH_END != size
        or magic != _MAGIC
        or not 0 <= attributes <= _COMPRESSION_MAX
        or count <= 0
        or last_offset_delta != count - 1
        or (producer_id >= 0 and (producer_epoch < 0 or first_sequence < 0))
    ):
        return None
    records_max = size if attributes else (size - _HEADER_BYTES) // _RECORD_BYTES_MIN
    if attributes if walks else count > records_max or max_timestamp > latest_ms or base_timestamp < earliest_ms:
        return None
    if out is not None and not 0 <= position <= len(out) - size:
        return None
    view = memoryview(records)
    if crc32c(view[_CRC_START:], 0, 0) != crc:
        return None
    if walks:
        found = walk_records(view[_HEADER_BYTES:], 0, count, 0, base_timestamp, earliest_ms, latest_ms, needs_keys)
        if found != (max_timestamp, count, size - _HEADER_BYTES):
            return None
    front = bytearray(view[:_CRC_START])
    _pack_place(front, 0, base_offset, length, leader_epoch)
    if out is not None:
        out[position : position + _CRC_START] = front
        out[position + _CRC_START : position + size] = view[_CRC_START:]
    placed_crc: int = crc32c(view[_CRC_START:], crc32c(front, 0, 0), 0)
    return count, max_timestamp, producer_id, producer_epoch, first_sequence, placed_crc


def put_record_header(
    out: memoryview,
    position: int,
    stream: int,
    epoch: int,
    base_offset: int,
    max_timestamp_ms: int,
    count: int,
    size: int,
    crc: int,
    slot_crc: int,
) -> int:
    """Write the header of a record, whose batch follows it, to `position` of a slot.

    The CRC of the slot's record headers, `slot_crc` before this one. Positional arguments.
    """
    _pack_record_header(out, position, stream, epoch, base_offset, max_timestamp_ms, count, size, crc)
    found: int = crc32c(out[position : position + _RECORD_HEADER_BYTES], slot_crc, 0)
    return found


def place_received(
    data: Data,
    start: int,
    stop: int,
    out: memoryview,
    position: int,
    stream: int,
    epoch: int,
    base_offset: int,
    bytes_max: int,
    records_max: int,
    earliest_ms: int,
    latest_ms: int,
    needs_keys: bool,
    walks: bool,
    mark_ms: int,
    slot_crc: int,
) -> Placed | None:
    """`take_batch` of data[start:stop], with its record's header before it at `position` of `out`; both or nothing.

    The stream's epoch is the leader's. Nothing is taken with more than `records_max` records. `mark_ms` stands for the
    greatest timestamp in the record's header where the batch has none. Positional arguments.
    """
    records = memoryview(data)[start:stop]
    if not 0 <= start <= stop <= len(data) or len(records) < _HEADER_BYTES or position < 0:
        return None
    if _unpack_header(records)[-1] > records_max:
        return None
    body = position + _RECORD_HEADER_BYTES
    taken = take_batch(records, out, body, base_offset, epoch, bytes_max, earliest_ms, latest_ms, needs_keys, walks)
    if taken is None:
        return None
    count, newest_ms, producer_id, producer_epoch, first_sequence, crc = taken
    if newest_ms < 0:
        newest_ms = mark_ms
    slot_crc = put_record_header(
        out, position, stream, epoch, base_offset, newest_ms, count, stop - start, crc, slot_crc
    )
    return count, newest_ms, producer_id, producer_epoch, first_sequence, slot_crc


def next_producer_entry(
    entry: bytes,
    epoch: int,
    first_sequence: int,
    count: int,
    first_offset: int,
    append_time_ms: int,
    now_ms: int,
) -> bytes | None:
    """A producer's entry with a batch more, when it continues exactly where the newest one ended; None otherwise."""
    size = len(entry)
    if size < _ENTRY_BYTES + _BATCH_BYTES:
        return None
    producer_id, known_epoch, _, batches = _ENTRY.unpack_from(entry)
    if known_epoch != epoch or batches > _BATCHES_MAX or size != _ENTRY_BYTES + batches * _BATCH_BYTES:
        return None
    _, last_sequence, _, _ = _BATCH.unpack_from(entry, size - _BATCH_BYTES)
    if (last_sequence + 1) & _SEQUENCE_MASK != first_sequence:
        return None
    start = _ENTRY_BYTES if batches < _BATCHES_MAX else _ENTRY_BYTES + _BATCH_BYTES
    before = entry[start:]
    last_sequence = (first_sequence + count - 1) & _SEQUENCE_MASK
    head = _ENTRY.pack(producer_id, epoch, now_ms, len(before) // _BATCH_BYTES + 1)
    return b"".join((head, before, _BATCH.pack(first_sequence, last_sequence, first_offset, append_time_ms)))
