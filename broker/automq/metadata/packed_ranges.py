"""The ranges that one committed object holds, packed into one value: a few bytes for each, and no object.

An image keeps a range for every (stream, object), for as long as both live: as Python objects they take 170 bytes each
and fill a pod within days. So an object's ranges are five columns of numbers, each as narrow as this object lets it be;
one range is found by bisection in the first.

    packed value    version (1 byte: 2), number of ranges (4), then the head of each column, then the columns
    head            base (8, signed), bytes a number takes (1: 0, 1, 2, 4 or 8)
    column          for each range its number less the base; nothing where all are equal (0 bytes a number)
    columns         stream, start, offsets (end - start), size, max timestamp, shift, and then the sums

A range's position in the object is the sum of the sizes before it, and its shift. Ranges lie in an object in the order
of their streams, one behind the other, so that all have the same shift, which takes no room, unless the commit check
kept one back. The column of the sums has a number for each `SUMMED_RANGES` ranges, which spares adding up: the sizes of
all ranges up to there.

Version 1 has neither shifts nor sums: nobody knows where the ranges lie. It is written where a position is not known.

All numbers are little-endian. Invariants: streams ascend strictly, so an object has at most one range of a stream; no
range is empty.
"""

import operator
import struct
from bisect import bisect_left
from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import accumulate, islice
from operator import attrgetter
from typing import Final, NewType

import msgspec

from automq.ids import Offset, StreamId
from automq.steps import at_once

PackedRanges = NewType("PackedRanges", bytes)

VERSION: Final = 2
WITHOUT_POSITIONS: Final = 1
SUMMED_RANGES: Final = 32
_COLUMNS: Final = {WITHOUT_POSITIONS: 5, VERSION: 7}
# About how long a thousand ranges take.
SORT_US: Final = 100
COLUMN_US: Final = 100
_HEADS: Final = {version: struct.Struct("<BI" + "qB" * columns) for version, columns in _COLUMNS.items()}
_CODES: Final = {1: "B", 2: "H", 4: "I", 8: "Q"}


class StreamRange(msgspec.Struct, frozen=True, gc=False):
    """Offsets [start, end) of one stream that an object holds, in `size` bytes of data blocks."""

    stream: StreamId
    start: Offset
    end: Offset
    size: int
    max_timestamp_ms: int
    position: int = 0
    """Where in the object these bytes begin; 0 when it is not known."""


def pack(ranges: Iterable[StreamRange]) -> PackedRanges:
    """In any order."""
    return at_once(pack_in_turns(ranges))


def pack_in_turns(ranges: Iterable[StreamRange]) -> Generator[int, None, PackedRanges]:
    """As `pack`: a column a turn, for ranges by the ten thousand."""
    ordered = sorted(ranges, key=attrgetter("stream"))
    yield SORT_US * len(ordered) // 1000
    heads: list[int] = []
    packed: list[bytes] = []
    for column in (
        (item.stream for item in ordered),
        (item.start for item in ordered),
        (item.end - item.start for item in ordered),
        (item.size for item in ordered),
        (item.max_timestamp_ms for item in ordered),
    ):
        numbers = list(column)
        if not packed:
            assert all(map(operator.lt, numbers, islice(numbers, 1, None)))
        packed.append(_pack_column(numbers, heads))
        yield COLUMN_US * len(ordered) // 1000
    assert all(item.start < item.end for item in ordered)
    positions = [item.position for item in ordered]
    if not all(positions):
        positions = []
    yield COLUMN_US * len(ordered) // 1000
    return _joined(len(ordered), heads, packed + _pack_positions(positions, [item.size for item in ordered], heads))


def pack_columns(
    streams: Sequence[int],
    starts: Sequence[int],
    counts: Sequence[int],
    sizes: Sequence[int],
    timestamps: Sequence[int],
    *,
    positions: Sequence[int] = (),
) -> PackedRanges:
    """As `pack`, of what is apart and in order already; without `positions` nobody knows them."""
    assert all(before < after for before, after in zip(streams, streams[1:], strict=False))
    assert all(count > 0 for count in counts)
    heads: list[int] = []
    packed = [_pack_column(numbers, heads) for numbers in (streams, starts, counts, sizes, timestamps)]
    return _joined(len(streams), heads, packed + _pack_positions(positions, sizes, heads))


def _pack_column(numbers: Sequence[int], heads: list[int]) -> bytes:
    """The column; its head is added to `heads`."""
    base = min(numbers, default=0)
    width = width_of(max(numbers, default=0) - base)
    heads += (base, width)
    return pack_numbers(numbers, base, width)


def _pack_positions(positions: Sequence[int], sizes: Sequence[int], heads: list[int]) -> list[bytes]:
    """The columns of shifts and sums; none without `positions`."""
    if not positions:
        return []
    before = list(accumulate(sizes, initial=0))
    shifts = list(map(operator.sub, positions, before))
    return [_pack_column(numbers, heads) for numbers in (shifts, before[SUMMED_RANGES : len(sizes) : SUMMED_RANGES])]


def _joined(count: int, heads: Sequence[int], columns: Sequence[bytes]) -> PackedRanges:
    version = VERSION if len(columns) == _COLUMNS[VERSION] else WITHOUT_POSITIONS
    return PackedRanges(_HEADS[version].pack(version, count, *heads) + b"".join(columns))


