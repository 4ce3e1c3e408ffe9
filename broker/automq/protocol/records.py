"""Record batches, version 2 of the format (magic 2): header views, in-place changes, records, control records.

Layout, big-endian, 61 bytes of header:

     0 base offset i64        23 last offset delta i32    53 base sequence i32
     8 batch length i32       27 base timestamp i64       57 record count i32
    12 leader epoch i32       35 max timestamp i64        61 records
    16 magic i8 = 2           43 producer id i64
    17 CRC-32C u32            51 producer epoch i16
    21 attributes i16: bits 0-2 compression, 3 log append time, 4 transactional, 5 control, 6 delete horizon

The length counts what follows it. The CRC covers everything from the attributes on: base offset and leader epoch may be
changed for nothing, timestamps only with a new CRC. Compression covers what follows the record count.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from crc32c import crc32c as crc32c_of

from automq.binary import crc32c, crc32c_joined, read_varint, write_varint
from automq.core import write_records
from automq.core.written_records import Pair
from automq.protocol.compression import Compression, CorruptCompression, DecompressedTooLarge, compress, decompress

HEADER = struct.Struct(">qiibIhiqqqhii")
HEADER_BYTES: Final = 61
LENGTH_END: Final = 12
"""The batch length counts the bytes from here on."""

MAGIC: Final = 2
CRC_START: Final = 21

COMPRESSION_MASK: Final = 0x07
LOG_APPEND_TIME: Final = 0x08
TRANSACTIONAL: Final = 0x10
CONTROL: Final = 0x20

NO_PRODUCER_ID: Final = -1
NO_PRODUCER_EPOCH: Final = -1
NO_SEQUENCE: Final = -1
NO_TIMESTAMP: Final = -1

EMPTY_BATCH_OFFSETS_MAX: Final = 2**31
"""The last offset delta has 31 bits."""

RECORD_BYTES_MIN: Final = 7
"""Length, attributes, two deltas, key length, value length, header count: one byte each."""

_unpack_header = HEADER.unpack_from
_LEADER_EPOCH = struct.Struct(">i")
_ATTRIBUTES = struct.Struct(">h")
_INT64 = struct.Struct(">q")
_CRC = struct.Struct(">I")
_CRC_POSITION: Final = 17
_MAX_TIMESTAMP_POSITION: Final = 35


class CorruptRecords(Exception):
    """Bytes that are not record batches, or records that do not fit their batch."""

    def __init__(self, reason: str, *, position: int) -> None:
        super().__init__(f"{reason} at byte {position} of the records")
        self.reason = reason
        self.position = position


class RecordBatch:
    """The header of one batch and a view of all its bytes. Not frozen: made for every batch produced."""

    __slots__ = (
        "attributes",
        "base_offset",
        "base_sequence",
        "base_timestamp",
        "crc",
        "last_offset_delta",
        "leader_epoch",
        "length",
        "magic",
        "max_timestamp",
        "producer_epoch",
        "producer_id",
        "record_count",
        "view",
    )

    attributes: int
    base_offset: int
    base_sequence: int
    base_timestamp: int
    crc: int
    last_offset_delta: int
    leader_epoch: int
    length: int
    magic: int
    max_timestamp: int
    producer_epoch: int
    producer_id: int
    record_count: int

    def __init__(self, view: memoryview, offset: int = 0) -> None:
        """The batch that starts at `offset`. Raises CorruptRecords if it does not fit; the magic is not checked."""
        if len(view) - offset < HEADER_BYTES:
            raise CorruptRecords(
                f"a batch header needs {HEADER_BYTES} bytes, {len(view) - offset} are left", position=offset
            )
        (
            self.base_offset,
            self.length,
            self.leader_epoch,
            self.magic,
            self.crc,
            self.attributes,
            self.last_offset_delta,
            self.base_timestamp,
            self.max_timestamp,
            self.producer_id,
            self.producer_epoch,
            self.base_sequence,
            self.record_count,
        ) = _unpack_header(view, offset)
        end = offset + LENGTH_END + self.length
        if self.length < HEADER_BYTES - LENGTH_END or end > len(view):
            raise CorruptRecords(f"a batch of {self.length} bytes, {len(view) - offset} are left", position=offset)
        self.view = view if end - offset == len(view) else view[offset:end]

    @property
    def size(self) -> int:
        """Bytes of the whole batch."""
        return self.length + LENGTH_END

    @property
    def next_offset(self) -> int:
        """The offset behind the batch."""
        return self.base_offset + self.last_offset_delta + 1

    @property
    def compression(self) -> Compression:
        """Raises CorruptRecords for a codec nobody knows."""
        kind = self.attributes & COMPRESSION_MASK
        if kind > Compression.ZSTD:
            raise CorruptRecords(f"compression {kind} is not known", position=CRC_START)
        return Compression(kind)

    @property
    def is_log_append_time(self) -> bool:
        return self.attributes & LOG_APPEND_TIME != 0

    @property
    def is_transactional(self) -> bool:
        return self.attributes & TRANSACTIONAL != 0

    @property
    def is_control(self) -> bool:
        return self.attributes & CONTROL != 0

    @property
    def last_sequence(self) -> int:
        """The sequence of the last record; sequences wrap around at 2^31."""
        return (self.base_sequence + self.last_offset_delta) & 0x7FFFFFFF

    def has_valid_crc(self) -> bool:
        """Whether the bytes are those the CRC was made of."""
        # The library's own function, with the interpreter's lock kept: this is done for every batch produced.
        return bool(crc32c_of(self.view[CRC_START:], 0, 0) == self.crc)

    def place(self, *, base_offset: int, leader_epoch: int) -> None:
        """Give the batch its place in the log, in its own bytes. The CRC does not cover it."""
        self.base_offset = base_offset
        self.leader_epoch = leader_epoch
        place_batch(self.view, base_offset=base_offset, leader_epoch=leader_epoch)

    def crc_with(self, records_crc: int) -> int:
        """The batch's CRC as it should be, from that of its records: of what lies behind the header."""
        return crc32c_joined(crc32c(self.view[CRC_START:HEADER_BYTES]), records_crc, self.size - HEADER_BYTES)

    def whole_crc(self, records_crc: int) -> int:
        """CRC-32C of all bytes of the batch, from that of its records."""
        return crc32c_joined(crc32c(self.view[:HEADER_BYTES]), records_crc, self.size - HEADER_BYTES)

    def stamp(self, *, max_timestamp: int, is_log_append_time: bool, records_crc: int | None = None) -> None:
        """Change the largest timestamp and its kind, in the batch's own bytes, and make the CRC anew.

        With log append time readers report that timestamp for every record; the records themselves stay. With
        `records_crc`, that of what lies behind the header, this takes as long for a large batch as for a small one.
        """
        self.max_timestamp = max_timestamp
        self.attributes = (self.attributes & ~LOG_APPEND_TIME) | (LOG_APPEND_TIME if is_log_append_time else 0)
        view = self.view
        _ATTRIBUTES.pack_into(view, CRC_START, self.attributes)
        _INT64.pack_into(view, _MAX_TIMESTAMP_POSITION, max_timestamp)
        self.crc = crc32c(view[CRC_START:]) if records_crc is None else self.crc_with(records_crc)
        _CRC.pack_into(view, _CRC_POSITION, self.crc)


