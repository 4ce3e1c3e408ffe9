"""Objects as bytes: keys, data blocks, checkpoint blocks, index, footer. All numbers big-endian.

    header        48 bytes: magic "AQOB", version (1), 3 zeros, object id (8), cluster id (22, filled with zeros),
                  6 zeros, crc32c of the 44 bytes before
    blocks        of one stream each: data blocks ordered by stream and offset, then checkpoint blocks
    index         one 64-byte entry a block, ordered by (stream, kind, start offset), in pages of so many entries
    root          entries of the index (4), entries of a page (4; the last page may have fewer), then 24 bytes a page:
                  stream (8), start offset (8) and kind (1) of its first entry, 3 zeros, crc32c of the page (4)
    footer        60 bytes: root position (8), root size (4), crc32c of the root (4), object id (8), cluster id (22),
                  2 zeros, version (1), 3 zeros, magic "AQOB", crc32c of the 56 bytes before

A data block is a head, a table, and the batches verbatim. The head, 52 bytes: magic "AQB", version (1), stream (8),
start offset (8), end offset (8), records (4), batches (4), size of the block (4), max timestamp in ms (8), then a
crc32c (4) of three things in a row: the object's identity (the 44 bytes of the object's header), the 48 bytes of the
head, and the table. So a block says what it is, whose, and of which object: who knows where it lies needs no index. The
table has 28 bytes a batch: base offset (8), max timestamp in ms (8), count (4), size (4), crc32c (4). A stream's data
blocks lie next to one another. A checkpoint block is the checkpoint's bytes; its start and end are the offset it
describes.

An index entry: stream (8), start offset (8), end offset (8), records (4), batches (4), position (8), size (4), crc32c
(4) of a data block (the one in its head), or of the checkpoint, max timestamp in ms (8), kind (1: data 1, checkpoint
2), 7 zeros.

Version 1, which is read and not written any more: blocks have no head, the crc32c of an entry is that of the table
alone; there is no root, the footer has position, size and crc32c of the whole index.
"""

import enum
import struct
from dataclasses import dataclass
from typing import Final

import msgspec
from crc32c import crc32c

from automq.ids import ClusterId, ObjectId, Offset, StreamId
from automq.s3stream.model import CorruptData, FormatTooNew
from automq.s3stream.store.layout import KeyKind, parse_key_of

MAGIC: Final = b"AQOB"
VERSION: Final = 2
BLOCK_MAGIC: Final = b"AQB"
BLOCK_VERSION: Final = 1
HEADER: Final = struct.Struct(">4sB3xQ22s6x")
HEADER_BYTES: Final = HEADER.size + 4
ENTRY: Final = struct.Struct(">QQQIIQIIqB7x")
ENTRY_BYTES: Final = ENTRY.size
PAGE_ENTRIES: Final = 128
"""Of a page of the index, 8 KiB: as much as the lines of a root that says where the blocks of 20,000 streams are."""
ROOT_HEAD: Final = struct.Struct(">II")
ROOT_LINE: Final = struct.Struct(">QQB3xI")
BLOCK_HEAD: Final = struct.Struct(">3sBQQQIIIq")
BLOCK_HEAD_BYTES: Final = BLOCK_HEAD.size + 4
ROW: Final = struct.Struct(">QqIII")
ROW_BYTES: Final = ROW.size
FOOTER: Final = struct.Struct(">QIIQ22sxxB3x4s")
FOOTER_BYTES: Final = FOOTER.size + 4
CHECKSUM: Final = struct.Struct(">I")
assert (HEADER_BYTES, ENTRY_BYTES, ROW_BYTES, FOOTER_BYTES) == (48, 64, 28, 60)
assert (BLOCK_HEAD_BYTES, ROOT_LINE.size) == (52, 24)


class BlockKind(enum.IntEnum):
    """Persisted: never renumber, never reuse."""

    DATA = 1
    CHECKPOINT = 2


@dataclass(frozen=True, slots=True)
class BlockLayout:
    """What of the data blocks of one object their index does not say."""

    head_bytes: int
    """Before the table."""
    seed: int
    """What their checksums begin with: that of the object's identity."""


HEADLESS: Final = BlockLayout(head_bytes=0, seed=0)
"""Of objects of version 1."""


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
    layout: BlockLayout


@dataclass(frozen=True, slots=True, kw_only=True)
class Footer:
    """Where the root of the index lies; in version 1 the index itself."""

    version: int
    position: int
    size: int
    crc: int
    layout: BlockLayout
    """That of the object's blocks."""


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


def encode_header(cluster_id: ClusterId, object_id: ObjectId, *, version: int = VERSION) -> bytes:
    """The first bytes of an object: whose it is. Version 1 is to compare with what an earlier program wrote."""
    header = HEADER.pack(MAGIC, version, object_id, _cluster(cluster_id))
    return header + CHECKSUM.pack(crc32c(header))


def block_layout(cluster_id: ClusterId, object_id: ObjectId) -> BlockLayout:
    """Of the blocks of an object that is written now, or whose blocks were found without its index."""
    # The version is a part of the identity, and that of the blocks: an object of a later one has others.
    return BlockLayout(head_bytes=BLOCK_HEAD_BYTES, seed=crc32c(HEADER.pack(MAGIC, 2, object_id, _cluster(cluster_id))))


def encode_block_head(entry: IndexEntry, table: bytes | bytearray | memoryview) -> bytes:
    """The first bytes of a data block, which `entry` describes but for its checksum: that is set here."""
    head = BLOCK_HEAD.pack(
        BLOCK_MAGIC,
        BLOCK_VERSION,
        entry.stream,
        entry.start,
        entry.end,
        entry.records,
        entry.batches,
        entry.size,
        entry.max_timestamp_ms,
    )
    entry.crc = crc32c(table, crc32c(head, entry.layout.seed))
    return head + CHECKSUM.pack(entry.crc)


