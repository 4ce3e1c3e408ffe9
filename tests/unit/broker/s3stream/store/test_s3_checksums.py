"""What bodies are checked with, and how they are cut."""

import base64
import hashlib
import random

import crc32c
import pytest

from automq.s3stream.store.s3_checksums import (
    CHUNK_BYTES,
    Checksum,
    checksum_of,
    chunks_of,
    parts_of,
    wrong_checksum_of,
)


def test_checksum_is_that_of_the_concatenation() -> None:
    assert checksum_of(Checksum.CRC32C, [b"1234", b"56789"]) == base64.b64encode(b"\xe3\x06\x92\x83").decode()
    assert checksum_of(Checksum.CRC32C, []) == "AAAAAA=="
    assert checksum_of(Checksum.MD5, [b"ab", b"c"]) == base64.b64encode(hashlib.md5(b"abc").digest()).decode()


@pytest.mark.parametrize("kind", Checksum)
@pytest.mark.parametrize("body", [b"", b"x", bytes(100)])
def test_wrong_checksum_is_wrong(kind: Checksum, body: bytes) -> None:
    assert wrong_checksum_of(kind, body) != checksum_of(kind, [body])
    assert len(wrong_checksum_of(kind, body)) == len(checksum_of(kind, [body]))


@pytest.mark.parametrize("seed", range(20))
def test_cut_bodies_are_whole(seed: int) -> None:
    dice = random.Random(seed)
    body = [memoryview(dice.randbytes(dice.choice((0, 1, 170, 70_000, 3_000_000)))) for _ in range(dice.randrange(40))]
    whole = b"".join(body)
    part_bytes = dice.choice((100, 65_536, 5_000_000)) if len(whole) < 1_000_000 else 5_000_000

    parts = parts_of(body, part_bytes)

    sizes = [sum(len(piece) for piece in part) for part in parts]
    assert all(size == part_bytes for size in sizes[:-1])
    assert b"".join(piece for part in parts for piece in part) == whole
    chunks = list(chunks_of(body))
    assert b"".join(chunks) == whole
    assert all(0 < len(chunk) <= CHUNK_BYTES for chunk in chunks)
    assert crc32c.crc32c(whole).to_bytes(4, "big") == base64.b64decode(checksum_of(Checksum.CRC32C, body))


def test_many_small_buffers_are_written_together() -> None:
    body = [memoryview(bytes(170))] * 10_000

    assert len(list(chunks_of(body))) < 30
