"""Record batches (version 2) as a client makes and reads them, written apart from the product's own code."""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from crc32c import crc32c

HEADER = struct.Struct(">qiibIhiqqqhii")
"""Base offset, length, leader epoch, magic, crc, attributes, last offset delta, first and newest timestamp, producer id
and epoch, base sequence, record count."""
_FROM_LENGTH = 12
_FROM_CRC = 21
CONTROL = 0x20


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One batch that was read."""

    base_offset: int
    leader_epoch: int
    timestamp_ms: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    is_control: bool
    values: tuple[bytes, ...]

    @property
    def end_offset(self) -> int:
        """One past the last offset."""
        return self.base_offset + len(self.values)


def build_batch(
    values: Sequence[bytes],
    *,
    timestamp_ms: int,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
) -> bytes:
    """Uncompressed records, all with the same key (compacted topics ask for one), without headers."""
    records = bytearray()
    for delta, value in enumerate(values):
        record = b"\x00\x00" + _varint(delta) + b"\x02k" + _varint(len(value)) + value + b"\x00"
        records += _varint(len(record)) + record
    tail = HEADER.pack(
        0,
        0,
        -1,
        2,
        0,
        0,
        len(values) - 1,
        timestamp_ms,
        timestamp_ms,
        producer_id,
        producer_epoch,
        base_sequence,
        len(values),
    )[_FROM_CRC:]
    crc = crc32c(records, crc32c(tail))
    length = HEADER.size - _FROM_LENGTH + len(records)
    return struct.pack(">qiibI", 0, length, -1, 2, crc) + tail + bytes(records)


class BadBatch(Exception):
    """What was read is no record batch, or not the one that was written."""


def parse_batches(data: bytes | memoryview) -> Iterator[Batch]:
    """Whole batches; one that is cut off at the end is left out, as clients do. Raises BadBatch."""
    view = memoryview(data)
    position = 0
    while len(view) - position >= HEADER.size:
        fields = HEADER.unpack_from(view, position)
        base, length, leader_epoch, magic, crc, attributes, last_delta = fields[:7]
        end = position + _FROM_LENGTH + length
        if magic != 2 or length < HEADER.size - _FROM_LENGTH:
            raise BadBatch(f"magic {magic}, length {length} at byte {position}")
        if end > len(view):
            return
        if crc32c(view[position + _FROM_CRC : end]) != crc:
            raise BadBatch(f"the batch at offset {base} fails its checksum")
        if attributes & 7:
            raise BadBatch(f"the batch at offset {base} is compressed; nobody here compresses")
        values = tuple(_values(view[position + HEADER.size : end], fields[12]))
        if last_delta != len(values) - 1:
            raise BadBatch(f"the batch at offset {base} has {len(values)} records and last delta {last_delta}")
        yield Batch(
            base_offset=base,
            leader_epoch=leader_epoch,
            timestamp_ms=fields[8],
            producer_id=fields[9],
            producer_epoch=fields[10],
            base_sequence=fields[11],
            is_control=bool(attributes & CONTROL),
            values=values,
        )
        position = end


def _values(view: memoryview, count: int) -> Iterator[bytes]:
    data = bytes(view)
    position = 0
    for _ in range(count):
        length, position = _read_varint(data, position)
        end = position + length
        position += 1
        for _ in range(2):
            _, position = _read_varint(data, position)
        size, position = _read_varint(data, position)
        # Keys appear in internal topics only, whose values nobody looks at.
        position += max(size, 0)
        size, position = _read_varint(data, position)
        yield data[position : position + max(size, 0)]
        position = end


def _varint(number: int) -> bytes:
    """Zigzag, seven bits at a time."""
    rest = (number << 1) ^ (number >> 63)
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    rest = shift = 0
    while True:
        byte = data[position]
        position += 1
        rest |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (rest >> 1) ^ -(rest & 1), position
        shift += 7
