"""Pure: all bytes of an object checked: what is damaged, and which offsets nobody can read because of it.

A data block proves itself, and the metadata know where a stream's blocks lie. So where a page of the index is damaged,
or its root, or the footer, the blocks that it described are looked for where they must be, and checked like all others.
What is hidden then are the offsets that a reader cannot find without that page, and no others.
"""

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from automq.ids import ClusterId, ObjectId, Offset, StreamId
from automq.s3stream.model import CorruptData
from automq.s3stream.objects.format import (
    BLOCK_HEAD_BYTES,
    BLOCK_MAGIC,
    CHECKSUM,
    FOOTER_BYTES,
    HEADER_BYTES,
    BlockKind,
    BlockLayout,
    IndexEntry,
    block_layout,
    check_block,
    decode_block_head,
    decode_footer,
    encode_header,
    object_key,
    table_of,
)
from automq.s3stream.objects.index import EntryKey, IndexRoot

_FIRST: Final[EntryKey] = (0, 0, 0)
_BEHIND_ALL: Final[EntryKey] = (1 << 64, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What the metadata say of a stream in the object: offsets [start, end), in `size` bytes from `position` on."""

    stream: StreamId
    start: Offset
    end: Offset
    position: int
    """0 where it is not known."""
    size: int
    needs_index: bool
    """Whether readers find its blocks by the index alone."""


class DamagedPart(enum.Enum):
    """Of an object."""

    HEADER = "header"
    """The object's, or a checksum in that of a block which the index has, too: nobody needs it."""
    DATA = "data"
    CHECKPOINT = "checkpoint"
    INDEX = "index"


@dataclass(frozen=True, slots=True)
class ObjectDamage:
    """One place that is damaged."""

    part: DamagedPart
    error: CorruptData
    hidden: Sequence[tuple[StreamId, Offset, Offset]] = ()
    """Offsets [start, end) of streams that cannot be read; of a checkpoint the one that it describes."""


def find_damage(
    cluster_id: ClusterId, object_id: ObjectId, data: memoryview, shares: Sequence[Share]
) -> list[ObjectDamage]:
    """Everything of the object `data` that is damaged, in the order in which it lies there.

    Raises FormatTooNew where its blocks are none of this version's.
    """
    key = object_key(cluster_id, object_id)
    index = _read_index(key, data, cluster_id, object_id)
    found = _of_header(key, data, cluster_id, object_id, index)
    for entry in index.entries.values():
        found += _of_block(key, data, entry)
    if index.lost:
        for share in shares:
            # Of objects of version 1, whose blocks do not say what they are, no place is known.
            if share.position:
                found += _of_share(key, data, share, index, block_layout(cluster_id, object_id))
        found += [
            ObjectDamage(DamagedPart.INDEX, error, _hidden(shares, first, behind))
            for error, first, behind in index.lost
        ]
    return sorted(found, key=lambda damage: damage.error.offset)


@dataclass(slots=True)
class _Index:
    """What is left of the index."""

    version: int | None = None
    """Of the object; None where that is not known."""
    entries: dict[int, IndexEntry] = field(default_factory=dict)
    """By position."""
    lost: list[tuple[CorruptData, EntryKey, EntryKey]] = field(default_factory=list)
    """What is damaged, with the keys [first, behind) of the entries that it had."""


def _read_index(key: str, data: memoryview, cluster_id: ClusterId, object_id: ObjectId) -> _Index:
    found = _Index()
    try:
        tail = data[max(0, len(data) - FOOTER_BYTES) :]
        footer = decode_footer(key, tail, size=len(data), cluster_id=cluster_id, object_id=object_id)
        found.version = footer.version
        content = b"" if footer.version == 1 else bytes(data[footer.position : footer.position + footer.size])
        root = IndexRoot(key, footer, content)
    except CorruptData as error:
        found.lost.append((error, _FIRST, _BEHIND_ALL))
        return found
    for number in range(root.page_count):
        first = root.first(number)
        behind = root.first(number + 1) if number + 1 < root.page_count else _BEHIND_ALL
        start, end = root.bounds(number)
        try:
            for entry in root.page(number, bytes(data[start:end])).entries():
                found.entries[entry.position] = entry
        except CorruptData as error:
            found.lost.append((error, first, behind))
    return found


def _of_header(
    key: str, data: memoryview, cluster_id: ClusterId, object_id: ObjectId, index: _Index
) -> list[ObjectDamage]:
    if index.version is None or data[:HEADER_BYTES] == encode_header(cluster_id, object_id, version=index.version):
        return []
    error = CorruptData(key=key, offset=0, length=HEADER_BYTES, what="object header")
    return [ObjectDamage(DamagedPart.HEADER, error)]


def _of_block(key: str, data: memoryview, entry: IndexEntry) -> list[ObjectDamage]:
    try:
        check_block(key, entry, data[entry.position : entry.position + entry.size])
    except CorruptData as error:
        part = DamagedPart.CHECKPOINT if entry.kind is BlockKind.CHECKPOINT else DamagedPart.DATA
        return [ObjectDamage(part, error, ((entry.stream, entry.start, entry.end),))]
    at = entry.position + BLOCK_HEAD_BYTES - CHECKSUM.size
    if entry.layout.head_bytes and entry.kind is BlockKind.DATA and CHECKSUM.unpack_from(data, at)[0] != entry.crc:
        copy = CorruptData(key=key, offset=at, length=CHECKSUM.size, what="checksum of a data block")
        return [ObjectDamage(DamagedPart.HEADER, copy)]
    return []


def _of_share(key: str, data: memoryview, share: Share, index: _Index, layout: BlockLayout) -> Iterator[ObjectDamage]:
    """Of the blocks that no entry describes any more, and of what lies where they should be."""
    position, end = share.position, share.position + share.size
    offset = share.start
    while position < end:
        entry = index.entries.get(position)
        if entry is None:
            entry = _proven(key, data, position, share, layout)
            if entry is None:
                following = _next_block(key, data, position, end, share, index, layout)
                length = (end if following is None else following.position) - position
                behind = share.end if following is None else following.start
                error = CorruptData(key=key, offset=position, length=length, what="data block")
                yield ObjectDamage(DamagedPart.DATA, error, ((share.stream, offset, behind),))
                position, offset = position + length, behind
                continue
            yield from _of_block(key, data, entry)
        position, offset = position + entry.size, entry.end


def _proven(key: str, data: memoryview, position: int, share: Share, layout: BlockLayout) -> IndexEntry | None:
    """The data block at `position`, if its head and its table are what was written."""
    try:
        entry = decode_block_head(key, data[position:], position=position, layout=layout)
    except CorruptData:
        return None
    is_whole = table_of(entry, data[position : position + entry.size]) is not None
    return entry if is_whole and entry.stream == share.stream else None


def _next_block(
    key: str, data: memoryview, position: int, end: int, share: Share, index: _Index, layout: BlockLayout
) -> IndexEntry | None:
    """The first block of the share behind `position` that something proves."""
    known = min((at for at in index.entries if position < at < end), default=None)
    searched = bytes(data[position + 1 : min(end if known is None else known, len(data) - BLOCK_HEAD_BYTES)])
    at = searched.find(BLOCK_MAGIC)
    while at >= 0:
        entry = _proven(key, data, position + 1 + at, share, layout)
        if entry is not None:
            return entry
        at = searched.find(BLOCK_MAGIC, at + 1)
    return None if known is None else index.entries[known]


def _hidden(shares: Sequence[Share], first: EntryKey, behind: EntryKey) -> list[tuple[StreamId, Offset, Offset]]:
    """Offsets that only entries with keys [first, behind) find."""
    found: list[tuple[StreamId, Offset, Offset]] = []
    for share in shares:
        if not share.needs_index:
            continue
        start, end = share.start, share.end
        if first > (share.stream, BlockKind.DATA, end) or behind <= (share.stream, BlockKind.DATA, start):
            continue
        if first[:2] == (share.stream, BlockKind.DATA):
            start = max(start, Offset(first[2]))
        if behind[:2] == (share.stream, BlockKind.DATA):
            end = min(end, Offset(behind[2]))
        if start < end:
            found.append((share.stream, start, end))
    return found
