"""gzip, snappy, lz4 and zstd behind one table, as Kafka's record batches use them.

Decompression has a bound on its output, and memory is taken as output comes: a small input cannot claim much. Snappy is
read raw and in the framing of Java's library (magic, two versions, then blocks with a length each), which is also what
is written. Lz4 is the frame format with independent blocks, the only kind Kafka's Java client reads.
"""

import enum
import mmap
import struct
from collections.abc import Callable, Iterator
from typing import Final

import cramjam

Data = bytes | bytearray | memoryview

KIB: Final = 1024
FIRST_OUTPUT_BYTES: Final = 64 * KIB
MAPPED_OUTPUT_BYTES: Final = 256 * KIB
"""From here on output is memory of its own from the kernel: it comes zeroed without anybody waiting for it, only what
is written takes any, and it goes back at once."""
PIECE_BYTES: Final = 1024 * KIB
SNAPPY_BLOCK_BYTES: Final = 32 * KIB
SNAPPY_RATIO_MAX: Final = 22
"""A copy of 64 bytes takes three: whoever claims more is lying about the size."""

SNAPPY_MAGIC: Final = b"\x82SNAPPY\x00"
SNAPPY_HEADER: Final = SNAPPY_MAGIC + struct.pack(">ii", 1, 1)
_INT32 = struct.Struct(">i")

LZ4_MAGIC: Final = b"\x04\x22\x4d\x18"
_LZ4_FLAGS: Final = 4
_LZ4_INDEPENDENT, _LZ4_BLOCK_CHECKSUM, _LZ4_CONTENT_SIZE, _LZ4_CONTENT_CHECKSUM = 0x20, 0x10, 0x08, 0x04
_UINT32_LITTLE = struct.Struct("<I")

# What the library says when the output buffer is full, and only then.
_OUTPUT_IS_FULL: Final = "failed to write whole buffer"


class Compression(enum.IntEnum):
    """The lowest three bits of a batch's attributes."""

    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4


class CorruptCompression(Exception):
    """The data cannot be decompressed."""

    def __init__(self, kind: Compression, reason: str) -> None:
        super().__init__(f"{kind.name.lower()} data is corrupt: {reason}")
        self.kind = kind


class DecompressedTooLarge(Exception):
    """The data decompresses to more than the caller allows."""

    def __init__(self, kind: Compression, bytes_max: int) -> None:
        super().__init__(f"{kind.name.lower()} data decompresses to more than {bytes_max} bytes")
        self.kind = kind


def compress(kind: Compression, data: Data, level: int | None = None) -> bytes:
    """`data` compressed; without a level each library's or Kafka's usual one."""
    if kind is Compression.GZIP:
        return bytes(cramjam.gzip.compress(data, level=level))
    if kind is Compression.SNAPPY:
        return _compress_snappy(data)
    if kind is Compression.LZ4:
        compressor = cramjam.lz4.Compressor(level=level, content_checksum=False, block_linked=False)
        # The library takes bytes alone; in pieces, nobody else waits for a copy of everything.
        view = memoryview(data)
        for start in range(0, len(view), PIECE_BYTES):
            compressor.compress(bytes(view[start : start + PIECE_BYTES]))
        return bytes(compressor.finish())
    if kind is Compression.ZSTD:
        return bytes(cramjam.zstd.compress(data, level=3 if level is None else level))
    return bytes(data)


def decompress(kind: Compression, data: Data, *, bytes_max: int) -> Data:
    """What `data` was. Raises CorruptCompression, or DecompressedTooLarge beyond `bytes_max` bytes."""
    if kind is Compression.NONE:
        if len(data) > bytes_max:
            raise DecompressedTooLarge(kind, bytes_max)
        return data
    if kind is Compression.SNAPPY:
        return _decompress_snappy(data, bytes_max)
    return _decompress_into_growing(kind, data, bytes_max)


_DECOMPRESS_INTO: Final[dict[Compression, Callable[[Data, memoryview], int]]] = {
    Compression.GZIP: cramjam.gzip.decompress_into,
    Compression.LZ4: cramjam.lz4.decompress_into,
    Compression.ZSTD: cramjam.zstd.decompress_into,
}


def _new_output(size: int) -> memoryview:
    """`size` zeroed bytes to write to."""
    return memoryview(bytearray(size) if size < MAPPED_OUTPUT_BYTES else mmap.mmap(-1, size))


