"""Objects as bytes: keys, index lookups, and every damage noticed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automq.ids import ClusterId, ObjectId, Offset, StreamId
from automq.s3stream.model import CorruptData, FormatTooNew
from automq.s3stream.objects.format import (
    ENTRY_BYTES,
    FOOTER_BYTES,
    HEADER_BYTES,
    BlockKind,
    IndexEntry,
    ObjectIndex,
    decode_footer,
    encode_entry,
    encode_footer,
    encode_header,
    object_folder,
    object_key,
    parse_object_key,
)

CLUSTER = ClusterId("ODgzMTQ5OTI3NjE0NTU2Mg")


def an_entry(stream: int, start: int, end: int, kind: BlockKind = BlockKind.DATA) -> IndexEntry:
    return IndexEntry(
        stream=StreamId(stream),
        start=Offset(start),
        end=Offset(end),
        records=end - start,
        batches=1,
        position=HEADER_BYTES,
        size=10,
        crc=1,
        max_timestamp_ms=5,
        kind=kind,
    )


def an_index(entries: list[IndexEntry]) -> ObjectIndex:
    index = b"".join(map(encode_entry, entries))
    data = encode_footer(CLUSTER, ObjectId(9), index_position=HEADER_BYTES + 10, index=index)
    size = HEADER_BYTES + 10 + len(index) + len(data)
    footer = decode_footer("key", memoryview(data), size=size, cluster_id=CLUSTER, object_id=ObjectId(9))
    return ObjectIndex("key", index, footer)


def test_keys_are_spread_and_of_fixed_width() -> None:
    assert object_key(CLUSTER, ObjectId(0x1A2B)) == f"{CLUSTER}/data/b2a1000000000000"
    assert object_key(CLUSTER, ObjectId(0x1A2C)).startswith(f"{object_folder(CLUSTER)}c2")


@given(st.integers(0, 2**63 - 1))
def test_key_gives_the_id_back(object_id: int) -> None:
    assert parse_object_key(object_key(CLUSTER, ObjectId(object_id))) == object_id


def test_lookup_finds_the_block_that_holds_an_offset() -> None:
    index = an_index(
        [
            an_entry(1, 0, 10),
            an_entry(1, 10, 20),
            an_entry(1, 20, 20, BlockKind.CHECKPOINT),
            an_entry(2, 5, 9),
            an_entry(2, 9, 30),
        ]
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


def test_footer_of_another_object_is_refused() -> None:
    data = encode_footer(CLUSTER, ObjectId(9), index_position=HEADER_BYTES, index=b"")

    with pytest.raises(CorruptData, match="identity"):
        decode_footer(
            "key",
            memoryview(data),
            size=HEADER_BYTES + FOOTER_BYTES,
            cluster_id=CLUSTER,
            object_id=ObjectId(8),
        )


@given(st.integers(0, 8 * FOOTER_BYTES - 1))
def test_every_flipped_bit_of_the_footer_is_noticed(bit: int) -> None:
    data = bytearray(encode_footer(CLUSTER, ObjectId(9), index_position=HEADER_BYTES, index=b""))
    data[bit // 8] ^= 1 << bit % 8

    with pytest.raises((CorruptData, FormatTooNew)):
        decode_footer(
            "key",
            memoryview(data),
            size=HEADER_BYTES + FOOTER_BYTES,
            cluster_id=CLUSTER,
            object_id=ObjectId(9),
        )


def test_damaged_index_is_refused() -> None:
    index = bytearray(encode_entry(an_entry(1, 0, 10)))
    footer = encode_footer(CLUSTER, ObjectId(9), index_position=HEADER_BYTES + 10, index=bytes(index))
    size = HEADER_BYTES + 10 + ENTRY_BYTES + FOOTER_BYTES
    where = decode_footer("key", memoryview(footer), size=size, cluster_id=CLUSTER, object_id=ObjectId(9))
    index[3] ^= 1

    with pytest.raises(CorruptData, match="object index"):
        ObjectIndex("key", bytes(index), where)


def test_entry_beyond_the_blocks_is_refused() -> None:
    entry = an_entry(1, 0, 10)
    entry.size = 11

    with pytest.raises(CorruptData, match="object index entry"):
        list(an_index([entry]).entries())


def test_header_says_whose_object_it_is() -> None:
    header = encode_header(CLUSTER, ObjectId(9))

    assert len(header) == HEADER_BYTES
    assert CLUSTER.encode() in header