def batches_in(records: memoryview) -> list[RecordBatch]:
    """All batches of `records`, which holds whole batches and nothing else. Raises CorruptRecords."""
    batches = []
    position = 0
    while position < len(records):
        batch = RecordBatch(records, position)
        batches.append(batch)
        position += batch.size
    return batches


def place_batch(view: memoryview, *, base_offset: int, leader_epoch: int) -> None:
    """Give the batch in `view` its place in the log, in its own bytes. The CRC does not cover it."""
    _INT64.pack_into(view, 0, base_offset)
    _LEADER_EPOCH.pack_into(view, LENGTH_END, leader_epoch)


@dataclass(slots=True, kw_only=True)
class Record:
    """One record. Not frozen: made for every record read."""

    key: bytes | None = None
    value: bytes | None = None
    timestamp: int = 0
    headers: Sequence[tuple[str, bytes | None]] = ()
    offset: int = 0
    """Set when read; when written, records are numbered in their order."""


def records_in(batch: RecordBatch, *, decompressed_bytes_max: int) -> Iterator[Record]:
    """The records of a batch, decompressed. Raises CorruptRecords where they do not fit the header."""
    if batch.magic != MAGIC:
        raise CorruptRecords(f"magic {batch.magic} is not {MAGIC}", position=16)
    try:
        data = decompress(batch.compression, batch.view[HEADER_BYTES:], bytes_max=decompressed_bytes_max)
    except (CorruptCompression, DecompressedTooLarge) as error:
        raise CorruptRecords(str(error), position=HEADER_BYTES) from error
    # Slices of bytes are the keys and values themselves; slices of a view would have to be copied one by one.
    data = bytes(data)
    if batch.record_count * RECORD_BYTES_MIN > len(data) or batch.record_count < 0:
        raise CorruptRecords(f"{batch.record_count} records in {len(data)} bytes", position=HEADER_BYTES)
    position = 0
    for _ in range(batch.record_count):
        start = position
        try:
            length, position = read_varint(data, position)
            end = position + length
            if length < 0 or end > len(data):
                raise IndexError
            record = _read_record(batch, data, position, end)
        except (IndexError, ValueError) as error:
            reason = str(error) or "a record does not fit"
            raise CorruptRecords(reason, position=start) from None
        yield record
        position = end
    if position != len(data):
        raise CorruptRecords(f"{len(data) - position} bytes behind the last record", position=position)


