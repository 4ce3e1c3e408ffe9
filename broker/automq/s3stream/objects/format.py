"""Objects as bytes: keys, data blocks, checkpoint blocks, index, footer. All numbers big-endian.

    header        48 bytes: magic "AQOB", version (1), 3 zeros, object id (8), cluster id (22, filled with zeros),
                  6 zeros, crc32c of the 44 bytes before
    blocks        of one stream each: data blocks ordered by stream and offset, then checkpoint blocks
    index         one 64-byte entry a block, ordered by (stream, kind, start offset)
    footer        60 bytes: index position (8), index size (4), crc32c of the index (4), object id (8), cluster id (22),
                  2 zeros, version (1), 3 zeros, magic "AQOB", crc32c of the 56 bytes before

A data block is a table, 28 bytes a batch: base offset (8), max timestamp in ms (8), count (4), size (4), crc32c (4),
followed by the batches verbatim. A checkpoint block is the checkpoint's bytes; its start and end are the offset it
describes.

An index entry: stream (8), start offset (8), end offset (8), records (4), batches (4), position (8), size (4), crc32c
(4) of a data block's table, which has those of the batches, or of the checkpoint, max timestamp in ms (8), kind (1:
data 1, checkpoint 2), 7 zeros.
"""

import enum
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import msgspec
from crc32c import crc32c

from automq.ids import ClusterId, ObjectId, Offset, StreamId
from automq.s3stream.model import CorruptData, FormatTooNew
from automq.s3stream.store.layout import KeyKind, parse_key_of

MAGIC: Final = b"AQOB"
VERSION: Final = 1
HEADER: Final = struct.Struct(">4sB3xQ22s6x")
HEADER_BYTES: Final = HEADER.size + 4
ENTRY: Final = struct.Struct(">QQQIIQIIqB7x")
ENTRY_BYTES: Final = ENTRY.size
ROW: Final = struct.Struct(">QqIII")
ROW_BYTES: Final = ROW.size
FOOTER: Final = struct.Struct(">QIIQ22sxxB3x4s")
FOOTER_BYTES: Final = FOOTER.size + 4
_CRC: Final = struct.Struct(">I")
assert (HEADER_BYTES, ENTRY_BYTES, ROW_BYTES, FOOTER_BYTES) == (48, 64, 28, 60)


class BlockKind(enum.IntEnum):
    """Persisted: never renumber, never reuse."""

    DATA = 1
    CHECKPOINT = 2


class IndexEntry(msgspec.Struct, kw_only=True, gc=False):
    """One block of an object. Not frozen: made by the thousand while an object is written."""

    stream: StreamId
    start: Offset
    end: Offset
    records: int
    batches: int
    position: int
    size: int
    crc: int
    max_timestamp_ms: int
    kind: BlockKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Footer:
    """Where the index lies."""

    index_position: int
    index_size: int
    index_crc: int


def object_folder(cluster_id: ClusterId) -> str:
    """What the keys of all objects of a cluster begin with."""
    return f"{cluster_id}/data/"


def object_key(cluster_id: ClusterId, object_id: ObjectId) -> str:
    """Fixed width; the id's hexadecimal digits reversed, so that consecutive objects lie in different key ranges."""
    digits = f"{object_id:016x}"
    return object_folder(cluster_id) + digits[::-1]


def parse_object_key(key: str) -> ObjectId | None:
    """The object that the key names; None for a key that names none."""
    parsed = parse_key_of(KeyKind.OBJECT, key)
    return None if parsed is None else ObjectId(parsed.numbers[0])


def encode_header(cluster_id: ClusterId, object_id: ObjectId) -> bytes:
    """The first bytes of an object: whose it is."""
    header = HEADER.pack(MAGIC, VERSION, object_id, _cluster(cluster_id))
    return header + _CRC.pack(crc32c(header))


def encode_entry(entry: IndexEntry) -> bytes:
    """One of the index, which is ordered by (stream, kind, start)."""
    return ENTRY.pack(
        entry.stream,
        entry.start,
        entry.end,
        entry.records,
        entry.batches,
        entry.position,
        entry.size,
        entry.crc,
        entry.max_timestamp_ms,
        entry.kind,
    )


def encode_footer(cluster_id: ClusterId, object_id: ObjectId, *, index_position: int, index: bytes) -> bytes:
    """The last bytes of an object."""
    cluster = _cluster(cluster_id)
    footer = FOOTER.pack(index_position, len(index), crc32c(index), object_id, cluster, VERSION, MAGIC)
    return footer + _CRC.pack(crc32c(footer))


