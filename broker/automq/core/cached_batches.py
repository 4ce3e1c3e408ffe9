"""Batches in the log cache on their way to a reader: twins of the compiled functions.

Where a batch lies is one integer, its place: the number of its arena within the block, its position there and its size
(`s3stream.cache.log_cache`, which tests hold this against). Small batches are copied into one buffer: a buffer of each
costs more than its bytes.
"""

import struct
from array import array
from typing import Final

from automq.core.record_walk import Data

_length = struct.Struct(">i").unpack_from
_LENGTH_START: Final = 8
_LENGTH_END: Final = 12
_SIZE_BITS: Final = 27
_POSITION_BITS: Final = 26
_SIZE_MASK: Final = (1 << _SIZE_BITS) - 1
_POSITION_MASK: Final = (1 << _POSITION_BITS) - 1


def measure_batches(places: "array[int]", start: int, stop: int, bytes_max: int, total: int) -> tuple[int, int]:
    """How far batches [start, stop) fit `bytes_max` after `total` bytes, and their bytes with those.

    One fits always where `total` is 0. Raises ValueError where there are not so many. Positional arguments.
    """
    if start < 0 or stop > len(places):
        raise ValueError("there are not so many batches")
    while start < stop:
        size = places[start] & _SIZE_MASK
        if total and size > bytes_max - total:
            break
        total += size
        start += 1
    return start, total


def gather_batches(places: "array[int]", start: int, stop: int, arenas: list[memoryview], total: int) -> bytes:
    """Batches [start, stop), which have `total` bytes together, one after another.

    Raises ValueError where they have not, or are not there. Positional arguments.
    """
    if start < 0 or stop > len(places):
        raise ValueError("there are not so many batches")
    parts = []
    for index in range(start, stop):
        place = places[index]
        number, size = place >> (_SIZE_BITS + _POSITION_BITS), place & _SIZE_MASK
        position = (place >> _SIZE_BITS) & _POSITION_MASK
        if not 0 <= number < len(arenas) or position + size > len(arenas[number]):
            raise ValueError("a batch lies outside its arena, or there is no such arena")
        parts.append(arenas[number][position : position + size])
    found = b"".join(parts)
    if len(found) != total:
        raise ValueError("the batches have another size")
    return found


def find_batch(data: Data, position: int) -> int:
    """Where the batch begins that holds byte `position` of `data`, which are whole batches one after another.

    Raises ValueError where there is none. Positional arguments.
    """
    if position < 0:
        raise ValueError("there is no such byte")
    start, end = 0, len(data)
    while end - start >= _LENGTH_END:
        size = _length(data, start + _LENGTH_START)[0] + _LENGTH_END
        if size < _LENGTH_END or size > end - start:
            break
        if position < start + size:
            return start
        start += size
    raise ValueError("there is no such batch")
