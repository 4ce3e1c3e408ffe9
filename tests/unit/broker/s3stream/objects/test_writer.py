"""Writing objects: golden bytes, order, nothing copied."""

import pytest
from crc32c import crc32c

from automq.ids import ClusterId, ObjectId, Offset, StreamId
from automq.s3stream.objects.writer import Batch, ObjectWriter
from tests.support import golden

CLUSTER = ClusterId("ODgzMTQ5OTI3NjE0NTU2Mg")


def stored(base: int, count: int, timestamp_ms: int, text: bytes) -> Batch:
    return base, count, timestamp_ms, crc32c(text), memoryview(text)


def a_writer() -> ObjectWriter:
    return ObjectWriter(CLUSTER, ObjectId(0x1234))


def test_object_is_golden() -> None:
    writer = a_writer()
    writer.add_block(
        StreamId(5),
        [
            stored(100, 3, 1_700_000_000_123, b"first"),
            stored(103, 1, 17, b"second"),
        ],
    )
    writer.add_block(StreamId(5), [stored(104, 2, -1, b"third")])
    writer.add_checkpoint(StreamId(5), Offset(106), b"state at 106")
    writer.add_block(StreamId(6), [stored(2**40, 1, 9, b"fourth")])
    body = b"".join(writer.finish())

    assert len(body) == writer.size
    golden.check_bytes("s3stream/object_v1.hex", body)


def test_batches_are_views_of_the_callers_memory() -> None:
    writer = a_writer()
    batch = memoryview(bytearray(b"batch"))
    writer.add_block(StreamId(5), [(0, 1, 0, 1, batch)])

    assert batch in writer.body


def test_streams_out_of_order_are_a_bug() -> None:
    writer = a_writer()
    writer.add_block(StreamId(6), [stored(0, 1, 0, b"x")])
    writer.add_block(StreamId(5), [stored(0, 1, 0, b"x")])

    with pytest.raises(AssertionError):
        writer.finish()


def test_overlapping_batches_are_a_bug() -> None:
    with pytest.raises(AssertionError):
        a_writer().add_block(StreamId(5), [stored(0, 3, 0, b"x"), stored(2, 1, 0, b"x")])
