"""Writing objects: golden bytes, order, what is copied."""

import tracemalloc

import pytest
from crc32c import crc32c

from automq.ids import ClusterId, ObjectId, Offset, StreamId
from automq.s3stream.objects.format import BLOCK_HEAD_BYTES, ROW_BYTES
from automq.s3stream.objects.writer import JOINED_BELOW_BYTES, Batch, ObjectWriter, writing_bytes
from tests.support import golden
from tests.support.old_objects import OldObjectWriter

CLUSTER = ClusterId("ODgzMTQ5OTI3NjE0NTU2Mg")


def stored(base: int, count: int, timestamp_ms: int, text: bytes) -> Batch:
    return base, count, timestamp_ms, crc32c(text), memoryview(text)


def a_writer() -> ObjectWriter:
    return ObjectWriter(CLUSTER, ObjectId(0x1234))


def write(writer: ObjectWriter | OldObjectWriter) -> bytes:
    writer.add_block(
        StreamId(5),
        [
            stored(100, 3, 1_700_000_000_123, b"first"),
            stored(103, 1, 17, b"second"),
        ],
    )
    writer.add_block(StreamId(5), [stored(104, 2, -1, b"third")])
    writer.add_checkpoint(StreamId(5), Offset(106), [b"state ", b"at 106"], crc=crc32c(b"state at 106"))
    writer.add_block(StreamId(6), [stored(2**40, 1, 9, b"fourth")])
    body = b"".join(writer.finish())
    assert len(body) == writer.size
    return body


def test_object_is_golden() -> None:
    golden.check_bytes("s3stream/object_v2.hex", write(a_writer()))


def test_objects_of_version_1_are_what_the_program_wrote_then() -> None:
    golden.check_bytes("s3stream/object_v1.hex", write(OldObjectWriter(CLUSTER, ObjectId(0x1234))))


def test_large_batches_are_views_of_the_callers_memory() -> None:
    writer = a_writer()
    batch = memoryview(bytearray(JOINED_BELOW_BYTES))
    writer.add_block(StreamId(5), [(0, 1, 0, 1, batch)])

    assert any(part is batch for part in writer.body)


def test_b4_small_batches_are_copied_together_and_take_no_view_each() -> None:
    writer = a_writer()
    batches = [stored(number, 1, 0, b"%4d" % number * 40) for number in range(3000)]
    tracemalloc.start()
    writer.add_block(StreamId(5), batches)
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()

    header, block = writer.body
    assert block[BLOCK_HEAD_BYTES + ROW_BYTES * 3000 :] == b"".join(bytes(view) for *_, view in batches)
    assert taken <= 1.05 * writing_bytes(160 * 3000, 3000)


@pytest.mark.parametrize(("size", "count"), [(100, 4000), (5000, 300), (100_000, 10)])
def test_what_writing_takes_is_known_before(size: int, count: int) -> None:
    batches = [stored(number, 1, 0, bytes(size)) for number in range(count)]
    writer = a_writer()
    tracemalloc.start()
    writer.add_block(StreamId(5), batches)
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()

    assert taken <= writing_bytes(size * count, count) + 2000


def test_streams_out_of_order_are_a_bug() -> None:
    writer = a_writer()
    writer.add_block(StreamId(6), [stored(0, 1, 0, b"x")])
    with pytest.raises(AssertionError):
        writer.add_block(StreamId(5), [stored(0, 1, 0, b"x")])


def test_overlapping_batches_are_a_bug() -> None:
    with pytest.raises(AssertionError):
        a_writer().add_block(StreamId(5), [stored(0, 3, 0, b"x"), stored(2, 1, 0, b"x")])
