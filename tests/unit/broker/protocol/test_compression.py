"""Every codec round-trips, keeps to its bound, and names what is corrupt."""

import random
import tracemalloc

import cramjam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automq.protocol.compression import (
    SNAPPY_MAGIC,
    Compression,
    CorruptCompression,
    DecompressedTooLarge,
    compress,
    decompress,
)

REAL = [kind for kind in Compression if kind is not Compression.NONE]
MIB = 1024 * 1024


@pytest.mark.parametrize("kind", Compression)
@given(data=st.binary(max_size=300), repeat=st.integers(1, 1000))
def test_data_round_trips(kind: Compression, data: bytes, repeat: int) -> None:
    content = data * repeat

    assert bytes(decompress(kind, memoryview(compress(kind, content)), bytes_max=MIB)) == content


@pytest.mark.parametrize("kind", Compression)
def test_output_is_bounded(kind: Compression) -> None:
    compressed = compress(kind, bytes(100_000))

    assert len(decompress(kind, compressed, bytes_max=100_000)) == 100_000
    with pytest.raises(DecompressedTooLarge, match="more than 99999 bytes"):
        decompress(kind, compressed, bytes_max=99_999)


@pytest.mark.parametrize("kind", [Compression.GZIP, Compression.LZ4, Compression.ZSTD])
def test_bomb_takes_no_more_memory_than_allowed(kind: Compression) -> None:
    bomb = compress(kind, bytes(64 * MIB))
    tracemalloc.start()
    try:
        with pytest.raises(DecompressedTooLarge):
            decompress(kind, bomb, bytes_max=MIB)
        assert tracemalloc.get_traced_memory()[1] < 3 * MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", REAL)
def test_garbage_is_corrupt(kind: Compression) -> None:
    source = random.Random(kind)
    for size in (1, 2, 10, 100, 1000):
        with pytest.raises((CorruptCompression, DecompressedTooLarge)):
            decompress(kind, b"\xff" + source.randbytes(size), bytes_max=MIB)


@pytest.mark.parametrize("kind", REAL)
def test_data_cut_off_is_corrupt(kind: Compression) -> None:
    compressed = compress(kind, random.Random(1).randbytes(5000))
    for cut in (1, 2, 100, 1000):
        with pytest.raises(CorruptCompression):
            decompress(kind, compressed[:-cut], bytes_max=MIB)


def test_raw_snappy_is_read() -> None:
    raw = bytes(cramjam.snappy.compress_raw(b"hello " * 100))

    assert decompress(Compression.SNAPPY, raw, bytes_max=MIB) == b"hello " * 100


def test_snappy_is_written_as_java_does() -> None:
    data = random.Random(2).randbytes(70_000)

    compressed = compress(Compression.SNAPPY, data)

    assert compressed[:16] == SNAPPY_MAGIC + b"\x00\x00\x00\x01\x00\x00\x00\x01"
    first = int.from_bytes(compressed[16:20], "big")
    assert bytes(cramjam.snappy.decompress_raw(compressed[20 : 20 + first])) == data[: 32 * 1024]


def test_snappy_that_claims_too_much_is_corrupt() -> None:
    with pytest.raises(CorruptCompression, match="cannot hold"):
        decompress(Compression.SNAPPY, b"\x80\x80\x80\x04abc", bytes_max=100 * MIB)


def test_lz4_blocks_are_independent() -> None:
    """The Java client of Kafka reads no others."""
    flags = compress(Compression.LZ4, bytes(200_000))[4]

    assert flags & 0x20