def decode_block_head(key: str, data: memoryview, *, position: int, layout: BlockLayout) -> IndexEntry:
    """What the data block that begins `data`, at `position` of the object, says of itself.

    Nothing is proved before its checksum is compared. Raises CorruptData where it cannot be one, or is one of a later
    version: whether it is that, the object's footer says.
    """
    if len(data) < BLOCK_HEAD_BYTES:
        raise CorruptData(key=key, offset=position, length=len(data), what="head of a data block")
    magic, version, stream, start, end, records, batches, size, timestamp = BLOCK_HEAD.unpack_from(data)
    least = BLOCK_HEAD_BYTES + batches * ROW_BYTES
    if (magic, version) != (BLOCK_MAGIC, BLOCK_VERSION) or not batches or not start < end or not least <= size:
        raise CorruptData(key=key, offset=position, length=BLOCK_HEAD_BYTES, what="head of a data block")
    return IndexEntry(
        stream=StreamId(stream),
        start=Offset(start),
        end=Offset(end),
        records=records,
        batches=batches,
        position=position,
        size=size,
        crc=CHECKSUM.unpack_from(data, BLOCK_HEAD.size)[0],
        max_timestamp_ms=timestamp,
        kind=BlockKind.DATA,
        layout=layout,
    )


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


def encode_root(index: bytes | bytearray) -> bytes:
    """What finds an entry of `index`: the pages, each with its first key and its checksum."""
    root = bytearray(ROOT_HEAD.pack(len(index) // ENTRY_BYTES, PAGE_ENTRIES))
    view = memoryview(index)
    for at in range(0, len(index), PAGE_ENTRIES * ENTRY_BYTES):
        page = view[at : at + PAGE_ENTRIES * ENTRY_BYTES]
        stream, start, *_, kind = ENTRY.unpack_from(page)
        root += ROOT_LINE.pack(stream, start, kind, crc32c(page))
    return bytes(root)


def encode_footer(
    cluster_id: ClusterId, object_id: ObjectId, *, position: int, root: bytes, version: int = VERSION
) -> bytes:
    """The last bytes of an object. Version 1 is for tests: `root` is the index itself then."""
    footer = FOOTER.pack(position, len(root), crc32c(root), object_id, _cluster(cluster_id), version, MAGIC)
    return footer + CHECKSUM.pack(crc32c(footer))


def decode_footer(key: str, data: memoryview, *, size: int, cluster_id: ClusterId, object_id: ObjectId) -> Footer:
    """`data` ends where the object, `size` bytes long, ends. Raises CorruptData, FormatTooNew."""
    offset = size - FOOTER_BYTES
    if offset < HEADER_BYTES or len(data) < FOOTER_BYTES:
        raise CorruptData(key=key, offset=0, length=size, what="object")
    footer = data[-FOOTER_BYTES:]
    position, length, crc, actual_id, cluster, version, magic = FOOTER.unpack_from(footer)
    # The checksum first, which no version moves: a version that a flipped bit made up is damage.
    if magic != MAGIC or crc32c(footer[:-4]) != CHECKSUM.unpack_from(footer, FOOTER.size)[0]:
        raise CorruptData(key=key, offset=offset, length=FOOTER_BYTES, what="object footer")
    if version > VERSION:
        raise FormatTooNew(key=key, version=version, supported=VERSION)
    if (actual_id, cluster) != (object_id, _cluster(cluster_id)):
        raise CorruptData(key=key, offset=offset, length=FOOTER_BYTES, what="identity of the object")
    is_whole = not length % ENTRY_BYTES if version == 1 else length >= ROOT_HEAD.size
    if position < HEADER_BYTES or position + length != offset or not is_whole:
        raise CorruptData(key=key, offset=offset, length=FOOTER_BYTES, what="object footer")
    layout = HEADLESS if version == 1 else block_layout(cluster_id, object_id)
    return Footer(version=version, position=position, size=length, crc=crc, layout=layout)


def table_of(entry: IndexEntry, data: memoryview) -> memoryview | None:
    """The table of a data block whose bytes are `data`, if it is the one that was written."""
    start = entry.layout.head_bytes
    end = start + entry.batches * ROW_BYTES
    if len(data) != entry.size or end > len(data):
        return None
    crc = crc32c(data[: BLOCK_HEAD.size], entry.layout.seed) if start else 0
    return data[start:end] if crc32c(data[start:end], crc) == entry.crc else None


def check_block(key: str, entry: IndexEntry, data: memoryview) -> None:
    """A block is served only after this. Raises CorruptData."""
    if not (_is_checkpoint(entry, data) if entry.kind is BlockKind.CHECKPOINT else _is_data_block(entry, data)):
        raise CorruptData(key=key, offset=entry.position, length=entry.size, what=f"{entry.kind.name.lower()} block")


def _is_checkpoint(entry: IndexEntry, data: memoryview) -> bool:
    return len(data) == entry.size and crc32c(data) == entry.crc


def _is_data_block(entry: IndexEntry, data: memoryview) -> bool:
    table = table_of(entry, data)
    if table is None:
        return False
    end = entry.layout.head_bytes + len(table)
    for _, _, _, length, crc in ROW.iter_unpack(table):
        if crc32c(data[end : end + length], 0, 0) != crc:
            return False
        end += length
    return end == entry.size


def _cluster(cluster_id: ClusterId) -> bytes:
    encoded = cluster_id.encode()
    assert len(encoded) <= 22
    return encoded.ljust(22, b"\0")
