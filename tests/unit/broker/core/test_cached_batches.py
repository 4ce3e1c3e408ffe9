"""Batches of the log cache on their way to a reader, in Python and compiled."""

import struct
from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automq import core
from automq.core import cached_batches
from automq.protocol.records import Record, build_batch
from automq.s3stream.cache.log_cache import ARENA_SHIFT, POSITION_MASK, SIZE_BITS, SIZE_MASK
from tests.fuzz.__main__ import outcome_of
from tests.fuzz.records import finds, gathers

KINDS = ["python"] + (["compiled"] if core.native is not None else [])
both = pytest.mark.parametrize("kind", KINDS)


def function(kind: str, name: str) -> Any:
    return getattr(core.native if kind == "compiled" else cached_batches, name)


def place(number: int, position: int, size: int) -> int:
    """As the log cache makes it."""
    return (number << ARENA_SHIFT) + (position << SIZE_BITS) + size


@both
def test_place_has_the_widths_that_the_cache_gives_it(kind: str) -> None:
    arena = memoryview(bytearray(POSITION_MASK + 9))
    arena[POSITION_MASK:] = b"123456789"
    gathered = function(kind, "gather_batches")(
        array("q", [place(1, POSITION_MASK, 9)]), 0, 1, [memoryview(b""), arena], 9
    )
    assert gathered == b"123456789"
    assert function(kind, "measure_batches")(array("q", [place(1023, POSITION_MASK, SIZE_MASK)]), 0, 1, 1, 0) == (
        1,
        SIZE_MASK,
    )


@both
@pytest.mark.parametrize(
    ("bytes_max", "total", "expected"),
    [
        (0, 0, (1, 10)),
        (29, 0, (1, 10)),
        (30, 0, (2, 30)),
        (60, 0, (3, 60)),
        (10**9, 0, (3, 60)),
        (10, 1, (0, 1)),
        (11, 1, (1, 11)),
    ],
)
def test_batches_are_measured_until_one_does_not_fit(
    kind: str, bytes_max: int, total: int, expected: tuple[int, int]
) -> None:
    places = array("q", [place(0, 0, size) for size in (10, 20, 30)])
    assert function(kind, "measure_batches")(places, 0, 3, bytes_max, total) == expected


@both
@pytest.mark.parametrize("borders", [(0, 2), (-1, 1)])
def test_more_batches_than_there_are_is_an_error(kind: str, borders: tuple[int, int]) -> None:
    places = array("q", [place(0, 0, 1)])
    with pytest.raises(ValueError, match="batches"):
        function(kind, "measure_batches")(places, *borders, 100, 0)
    with pytest.raises(ValueError, match="batches"):
        function(kind, "gather_batches")(places, *borders, [memoryview(b"1")], 1)


@both
@pytest.mark.parametrize(
    ("wrong", "total"),
    [(place(1, 0, 1), 1), (place(0, 3, 1), 1), (place(0, 2, 2), 2), (place(0, 0, 1), 2), (place(0, 0, 1), -1)],
)
def test_batch_that_is_not_there_is_an_error(kind: str, wrong: int, total: int) -> None:
    with pytest.raises(ValueError, match=r"batch|arena"):
        function(kind, "gather_batches")(array("q", [wrong]), 0, 1, [memoryview(b"123")], total)


@both
def test_batch_that_holds_a_byte_is_found(kind: str) -> None:
    batches = [build_batch([Record(value=bytes(size), timestamp=7)]) for size in (1, 1000, 10)]
    data = b"".join(batches)
    starts = [0, len(batches[0]), len(batches[0]) + len(batches[1])]
    found = {start: [] for start in starts}
    for position in range(len(data)):
        found[function(kind, "find_batch")(data, position)].append(position)
    assert [len(found[start]) for start in starts] == [len(batch) for batch in batches]
    assert [min(found[start]) for start in starts] == starts


@both
@pytest.mark.parametrize(
    ("data", "position"),
    [
        (b"", 0),
        (bytes(11), 0),
        (bytes(12), 12),
        (bytes(12), -1),
        (bytes(8) + struct.pack(">i", -1), 0),
        (bytes(8) + struct.pack(">i", 1), 0),
        (bytes(8) + struct.pack(">i", 0x7FFF_FFFF) + bytes(50), 3),
    ],
)
def test_byte_of_no_batch_is_an_error(kind: str, data: bytes, position: int) -> None:
    with pytest.raises(ValueError, match="no such"):
        function(kind, "find_batch")(data, position)


@pytest.mark.skipif(core.native is None, reason="there is nothing to compare with")
@given(st.integers(0, 1 << 32))
def test_twins_agree(seed: int) -> None:
    assert core.native is not None
    for gather, find, _ in zip(gathers(seed), finds(seed), range(20), strict=False):
        for name in ("measure_batches", "gather_batches"):
            arguments = gather.measure if name == "measure_batches" else gather.gather
            assert outcome_of(getattr(core.native, name), *arguments) == outcome_of(
                getattr(cached_batches, name), *arguments
            )
        assert outcome_of(core.native.find_batch, *find) == outcome_of(cached_batches.find_batch, *find)
