"""Objects as bytes: keys, blocks that say what they are, and every damage noticed."""

import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from automq.ids import ClusterId, ObjectId, StreamId
from automq.s3stream.model import CorruptData, FormatTooNew
from automq.s3stream.objects.format import (
    FOOTER_BYTES,
    HEADER_BYTES,
    VERSION,
    block_layout,
    check_block,
    decode_block_head,
    decode_footer,
    encode_footer,
    encode_header,
    encode_root,
    object_folder,
    object_key,
    parse_object_key,
)
from automq.s3stream.objects.writer import ObjectWriter

CLUSTER = ClusterId("ODgzMTQ5OTI3NjE0NTU2Mg")
ROOT = encode_root(b"")
SIZE = HEADER_BYTES + len(ROOT) + FOOTER_BYTES


def test_keys_are_spread_and_of_fixed_width() -> None:
    assert object_key(CLUSTER, ObjectId(0x1A2B)) == f"{CLUSTER}/data/b2a1000000000000"
    assert object_key(CLUSTER, ObjectId(0x1A2C)).startswith(f"{object_folder(CLUSTER)}c2")


@given(st.integers(0, 2**63 - 1))
def test_key_gives_the_id_back(object_id: int) -> None:
    assert parse_object_key(object_key(CLUSTER, ObjectId(object_id))) == object_id


def test_footer_of_another_object_is_refused() -> None:
    data = encode_footer(CLUSTER, ObjectId(9), position=HEADER_BYTES, root=ROOT)

    with pytest.raises(CorruptData, match="identity"):
        decode_footer(
            "key",
            memoryview(data),
            size=HEADER_BYTES + len(ROOT) + FOOTER_BYTES,
            cluster_id=CLUSTER,
            object_id=ObjectId(8),
        )


@given(st.integers(0, 8 * FOOTER_BYTES - 1))
def test_every_flipped_bit_of_the_footer_is_noticed(bit: int) -> None:
    data = bytearray(encode_footer(CLUSTER, ObjectId(9), position=HEADER_BYTES, root=ROOT))
    data[bit // 8] ^= 1 << bit % 8

    with pytest.raises((CorruptData, FormatTooNew)):
        decode_footer(
            "key",
            memoryview(data),
            size=HEADER_BYTES + len(ROOT) + FOOTER_BYTES,
            cluster_id=CLUSTER,
            object_id=ObjectId(9),
        )


def test_a_footer_of_a_later_version_is_refused_by_name() -> None:
    data = encode_footer(CLUSTER, ObjectId(9), position=HEADER_BYTES, root=ROOT, version=VERSION + 1)

    with pytest.raises(FormatTooNew, match="upgrade"):
        decode_footer("key", memoryview(data), size=SIZE, cluster_id=CLUSTER, object_id=ObjectId(9))


def a_block(object_id: int = 9) -> bytes:
    """The first block of an object: two batches of a stream."""
    writer = ObjectWriter(CLUSTER, ObjectId(object_id))
    batches = [(base, 2, 7 + base, crc32c(b"batch"), memoryview(b"batch")) for base in (10, 12)]
    entry = writer.add_block(StreamId(5), batches)
    return b"".join(writer.finish())[entry.position : entry.position + entry.size]


def test_a_block_says_of_itself_what_an_index_says_of_it() -> None:
    writer = ObjectWriter(CLUSTER, ObjectId(9))
    entry = writer.add_block(StreamId(5), [(10, 2, 7, crc32c(b"batch"), memoryview(b"batch"))])
    data = memoryview(b"".join(writer.finish()))[entry.position :]

    layout = block_layout(CLUSTER, ObjectId(9))
    assert decode_block_head("key", data, position=entry.position, layout=layout) == entry
    check_block("key", entry, data[: entry.size])


@given(st.integers(0, 8 * len(a_block()) - 1))
def test_every_flipped_bit_of_a_block_that_was_found_without_an_index_is_noticed(bit: int) -> None:
    data = bytearray(a_block())
    data[bit // 8] ^= 1 << bit % 8

    with pytest.raises(CorruptData):
        check_found(data)


def test_a_block_of_another_object_or_another_version_is_not_served() -> None:
    check_found(bytearray(a_block()))
    with pytest.raises(CorruptData):
        check_found(bytearray(a_block(object_id=8)))
    later = bytearray(a_block())
    later[3] += 1
    with pytest.raises(CorruptData):
        check_found(later)


def check_found(data: bytearray) -> None:
    layout = block_layout(CLUSTER, ObjectId(9))
    entry = decode_block_head("key", memoryview(data), position=HEADER_BYTES, layout=layout)
    check_block("key", entry, memoryview(data))


def test_header_says_whose_object_it_is() -> None:
    header = encode_header(CLUSTER, ObjectId(9))

    assert len(header) == HEADER_BYTES
    assert CLUSTER.encode() in header