def width_of(number: int) -> int:
    """Bytes that a number of a column takes; the highest of the column decides."""
    return 0 if not number else 1 if number < 1 << 8 else 2 if number < 1 << 16 else 4 if number < 1 << 32 else 8


def pack_numbers(numbers: Sequence[int], base: int, width: int) -> bytes:
    """One column: each number less `base`, in `width` bytes."""
    if not width:
        return b""
    less = [number - base for number in numbers] if base else numbers
    return struct.pack(f"<{len(numbers)}{_CODES[width]}", *less)


def unpack_numbers(packed: bytes, offset: int, count: int, base: int, width: int) -> Sequence[int]:
    """The inverse of `pack_numbers`."""
    if not width:
        return (base,) * count
    numbers = struct.unpack_from(f"<{count}{_CODES[width]}", packed, offset)
    return [number + base for number in numbers] if base else numbers


NONE: Final = pack(())
"""The ranges of an object that holds none."""


def count_of(packed: PackedRanges) -> int:
    """How many ranges."""
    return int.from_bytes(packed[1:5], "little")


def first_stream(packed: PackedRanges) -> StreamId:
    """The lowest stream, without unpacking any: the base of the first column. Of values that hold a range."""
    assert count_of(packed)
    return StreamId(_heads(packed)[0])


def unpack_columns(packed: PackedRanges) -> Sequence[Sequence[int]]:
    """Streams, starts, counts, sizes and timestamps, as `pack_columns` takes them, and positions, where known."""
    count, heads = count_of(packed), _heads(packed)
    columns: list[Sequence[int]] = []
    offset = _HEADS[packed[0]].size
    for base, width in list(zip(heads[::2], heads[1::2], strict=True))[:6]:
        columns.append(unpack_numbers(packed, offset, count, base, width))
        offset += count * width
    if packed[0] == WITHOUT_POSITIONS:
        return [*columns, (0,) * count]
    *columns, shifts = columns
    before = accumulate(columns[3], initial=0)
    return [*columns, [shift + size for shift, size in zip(shifts, before, strict=False)]]


def unpack(packed: PackedRanges) -> Iterator[StreamRange]:
    """All of them, by stream."""
    for stream, start, count, size, timestamp, position in zip(*unpack_columns(packed), strict=True):
        yield StreamRange(StreamId(stream), Offset(start), Offset(start + count), size, timestamp, position)


def find(packed: PackedRanges, stream: StreamId, *, placed: bool = False) -> StreamRange | None:
    """The range of that stream, without unpacking the others; with its position only if `placed`, which costs more."""
    count, heads = count_of(packed), _heads(packed)
    base, width = heads[0], heads[1]
    wanted = stream - base
    if wanted < 0 or not count:
        return None
    at = _HEADS[packed[0]].size

    def less(place: int) -> int:
        return int.from_bytes(packed[at + place * width : at + place * width + width], "little")

    # Ids ascend from the base, so the place is at most what is wanted; where an object has all of them it is just that.
    place = min(wanted, count - 1)
    if less(place) != wanted:
        place = bisect_left(range(place), wanted, key=less)
        if less(place) != wanted:
            return None
    found: list[int] = []
    offset = at + count * width
    for base, width in ((heads[2], heads[3]), (heads[4], heads[5]), (heads[6], heads[7]), (heads[8], heads[9])):
        first = offset + place * width
        found.append(base + int.from_bytes(packed[first : first + width], "little"))
        offset += count * width
    start, offsets, size, timestamp = found
    position = _position(packed, heads, count, place) if placed and packed[0] == VERSION else 0
    return StreamRange(stream, Offset(start), Offset(start + offsets), size, timestamp, position)


def _position(packed: PackedRanges, heads: Sequence[int], count: int, place: int) -> int:
    """Where range number `place` lies: its shift, the sum that comes before it, and the few sizes after that."""
    offset = _HEADS[VERSION].size
    offsets = [offset]
    for width in heads[1:12:2]:
        offset += count * width
        offsets.append(offset)
    position = _number(packed, offsets[5], place, heads[10], heads[11])
    summed = place // SUMMED_RANGES
    if summed:
        position += _number(packed, offsets[6], summed - 1, heads[12], heads[13])
    first, width = summed * SUMMED_RANGES, heads[7]
    return position + sum(unpack_numbers(packed, offsets[3] + first * width, place - first, heads[6], width))


def _number(packed: bytes, offset: int, place: int, base: int, width: int) -> int:
    first = offset + place * width
    return base + int.from_bytes(packed[first : first + width], "little")


def _heads(packed: PackedRanges) -> Sequence[int]:
    """Base and width of each column, in turn."""
    return _HEADS[packed[0]].unpack_from(packed)[2:]


def check(packed: bytes) -> PackedRanges:
    """What was read from a log or a snapshot, if it is such a value. Raises ValueError."""
    head = _HEADS.get(packed[0]) if packed else None
    if head is None or len(packed) < head.size:
        raise ValueError(f"no packed ranges of a version up to {VERSION}")
    version, count, *heads = head.unpack_from(packed)
    widths = heads[1::2]
    numbers = [count] * 6
    if version == VERSION:
        numbers.append(max(0, count - 1) // SUMMED_RANGES)
    size = head.size + sum(many * width for many, width in zip(numbers, widths, strict=False))
    if any(width not in (0, *_CODES) for width in widths) or len(packed) != size:
        raise ValueError("packed ranges of another length than their heads say")
    return PackedRanges(packed)