def _decompress_into_growing(kind: Compression, data: Data, bytes_max: int) -> memoryview:
    """These formats do not say reliably how long their output is: try again with more room while it does not fit."""
    room = max(FIRST_OUTPUT_BYTES, 4 * len(data))
    while True:
        room = min(room, bytes_max)
        out = _new_output(room)
        try:
            size = _DECOMPRESS_INTO[kind](data, out)
        except cramjam.DecompressionError as error:
            if str(error) != _OUTPUT_IS_FULL:
                raise CorruptCompression(kind, str(error)) from None
            if room == bytes_max:
                raise DecompressedTooLarge(kind, bytes_max) from None
            room *= 4
            continue
        return out[:size]


def check_lz4_blocks(data: Data) -> None:
    """Whether Kafka's Java client can read this: one frame, whole, of independent blocks. Raises CorruptCompression.

    The frame: magic u32, flags u8, block size u8, content size u64 if flagged, header checksum u8, then blocks of u32
    little-endian length (highest bit: stored as it is) with a checksum u32 if flagged, an end mark of zero, and a
    content checksum u32 if flagged.
    """
    kind = Compression.LZ4
    try:
        flags = data[_LZ4_FLAGS]
        if bytes(data[:_LZ4_FLAGS]) != LZ4_MAGIC or flags >> 6 != 1:
            raise CorruptCompression(kind, "it is no lz4 frame")
        if not flags & _LZ4_INDEPENDENT:
            raise CorruptCompression(kind, "its blocks are linked, which Java clients cannot read")
        position = _LZ4_FLAGS + 3 + (8 if flags & _LZ4_CONTENT_SIZE else 0)
        while True:
            (length,) = _UINT32_LITTLE.unpack_from(data, position)
            position += _UINT32_LITTLE.size
            if not length:
                break
            position += (length & 0x7FFF_FFFF) + (4 if flags & _LZ4_BLOCK_CHECKSUM else 0)
    except (IndexError, struct.error):
        raise CorruptCompression(kind, "the frame is cut off") from None
    if position + (4 if flags & _LZ4_CONTENT_CHECKSUM else 0) != len(data):
        raise CorruptCompression(kind, "the frame does not end with the batch")


def _compress_snappy(data: Data) -> bytes:
    out = bytearray(SNAPPY_HEADER)
    view = memoryview(data)
    for start in range(0, len(view), SNAPPY_BLOCK_BYTES):
        block = bytes(cramjam.snappy.compress_raw(view[start : start + SNAPPY_BLOCK_BYTES]))
        out += _INT32.pack(len(block))
        out += block
    return bytes(out)


def _decompress_snappy(data: Data, bytes_max: int) -> memoryview:
    view = memoryview(data)
    is_framed = bytes(view[: len(SNAPPY_MAGIC)]) == SNAPPY_MAGIC
    blocks = list(_snappy_blocks(view)) if is_framed else [view]
    sizes, total = [], 0
    for block in blocks:
        size = _snappy_size(block)
        total += size
        if total > bytes_max:
            raise DecompressedTooLarge(Compression.SNAPPY, bytes_max)
        sizes.append(size)
    out = _new_output(total)
    position = 0
    for block, size in zip(blocks, sizes, strict=True):
        try:
            # An empty view is no buffer to write to.
            cramjam.snappy.decompress_raw_into(block, out[position : position + size] if size else bytearray())
        except cramjam.DecompressionError as error:
            raise CorruptCompression(Compression.SNAPPY, str(error)) from None
        position += size
    return out


def _snappy_blocks(view: memoryview) -> Iterator[memoryview]:
    position = len(SNAPPY_HEADER)
    while position < len(view):
        if len(view) - position < _INT32.size:
            raise CorruptCompression(Compression.SNAPPY, "a block's length is cut off")
        (length,) = _INT32.unpack_from(view, position)
        position += _INT32.size
        if length < 0 or length > len(view) - position:
            raise CorruptCompression(Compression.SNAPPY, f"a block of {length} bytes, {len(view) - position} are left")
        yield view[position : position + length]
        position += length


def _snappy_size(block: memoryview) -> int:
    """What a block says it decompresses to."""
    try:
        size: int = cramjam.snappy.decompress_raw_len(block)
    except cramjam.DecompressionError as error:
        raise CorruptCompression(Compression.SNAPPY, str(error)) from None
    if size > SNAPPY_RATIO_MAX * len(block):
        raise CorruptCompression(Compression.SNAPPY, f"{len(block)} bytes cannot hold {size}")
    return size
