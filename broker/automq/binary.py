"""Bytes in and out: fixed integers, variable-length integers, CRC-32C, and a Reader that uses them.

Everything is big-endian. Unsigned variable-length integers have seven bits a byte, least significant first; signed ones
are zigzag-encoded first (0, -1, 1, -2 become 0, 1, 2, 3). That is also how Kafka writes them.
A Reader never reads past its end and never allocates by a length it has not checked against what is left.
"""

import functools
import struct
import uuid
from typing import Final

import crc32c as crc32c_library

UNSIGNED_VARINT_BYTES_MAX: Final = 5
VARLONG_BYTES_MAX: Final = 10

_INT16 = struct.Struct(">h")
_INT32 = struct.Struct(">i")
_INT64 = struct.Struct(">q")
_FLOAT64 = struct.Struct(">d")

# Mode 0: the call keeps the interpreter's lock. Giving it up for microseconds costs more than it frees.
_KEEP_LOCK: Final = 0
# Castagnoli's, reflected.
_POLYNOMIAL: Final = 0x82F63B78


class MalformedBytes(Exception):
    """The bytes end too early, or say something that cannot be."""

    def __init__(self, message: str, *, position: int) -> None:
        super().__init__(f"{message} at byte {position}")
        self.position = position


def crc32c(data: bytes | bytearray | memoryview, value: int = 0) -> int:
    """CRC-32C of `data`, or of what gave `value` followed by `data`. Does not copy."""
    checksum: int = crc32c_library.crc32c(data, value, _KEEP_LOCK)
    return checksum


def crc32c_joined(first: int, second: int, second_bytes: int) -> int:
    """CRC-32C of two byte strings one after the other, from that of each and the length of the second.

    What a zero bit behind a message makes of its CRC is a linear map over GF(2): many zero bits are a power of it.
    """
    number = 0
    while second_bytes:
        if second_bytes & 1:
            first = _times(_zero_bytes(number), first)
        second_bytes >>= 1
        number += 1
    return first ^ second


@functools.cache
def _zero_bytes(number: int) -> tuple[int, ...]:
    """The map that appends 2 ** `number` zero bytes, as what becomes of each bit."""
    if number:
        half = _zero_bytes(number - 1)
        return tuple(_times(half, bit) for bit in half)
    byte = (_POLYNOMIAL, *(1 << bit for bit in range(31)))
    for _ in range(3):
        byte = tuple(_times(byte, bit) for bit in byte)
    return byte


def _times(columns: tuple[int, ...], vector: int) -> int:
    total = 0
    for column in columns:
        if vector & 1:
            total ^= column
        vector >>= 1
    return total


def read_unsigned_varint(
    buffer: bytes | bytearray | memoryview, offset: int, bytes_max: int = UNSIGNED_VARINT_BYTES_MAX
) -> tuple[int, int]:
    """The integer at `offset` and the offset behind it. Raises IndexError at the end, ValueError if it does not end."""
    byte = buffer[offset]
    if byte < 0x80:
        return byte, offset + 1
    value = byte & 0x7F
    shift = 7
    end = offset + bytes_max
    offset += 1
    while True:
        byte = buffer[offset]
        offset += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, offset
        if offset >= end:
            raise ValueError(f"a variable-length integer is longer than {bytes_max} bytes")
        shift += 7


def read_varint(
    buffer: bytes | bytearray | memoryview, offset: int, bytes_max: int = VARLONG_BYTES_MAX
) -> tuple[int, int]:
    """The signed integer at `offset` and the offset behind it; fails as `read_unsigned_varint` does."""
    value, offset = read_unsigned_varint(buffer, offset, bytes_max)
    return (value >> 1) ^ -(value & 1), offset


def write_unsigned_varint(out: bytearray, value: int) -> None:
    """Append `value`, which is not negative."""
    assert value >= 0
    while value > 0x7F:
        out.append((value & 0x7F) | 0x80)
        value >>= 7
    out.append(value)


def write_varint(out: bytearray, value: int) -> None:
    """Append a signed integer of at most 64 bits."""
    write_unsigned_varint(out, (value << 1) ^ (value >> 63))


class Reader:
    """Reads one buffer from front to back; whatever does not fit raises MalformedBytes."""

    __slots__ = ("_buffer", "_end", "position")

    def __init__(self, buffer: bytes | bytearray | memoryview, *, start: int = 0, end: int | None = None) -> None:
        self._buffer = memoryview(buffer)
        self._end = len(self._buffer) if end is None else end
        assert 0 <= start <= self._end <= len(self._buffer)
        self.position = start

    @property
    def remaining(self) -> int:
        """Bytes not read yet."""
        return self._end - self.position

    def take(self, size: int) -> memoryview:
        """A view of the next `size` bytes; nothing is copied."""
        start = self.position
        if size < 0 or size > self._end - start:
            raise MalformedBytes(f"{size} bytes wanted, {self._end - start} left", position=start)
        self.position = start + size
        return self._buffer[start : self.position]

    def int16(self) -> int:
        value: int = _INT16.unpack(self.take(2))[0]
        return value

    def int32(self) -> int:
        value: int = _INT32.unpack(self.take(4))[0]
        return value

    def int64(self) -> int:
        value: int = _INT64.unpack(self.take(8))[0]
        return value

    def float64(self) -> float:
        value: float = _FLOAT64.unpack(self.take(8))[0]
        return value

    def unique_id(self) -> uuid.UUID:
        return uuid.UUID(bytes=bytes(self.take(16)))

    def unsigned_varint(self) -> int:
        start = self.position
        try:
            value, self.position = read_unsigned_varint(self._buffer[: self._end], start, VARLONG_BYTES_MAX)
        except IndexError:
            raise MalformedBytes("a variable-length integer does not end", position=start) from None
        except ValueError as error:
            raise MalformedBytes(str(error), position=start) from None
        return value

    def binary(self) -> bytes:
        """An unsigned varint length and as many bytes."""
        return bytes(self.take(self.unsigned_varint()))

    def string(self) -> str:
        """An unsigned varint length and as many bytes of UTF-8."""
        start = self.position
        try:
            return str(self.take(self.unsigned_varint()), "utf-8")
        except UnicodeDecodeError as error:
            raise MalformedBytes(f"text is not UTF-8: {error.reason}", position=start) from None

    def count(self, *, item_bytes_min: int) -> int:
        """The length of a list (an unsigned varint), checked against what is left before anything is allocated."""
        start = self.position
        count = self.unsigned_varint()
        if count * item_bytes_min > self.remaining:
            raise MalformedBytes(f"a list of {count} items cannot fit in {self.remaining} bytes", position=start)
        return count

    def finish(self) -> None:
        """Everything has been read."""
        if self.remaining:
            raise MalformedBytes(f"{self.remaining} bytes too many", position=self.position)
