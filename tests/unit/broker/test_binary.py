"""Readers never read past their end, and give back what writers wrote."""

import random
import struct
import uuid
from collections.abc import Callable
from typing import Any

import kio.serial.writers as kio_writers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automq.binary import (
    MalformedBytes,
    Reader,
    crc32c,
    crc32c_joined,
    read_unsigned_varint,
    read_varint,
    write_unsigned_varint,
    write_varint,
)

VALUES: list[tuple[str, Any]] = [
    ("int16", -2),
    ("int32", -(2**31)),
    ("int64", 2**63 - 1),
    ("float64", -1.5),
    ("unique_id", uuid.UUID(int=77)),
    ("unsigned_varint", 2**40),
    ("binary", b"bytes" * 40),
    ("string", "größe"),
]


FIXED = {"int16": ">h", "int32": ">i", "int64": ">q", "float64": ">d"}


def written(values: list[tuple[str, Any]]) -> bytes:
    out = bytearray()
    for name, value in values:
        if name in FIXED:
            out += struct.pack(FIXED[name], value)
        elif name == "unique_id":
            out += value.bytes
        elif name == "unsigned_varint":
            write_unsigned_varint(out, value)
        else:
            data = value.encode() if isinstance(value, str) else value
            write_unsigned_varint(out, len(data))
            out += data
    return bytes(out)


def test_values_round_trip() -> None:
    reader = Reader(written(VALUES))

    assert [(name, getattr(reader, name)()) for name, _ in VALUES] == VALUES
    reader.finish()


@pytest.mark.parametrize(("name", "value"), VALUES)
def test_value_cut_anywhere_is_malformed(name: str, value: object) -> None:
    data = written([(name, value)])
    for cut in range(len(data)):
        read: Callable[[], object] = getattr(Reader(data[:cut]), name)
        with pytest.raises(MalformedBytes):
            read()


def test_reader_keeps_to_its_end() -> None:
    reader = Reader(b"\x01\x80\x02", start=0, end=2)
    assert reader.take(1) == b"\x01"

    with pytest.raises(MalformedBytes, match="does not end at byte 1"):
        reader.unsigned_varint()


def test_bytes_too_many_are_malformed() -> None:
    with pytest.raises(MalformedBytes, match="2 bytes too many at byte 0"):
        Reader(b"ab").finish()


def test_text_that_is_not_utf8_is_malformed() -> None:
    with pytest.raises(MalformedBytes, match="not UTF-8"):
        Reader(b"\x01\xff").string()


def test_count_that_cannot_fit_is_malformed() -> None:
    data = written([("unsigned_varint", 3), ("int32", 0)])

    assert Reader(data).count(item_bytes_min=1) == 3
    with pytest.raises(MalformedBytes, match="3 items cannot fit in 4 bytes"):
        Reader(data).count(item_bytes_min=2)


def test_views_are_not_copies() -> None:
    data = bytearray(b"abc")

    view = Reader(data).take(2)

    data[0] = ord("z")
    assert bytes(view) == b"zb"


@given(st.integers(0, 2**64 - 1))
def test_unsigned_varint_round_trips(value: int) -> None:
    out = bytearray(b"x")
    write_unsigned_varint(out, value)

    assert read_unsigned_varint(out, 1, 10) == (value, len(out))


@given(st.integers(-(2**63), 2**63 - 1))
def test_varint_round_trips(value: int) -> None:
    out = bytearray()
    write_varint(out, value)

    assert read_varint(out, 0) == (value, len(out))


@given(st.integers(0, 2**31 - 1))
def test_unsigned_varint_is_kafkas(value: int) -> None:
    out, expected = bytearray(), bytearray()
    write_unsigned_varint(out, value)
    kio_writers.write_unsigned_varint(Sink(expected), value)  # type: ignore[arg-type]

    assert out == expected


class Sink:
    """A file of which only `write` is used."""

    def __init__(self, data: bytearray) -> None:
        self._data = data

    def write(self, data: bytes) -> None:
        self._data += data


def test_varint_that_never_ends_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than 5 bytes"):
        read_unsigned_varint(b"\xff" * 20, 0)


def test_random_bytes_are_harmless() -> None:
    source = random.Random(5)
    for _ in range(2000):
        reader = Reader(source.randbytes(source.randrange(20)))
        name, _ = source.choice(VALUES)
        try:
            getattr(reader, name)()
        except MalformedBytes:
            pass


@pytest.mark.parametrize(("first", "second"), [(0, 0), (0, 5), (5, 0), (1, 1), (61, 4096), (40, 1_000_003)])
def test_checksum_of_two_parts_is_that_of_both_together(first: int, second: int) -> None:
    source = random.Random(first + second)
    one, other = source.randbytes(first), source.randbytes(second)

    assert crc32c_joined(crc32c(one), crc32c(other), second) == crc32c(one + other)