def decode_footer(key: str, data: memoryview, *, size: int, cluster_id: ClusterId, object_id: ObjectId) -> Footer:
    """`data` ends where the object, `size` bytes long, ends. Raises CorruptData, FormatTooNew."""
    offset = size - FOOTER_BYTES
    if offset < HEADER_BYTES or len(data) < FOOTER_BYTES:
        raise CorruptData(key=key, offset=0, length=size, what="object")
    footer = data[-FOOTER_BYTES:]
    position, length, index_crc, actual_id, cluster, version, magic = FOOTER.unpack_from(footer)
    # The checksum first, which no version moves: a version that a flipped bit made up is damage.
    if magic != MAGIC or crc32c(footer[:-4]) != _CRC.unpack_from(footer, FOOTER.size)[0]:
        raise CorruptData(key=key, offset=offset, length=FOOTER_BYTES, what="object footer")
    if version > VERSION:
        raise FormatTooNew(key=key, version=version, supported=VERSION)
    if (actual_id, cluster) != (object_id, _cluster(cluster_id)):
        raise CorruptData(key=key, offset=offset, length=FOOTER_BYTES, what="identity of the object")
    if position < HEADER_BYTES or position + length != offset or length % ENTRY_BYTES:
        raise CorruptData(key=key, offset=offset, length=FOOTER_BYTES, what="object footer")
    return Footer(index_position=position, index_size=length, index_crc=index_crc)


class ObjectIndex:
    """The checked index of one object, kept as bytes: a lookup decodes only what it probes."""

    __slots__ = ("_data", "_key", "_position", "count")

    def __init__(self, key: str, data: bytes, footer: Footer) -> None:
        if len(data) != footer.index_size or crc32c(data) != footer.index_crc:
            raise CorruptData(key=key, offset=footer.index_position, length=footer.index_size, what="object index")
        self._key = key
        self._data = data
        self._position = footer.index_position
        self.count = len(data) // ENTRY_BYTES

    @property
    def size(self) -> int:
        """Bytes it takes in memory."""
        return len(self._data)

    def entry(self, number: int) -> IndexEntry:
        """The entry of that number, checked against the object's bounds."""
        at = number * ENTRY_BYTES
        stream, start, end, records, batches, position, size, crc, timestamp, kind = ENTRY.unpack_from(self._data, at)
        if position < HEADER_BYTES or position + size > self._position or kind not in (1, 2):
            raise CorruptData(key=self._key, offset=self._position + at, length=ENTRY_BYTES, what="object index entry")
        return IndexEntry(
            stream=StreamId(stream),
            start=Offset(start),
            end=Offset(end),
            records=records,
            batches=batches,
            position=position,
            size=size,
            crc=crc,
            max_timestamp_ms=timestamp,
            kind=BlockKind(kind),
        )

    def data_entries(self, stream: StreamId, start: Offset) -> Iterator[IndexEntry]:
        """Data blocks of `stream` that hold offsets from `start` on, ascending."""
        low, high = 0, self.count
        while low < high:
            middle = (low + high) // 2
            entry = self.entry(middle)
            if (entry.stream, entry.kind, entry.end) <= (stream, BlockKind.DATA, start):
                low = middle + 1
            else:
                high = middle
        while low < self.count:
            entry = self.entry(low)
            if entry.stream != stream or entry.kind != BlockKind.DATA:
                return
            yield entry
            low += 1

    def checkpoint_entry(self, stream: StreamId, offset: Offset) -> IndexEntry | None:
        """The piece of the stream's checkpoint in this object that describes `offset`."""
        low, high = 0, self.count
        while low < high:
            middle = (low + high) // 2
            entry = self.entry(middle)
            if (entry.stream, entry.kind, entry.start) < (stream, BlockKind.CHECKPOINT, offset):
                low = middle + 1
            else:
                high = middle
        if low < self.count:
            entry = self.entry(low)
            if (entry.stream, entry.kind, entry.start) == (stream, BlockKind.CHECKPOINT, offset):
                return entry
        return None

    def entries(self) -> Iterator[IndexEntry]:
        """All of them, for `dump`."""
        return (self.entry(number) for number in range(self.count))


def check_block(key: str, entry: IndexEntry, data: memoryview) -> None:
    """A block is served only after this. Raises CorruptData."""
    end = entry.batches * ROW_BYTES if entry.kind == BlockKind.DATA else len(data)
    good = len(data) == entry.size and end <= entry.size and crc32c(data[:end]) == entry.crc
    if good and entry.kind == BlockKind.DATA:
        for _, _, _, length, crc in ROW.iter_unpack(data[:end]):
            if crc32c(data[end : end + length], 0, 0) != crc:
                good = False
                break
            end += length
    if not good or end != entry.size:
        raise CorruptData(key=key, offset=entry.position, length=entry.size, what=f"{entry.kind.name.lower()} block")


def _cluster(cluster_id: ClusterId) -> bytes:
    encoded = cluster_id.encode()
    assert len(encoded) <= 22
    return encoded.ljust(22, b"\0")
