"""Packed ranges come back as they went in, one by one or all at once, and take a few bytes each."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from automq.ids import Offset, StreamId
from automq.metadata import packed_ranges
from automq.metadata.packed_ranges import StreamRange, check, count_of, find, first_stream, pack, unpack

OFFSETS_MAX = 1 << 62


@st.composite
def ranges(draw: st.DrawFn) -> list[StreamRange]:
    widest = draw(st.sampled_from((0, 1, 255, 256, 65_536, 1 << 32, (1 << 62) - 1)))
    numbers = st.integers(0, widest)
    return [
        StreamRange(
            StreamId(stream),
            start := Offset(draw(numbers)),
            Offset(start + 1 + draw(numbers)),
            draw(numbers),
            draw(st.integers(-1, widest)),
        )
        for stream in draw(st.lists(st.integers(1, widest + 1), unique=True, max_size=30))
    ]


@given(items=ranges(), absent=st.integers(0, 1 << 63))
def test_ranges_come_back_whole_and_one_by_one(items: list[StreamRange], absent: int) -> None:
    packed = pack(items)

    assert list(unpack(packed)) == sorted(items, key=lambda item: item.stream)
    assert count_of(packed) == len(items)
    assert [find(packed, item.stream) for item in items] == items
    if absent not in {item.stream for item in items}:
        assert find(packed, StreamId(absent)) is None
    assert check(packed) == packed


@st.composite
def placed_ranges(draw: st.DrawFn) -> list[StreamRange]:
    """One behind the other, with a hole now and then where the commit check kept one back."""
    widest = draw(st.sampled_from((1, 300, 70_000, 1 << 33)))
    position = draw(st.sampled_from((48, 5_000_000_000)))
    items: list[StreamRange] = []
    for stream in draw(st.lists(st.integers(1, 500), unique=True, min_size=1, max_size=120).map(sorted)):
        size = draw(st.integers(0, widest))
        items.append(StreamRange(StreamId(stream), Offset(stream), Offset(stream + 1), size, 7, position))
        position += size + draw(st.sampled_from((0, 0, 0, 0, 1, 999)))
    return items


@given(items=placed_ranges())
def test_places_come_back_whole_and_one_by_one(items: list[StreamRange]) -> None:
    packed = pack(items)

    assert list(unpack(packed)) == items
    assert [find(packed, item.stream, placed=True) for item in items] == items
    assert find(packed, items[0].stream) == structs.replace(items[0], position=0)
    assert check(packed) == packed
    for wrong in (packed[:-1], packed + b"\0"):
        with pytest.raises(ValueError, match="packed ranges"):
            check(wrong)


@given(items=placed_ranges(), unknown=st.integers(0, 119))
def test_one_place_that_is_not_known_makes_all_unknown(items: list[StreamRange], unknown: int) -> None:
    items[unknown % len(items)] = structs.replace(items[unknown % len(items)], position=0)

    assert list(unpack(pack(items))) == [structs.replace(item, position=0) for item in items]


def test_places_take_no_room_where_ranges_lie_one_behind_the_other() -> None:
    sizes = [1000 + n % 99 for n in range(10_000)]
    positions = itertools.accumulate(sizes, initial=48)
    items = [
        StreamRange(StreamId(n), Offset(n), Offset(n + 1), size, 0, position)
        for n, (size, position) in enumerate(zip(sizes, positions, strict=False))
    ]

    without = pack([structs.replace(item, position=0) for item in items])
    assert len(pack(items)) - len(without) < 0.2 * len(items)


@given(items=ranges().filter(bool))
def test_lowest_stream_is_known_without_the_others(items: list[StreamRange]) -> None:
    assert first_stream(pack(items)) == min(item.stream for item in items)


def test_no_ranges() -> None:
    assert list(unpack(packed_ranges.NONE)) == []
    assert find(packed_ranges.NONE, StreamId(0)) is None


def test_a_trickling_range_takes_a_dozen_bytes() -> None:
    items = [
        StreamRange(
            StreamId(n), Offset(n * 777 % 604_800), Offset(n * 777 % 604_800 + 10 + n % 3), 1000 + n % 99, n % 9999
        )
        for n in range(1, 10_001)
    ]

    assert len(pack(items)) / len(items) <= 12


@given(items=ranges(), cut=st.integers(0, 200), flip=st.integers(0, 62))
def test_what_is_no_packed_value_is_refused(items: list[StreamRange], cut: int, flip: int) -> None:
    packed = pack(items)
    shorter = packed[: max(0, len(packed) - 1 - cut)]
    with pytest.raises(ValueError, match="packed ranges"):
        check(shorter)
    with pytest.raises(ValueError, match="packed ranges"):
        check(bytes([packed[0] + 1]) + packed[1:])
    with pytest.raises(ValueError, match="packed ranges"):
        check(packed + b"\0")


def test_two_ranges_of_one_stream_are_a_bug() -> None:
    one = StreamRange(StreamId(1), Offset(0), Offset(1), 1, 0)
    with pytest.raises(AssertionError):
        pack([one, StreamRange(StreamId(1), Offset(1), Offset(2), 1, 0)])
    with pytest.raises(AssertionError):
        pack([StreamRange(StreamId(1), Offset(1), Offset(1), 1, 0)])
