"""Pure: what a store verifies a body with, so that one that was cut or damaged on its way is not stored."""

import base64
import enum
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import crc32c

# Below this, copying a buffer into its neighbours' is cheaper than a system call for it.
DIRECT_BYTES_MIN: Final = 64 << 10
# What is written at a time: an interpreter's lock is taken once each.
CHUNK_BYTES: Final = 1 << 20


class Checksum(enum.StrEnum):
    """How bodies are checked."""

    CRC32C = "crc32c"
    """`x-amz-checksum-crc32c`: a thirtieth of a second of CPU for a gigabyte."""
    MD5 = "md5"
    """`Content-MD5`, for stores that know nothing else or want it: a second and a half for a gigabyte."""


# The header, and botocore's name of it.
HEADERS: Final[Mapping[Checksum, str]] = {Checksum.CRC32C: "x-amz-checksum-crc32c", Checksum.MD5: "Content-MD5"}
ARGUMENTS: Final[Mapping[Checksum, str]] = {Checksum.CRC32C: "ChecksumCRC32C", Checksum.MD5: "ContentMD5"}


def checksum_of(kind: Checksum, body: Sequence[memoryview | bytes]) -> str:
    """The header's value for the concatenation of `body`."""
    if kind is Checksum.CRC32C:
        value = 0
        for buffer in body:
            value = crc32c.crc32c(buffer, value)
        return base64.b64encode(value.to_bytes(4, "big")).decode()
    digest = hashlib.md5(usedforsecurity=False)
    for buffer in body:
        digest.update(buffer)
    return base64.b64encode(digest.digest()).decode()


def wrong_checksum_of(kind: Checksum, body: bytes) -> str:
    """A well-formed value that is that of another body."""
    return checksum_of(kind, [body, b"?"])


def parts_of(body: Sequence[memoryview], part_bytes: int) -> list[list[memoryview]]:
    """`body` cut into parts of `part_bytes`, the last one shorter; nothing is copied."""
    parts: list[list[memoryview]] = [[]]
    room = part_bytes
    for buffer in body:
        start = 0
        while start < len(buffer):
            if not room:
                parts.append([])
                room = part_bytes
            piece = buffer[start : start + room]
            parts[-1].append(piece)
            start += len(piece)
            room -= len(piece)
    return parts


def chunks_of(body: Sequence[memoryview]) -> Iterator[memoryview | bytes]:
    """`body` as it is best written: small buffers together, large ones as they are, none larger than `CHUNK_BYTES`."""
    small: list[memoryview] = []
    small_bytes = 0
    for buffer in body:
        if len(buffer) >= DIRECT_BYTES_MIN:
            if small_bytes:
                yield b"".join(small)
                small, small_bytes = [], 0
            for start in range(0, len(buffer), CHUNK_BYTES):
                yield buffer[start : start + CHUNK_BYTES]
            continue
        small.append(buffer)
        small_bytes += len(buffer)
        if small_bytes >= DIRECT_BYTES_MIN:
            yield b"".join(small)
            small, small_bytes = [], 0
    if small_bytes:
        yield b"".join(small)
