"""The ids of the objects that hold a stream, in the order of its offsets: a persistent list of a byte or two an id.

It is cheap to extend and to trim: ids lie in chunks, and a change makes the chunk it is in anew. Each chunk says where
the first range in it begins, so that an offset is looked for in one chunk and the objects of the others are not asked.

    chunk           start of its first range (8, signed), base (8, signed), bytes an id takes (1: 1, 2, 4 or 8), then
                    for each id what it is more than the base

All numbers are little-endian. Ids ascend as uploads come, but not where objects were replaced.
"""

import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec

from automq.ids import ObjectId, Offset
from automq.metadata.packed_ranges import pack_numbers, unpack_numbers, width_of

CHUNK_IDS: Final = 128
_HEAD: Final = struct.Struct("<qqB")

StartOf = Callable[[ObjectId], Offset]


class ObjectIds(msgspec.Struct, frozen=True, gc=False):
    """An immutable sequence of object ids. What needs to know where ranges begin or end is told by a callable."""

    chunks: tuple[bytes, ...] = ()

    def __len__(self) -> int:
        return sum(map(_length, self.chunks))

    def __iter__(self) -> Iterator[ObjectId]:
        return (object_id for chunk in self.chunks for object_id in _ids(chunk))

    def __reversed__(self) -> Iterator[ObjectId]:
        return (object_id for chunk in reversed(self.chunks) for object_id in reversed(_ids(chunk)))

    def __bool__(self) -> bool:
        return bool(self.chunks)

    @property
    def last(self) -> ObjectId | None:
        """The one with the highest offsets."""
        if not self.chunks:
            return None
        chunk = self.chunks[-1]
        _start, base, width = _HEAD.unpack_from(chunk)
        return ObjectId(base + int.from_bytes(chunk[-width:], "little"))

    def append(self, object_id: ObjectId, start: Offset) -> "ObjectIds":
        """These and one more, whose range begins at `start`, above all of them."""
        chunks = self.chunks
        if not chunks:
            return ObjectIds((_chunk((object_id,), start),))
        last = chunks[-1]
        first_start, base, width = _HEAD.unpack_from(last)
        if len(last) >= _HEAD.size + CHUNK_IDS * width:
            return ObjectIds((*chunks, _chunk((object_id,), start)))
        more = object_id - base
        if 0 <= more < 1 << 8 * width:
            return ObjectIds((*chunks[:-1], last + more.to_bytes(width, "little")))
        return ObjectIds((*chunks[:-1], _chunk((*_ids(last), object_id), first_start)))

    def place_above(self, offset: Offset, end_of: Callable[[ObjectId], Offset]) -> int:
        """How many ids come before the first whose range ends above `offset`."""
        number = bisect_right(self.chunks, offset, key=_first_start) - 1
        if number < 0:
            return 0
        before = sum(map(_length, self.chunks[:number]))
        ids = _ids(self.chunks[number])
        # Who reads from the beginning, and who trims a little, is there already.
        return before if end_of(ids[0]) > offset else before + bisect_right(ids, offset, key=end_of, lo=1)

    def iterate(self, place: int) -> Iterator[ObjectId]:
        """From the id at `place` on; a chunk at a time is unpacked."""
        for chunk in self.chunks:
            length = _length(chunk)
            if place < length:
                yield from _ids(chunk)[place:] if place else _ids(chunk)
            place = max(0, place - length)

    def splice(
        self, place: int, count: int, added: Sequence[tuple[ObjectId, Offset]], start_of: StartOf
    ) -> "ObjectIds":
        """With `added`, ids and where their ranges begin, instead of `count` ids from `place` on.

        The chunks it touches are packed anew with a neighbour each, so that chunks do not become many and small.
        """
        first = 0
        while first < len(self.chunks) and place > _length(self.chunks[first]):
            place -= _length(self.chunks[first])
            first += 1
        end, unpacked = first, list[ObjectId]()
        while end < len(self.chunks) and len(unpacked) < place + count:
            unpacked.extend(_ids(self.chunks[end]))
            end += 1
        assert place + count <= len(unpacked)
        if first > 0:
            first -= 1
            before = _ids(self.chunks[first])
            unpacked[:0] = before
            place += len(before)
        if end < len(self.chunks):
            unpacked.extend(_ids(self.chunks[end]))
            end += 1
        starts = dict(added)
        unpacked[place : place + count] = [object_id for object_id, _start in added]
        packed: list[bytes] = []
        for at in range(0, len(unpacked), CHUNK_IDS):
            ids = unpacked[at : at + CHUNK_IDS]
            packed.append(_chunk(ids, starts[ids[0]] if ids[0] in starts else start_of(ids[0])))
        return ObjectIds((*self.chunks[:first], *packed, *self.chunks[end:]))


def check_chunks(chunks: Sequence[bytes]) -> ObjectIds:
    """What was read from a snapshot, if it is such a list. Raises ValueError."""
    for chunk in chunks:
        if len(chunk) <= _HEAD.size or chunk[16] not in (1, 2, 4, 8) or (len(chunk) - _HEAD.size) % chunk[16]:
            raise ValueError("no chunk of object ids")
    return ObjectIds(tuple(chunks))


def _chunk(ids: Sequence[ObjectId], start: Offset) -> bytes:
    if len(ids) == 1:
        return _HEAD.pack(start, ids[0], 1) + b"\0"
    base = min(ids)
    width = max(1, width_of(max(ids) - base))
    return _HEAD.pack(start, base, width) + pack_numbers(ids, base, width)


def _ids(chunk: bytes) -> Sequence[ObjectId]:
    _start, base, width = _HEAD.unpack_from(chunk)
    return unpack_numbers(chunk, _HEAD.size, _length(chunk), base, width)  # type: ignore[return-value]


def _length(chunk: bytes) -> int:
    return (len(chunk) - _HEAD.size) // chunk[16]


def _first_start(chunk: bytes) -> Offset:
    return Offset(int.from_bytes(chunk[:8], "little", signed=True))
