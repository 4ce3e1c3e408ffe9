"""Indexes of objects: lookups equal a search through all entries, in pages and in the one of version 1."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automq.ids import ClusterId, ObjectId, Offset, StreamId
from automq.s3stream.model import CorruptData
from automq.s3stream.objects import format as objects
from automq.s3stream.objects.format import (
    FOOTER_BYTES,
    HEADER_BYTES,
    PAGE_ENTRIES,
    BlockKind,
    IndexEntry,
    block_layout,
    decode_footer,
    encode_entry,
    encode_footer,
    encode_root,
)
from automq.s3stream.objects.index import ObjectIndex, whole_index

CLUSTER = ClusterId("ODgzMTQ5OTI3NjE0NTU2Mg")
BLOCKS = 10
"""Bytes that all blocks of these objects take."""


def an_entry(stream: int, start: int, end: int, kind: BlockKind = BlockKind.DATA, *, size: int = BLOCKS) -> IndexEntry:
    return IndexEntry(
        stream=StreamId(stream),
        start=Offset(start),
        end=Offset(end),
        records=end - start,
        batches=1,
        position=HEADER_BYTES,
        size=size,
        crc=1,
        max_timestamp_ms=5,
        kind=kind,
        layout=block_layout(CLUSTER, ObjectId(9)),
    )


def an_object(entries: Sequence[IndexEntry], *, version: int = objects.VERSION) -> bytes:
    """Its index is right, its blocks are zeros."""
    index = b"".join(map(encode_entry, entries))
    blocks = bytes(HEADER_BYTES + BLOCKS)
    if version == 1:
        return blocks + index + encode_footer(CLUSTER, ObjectId(9), position=len(blocks), root=index, version=1)
    root = encode_root(index)
    return blocks + index + root + encode_footer(CLUSTER, ObjectId(9), position=len(blocks) + len(index), root=root)


def index_of(data: bytes) -> ObjectIndex:
    view = memoryview(data)
    footer = decode_footer("key", view, size=len(data), cluster_id=CLUSTER, object_id=ObjectId(9))
    return whole_index("key", view, footer)


@pytest.mark.parametrize("version", [1, 2])
def test_lookup_finds_the_block_that_holds_an_offset(version: int) -> None:
    index = index_of(
        an_object(
            [
                an_entry(1, 0, 10),
                an_entry(1, 10, 20),
                an_entry(1, 20, 20, BlockKind.CHECKPOINT),
                an_entry(2, 5, 9),
                an_entry(2, 9, 30),
            ],
            version=version,
        )
    )

    assert [entry.start for entry in index.data_entries(StreamId(1), Offset(9))] == [0, 10]
    assert [entry.start for entry in index.data_entries(StreamId(1), Offset(10))] == [10]
    assert [entry.start for entry in index.data_entries(StreamId(1), Offset(20))] == []
    assert [entry.start for entry in index.data_entries(StreamId(2), Offset(0))] == [5, 9]
    assert [entry.start for entry in index.data_entries(StreamId(3), Offset(0))] == []
    checkpoint = index.checkpoint_entry(StreamId(1), Offset(20))
    assert checkpoint is not None
    assert checkpoint.start == 20
    assert index.checkpoint_entry(StreamId(1), Offset(19)) is None
    assert index.checkpoint_entry(StreamId(2), Offset(20)) is None
    assert len(list(index.entries())) == 5


@st.composite
def some_entries(draw: st.DrawFn) -> list[IndexEntry]:
    """Streams with gaps between their ids and offsets, some with a checkpoint, some with nothing but one."""
    entries: list[IndexEntry] = []
    stream = 0
    for _ in range(draw(st.integers(0, 8))):
        stream += draw(st.integers(1, 3))
        end = draw(st.integers(0, 5))
        for _ in range(draw(st.integers(0, 9))):
            start = end + draw(st.integers(0, 2))
            end = start + draw(st.integers(1, 3))
            entries.append(an_entry(stream, start, end))
        if draw(st.booleans()):
            entries.append(an_entry(stream, end, end, BlockKind.CHECKPOINT))
    return entries


@settings(deadline=None)
@given(entries=some_entries(), page_entries=st.integers(1, 7), version=st.sampled_from([1, 2]))
def test_every_lookup_equals_a_search_through_all_entries(
    entries: list[IndexEntry], page_entries: int, version: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objects, "PAGE_ENTRIES", page_entries)
        data = an_object(entries, version=version)
    index = index_of(data)

    assert [(e.stream, e.kind, e.start) for e in index.entries()] == [(e.stream, e.kind, e.start) for e in entries]
    for stream in range(max((entry.stream for entry in entries), default=0) + 2):
        of_stream = [entry for entry in entries if entry.stream == stream]
        for offset in range(0, 35, 2 if stream % 2 else 3):
            blocks = [e.start for e in of_stream if e.kind is BlockKind.DATA and e.end > offset]
            assert [e.start for e in index.data_entries(StreamId(stream), Offset(offset))] == blocks
            piece = index.checkpoint_entry(StreamId(stream), Offset(offset))
            assert (piece is not None) == any(e.kind is BlockKind.CHECKPOINT and e.start == offset for e in of_stream)


def test_an_index_of_many_streams_has_a_root_of_a_few_kilobytes() -> None:
    entries = [an_entry(stream, 0, 1) for stream in range(10_000)]

    root = encode_root(b"".join(map(encode_entry, entries)))

    assert len(root) < 2048
    assert PAGE_ENTRIES * objects.ENTRY_BYTES == 8192


def flipped(data: bytes, position: int) -> bytes:
    spoiled = bytearray(data)
    spoiled[position] ^= 1
    return bytes(spoiled)


@pytest.mark.parametrize("version", [1, 2])
def test_every_damaged_byte_of_an_index_is_noticed(version: int) -> None:
    data = an_object([an_entry(1, 0, 10), an_entry(2, 0, 3)], version=version)

    for position in range(HEADER_BYTES + BLOCKS, len(data)):
        with pytest.raises(CorruptData):
            index_of(flipped(data, position))


def test_damage_says_where_it_is() -> None:
    data = an_object([an_entry(1, 0, 10)])

    with pytest.raises(CorruptData, match="object index in key at byte 58, 64 bytes long"):
        index_of(flipped(data, HEADER_BYTES + BLOCKS + 3))
    with pytest.raises(CorruptData, match="root of the object index in key at byte 122, 32 bytes long"):
        index_of(flipped(data, len(data) - FOOTER_BYTES - 3))


def test_entry_beyond_the_blocks_is_refused() -> None:
    with pytest.raises(CorruptData, match="object index entry"):
        list(index_of(an_object([an_entry(1, 0, 10, size=BLOCKS + 1)])).entries())