def _read_record(batch: RecordBatch, data: bytes, position: int, end: int) -> Record:
    """The record of [position, end). Raises IndexError or ValueError."""
    timestamp_delta, position = read_varint(data, position + 1)
    offset_delta, position = read_varint(data, position)
    key, position = _read_binary(data, position, end)
    value, position = _read_binary(data, position, end)
    count, position = read_varint(data, position)
    if count < 0 or count * 2 > end - position:
        raise ValueError(f"a record of {end - position} more bytes has {count} headers")
    headers = []
    for _ in range(count):
        name, position = _read_binary(data, position, end)
        if name is None:
            raise ValueError("a header has no name")
        content, position = _read_binary(data, position, end)
        headers.append((name.decode(), content))
    if position != end:
        raise ValueError(f"a record ends {end - position} bytes before its length says")
    return Record(
        key=key,
        value=value,
        timestamp=batch.max_timestamp if batch.is_log_append_time else batch.base_timestamp + timestamp_delta,
        headers=headers,
        offset=batch.base_offset + offset_delta,
    )


def _read_binary(data: bytes, position: int, end: int) -> tuple[bytes | None, int]:
    length, position = read_varint(data, position)
    if length < 0:
        return None, position
    if length > end - position:
        raise IndexError
    return data[position : position + length], position + length


def _write_binary(out: bytearray, data: bytes | None) -> None:
    if data is None:
        write_varint(out, -1)
        return
    write_varint(out, len(data))
    out += data


def _write_record(out: bytearray, record: Record, *, offset_delta: int, timestamp_delta: int) -> None:
    body = bytearray(1)
    write_varint(body, timestamp_delta)
    write_varint(body, offset_delta)
    _write_binary(body, record.key)
    _write_binary(body, record.value)
    write_varint(body, len(record.headers))
    for name, content in record.headers:
        _write_binary(body, name.encode())
        _write_binary(body, content)
    write_varint(out, len(body))
    out += body


def build_batch(
    records: Sequence[Record],
    *,
    base_offset: int = 0,
    leader_epoch: int = -1,
    compression: Compression = Compression.NONE,
    producer_id: int = NO_PRODUCER_ID,
    producer_epoch: int = NO_PRODUCER_EPOCH,
    base_sequence: int = NO_SEQUENCE,
    attributes: int = 0,
) -> bytearray:
    """One batch of `records`, numbered from `base_offset` in their order.

    `attributes` are those beside the compression: LOG_APPEND_TIME, TRANSACTIONAL, CONTROL.
    """
    assert records
    base_timestamp = records[0].timestamp
    body = bytearray()
    for index, record in enumerate(records):
        _write_record(body, record, offset_delta=index, timestamp_delta=record.timestamp - base_timestamp)
    fields = (
        attributes | compression,
        len(records) - 1,
        base_timestamp,
        max(record.timestamp for record in records),
        producer_id,
        producer_epoch,
        base_sequence,
        len(records),
    )
    return _with_header(compress(compression, body), base_offset, leader_epoch, fields)


def build_own_batch(pairs: list[Pair], *, timestamp: int) -> bytearray:
    """`build_batch` of records of the broker's own: key and value, of one timestamp. At least one."""
    nobody = (NO_PRODUCER_ID, NO_PRODUCER_EPOCH, NO_SEQUENCE)
    fields = (0, len(pairs) - 1, timestamp, timestamp, *nobody, len(pairs))
    return _with_header(write_records(pairs), 0, -1, fields)


def _with_header(content: bytes | bytearray, base_offset: int, leader_epoch: int, fields: tuple[int, ...]) -> bytearray:
    """A batch of those records; `fields` are its header's from the attributes on."""
    batch = bytearray(HEADER_BYTES)
    batch += content
    HEADER.pack_into(batch, 0, base_offset, len(batch) - LENGTH_END, leader_epoch, MAGIC, 0, *fields)
    _CRC.pack_into(batch, _CRC_POSITION, crc32c(memoryview(batch)[CRC_START:]))
    return batch


def build_empty_batch(*, base_offset: int, last_offset: int, leader_epoch: int) -> bytearray:
    """A batch without records, as Kafka's log cleaner leaves one: it takes a reader past offsets that have none.

    At most EMPTY_BATCH_OFFSETS_MAX offsets, `last_offset` included.
    """
    assert base_offset <= last_offset < base_offset + EMPTY_BATCH_OFFSETS_MAX
    nobody = (NO_PRODUCER_ID, NO_PRODUCER_EPOCH, NO_SEQUENCE)
    fields = (0, last_offset - base_offset, NO_TIMESTAMP, NO_TIMESTAMP, *nobody, 0)
    return _with_header(b"", base_offset, leader_epoch, fields)
