"""A list of object ids behaves like a list, whatever its chunks; a byte or two an id."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automq.ids import ObjectId, Offset
from automq.metadata import object_ids as module
from automq.metadata.object_ids import CHUNK_IDS, ObjectIds, check_chunks


@dataclass(frozen=True)
class Held:
    """What the object holds of the stream."""

    start: Offset
    end: Offset


def built(ids: list[int], gaps: list[int]) -> tuple[ObjectIds, dict[ObjectId, Held]]:
    made, held, at = ObjectIds(), dict[ObjectId, Held](), 0
    for number, object_id in enumerate(ids):
        start = at + gaps[number % len(gaps)] if gaps else at
        at = start + 3
        held[ObjectId(object_id)] = Held(Offset(start), Offset(at))
        made = made.append(ObjectId(object_id), Offset(start))
    return made, held


ids_of_uploads = st.lists(st.integers(0, 1 << 40), unique=True, max_size=3 * CHUNK_IDS)
gaps_of_ranges = st.lists(st.integers(0, 2), max_size=5)


@given(ids=ids_of_uploads, gaps=gaps_of_ranges, offset=st.integers(0, 2000), place=st.integers(0, 500))
def test_ids_are_a_list(ids: list[int], gaps: list[int], offset: int, place: int) -> None:
    made, held = built(ids, gaps)

    assert list(made) == ids
    assert list(reversed(made)) == ids[::-1]
    assert (len(made), bool(made), made.last) == (len(ids), bool(ids), ids[-1] if ids else None)
    assert list(made.iterate(place)) == ids[place:]
    below = [object_id for object_id in held if held[object_id].end <= offset]
    assert made.place_above(Offset(offset), lambda object_id: held[object_id].end) == len(below)
    assert check_chunks(made.chunks) == made


@given(
    ids=ids_of_uploads,
    cut=st.tuples(st.integers(0, 3 * CHUNK_IDS), st.integers(0, 3 * CHUNK_IDS)),
    added=st.integers(0, 2 * CHUNK_IDS),
    offset=st.integers(0, 2000),
)
def test_splicing_is_slice_assignment(ids: list[int], cut: tuple[int, int], added: int, offset: int) -> None:
    made, held = built(ids, [])
    place = min(cut[0], len(ids))
    count = min(cut[1], len(ids) - place)
    # New ranges share the room of those they replace; where none are, nothing is added but at the end.
    room_start = held[ObjectId(ids[place])].start if place < len(ids) else Offset(3 * len(ids))
    added = min(added, 3 * count) if place < len(ids) else added
    new = [(ObjectId((1 << 41) + number), Offset(room_start + number)) for number in range(added)]

    spliced = made.splice(place, count, new, lambda object_id: held[object_id].start)

    expected = [*ids[:place], *(object_id for object_id, _start in new), *ids[place + count :]]
    assert list(spliced) == expected
    assert list(made) == ids
    held.update({object_id: Held(start, Offset(start + 1)) for object_id, start in new})
    ends = [held[ObjectId(object_id)].end for object_id in expected]
    assert spliced.place_above(Offset(offset), lambda object_id: held[object_id].end) == sum(
        end <= offset for end in ends
    )


def test_appending_shares_all_chunks_but_the_last() -> None:
    made, _held = built(list(range(CHUNK_IDS * 2)), [])

    assert made.append(ObjectId(9999), Offset(9999)).chunks[0] is made.chunks[0]
    assert len(made.chunks) == 2


def test_ids_of_a_stream_that_is_in_every_upload_take_a_byte_or_two() -> None:
    made, _held = built(list(range(1_000_000, 1_020_000, 2)), [])

    assert sum(map(len, made.chunks)) / len(made) <= 1.2


def test_splicing_again_and_again_leaves_few_chunks() -> None:
    """Compaction replaces runs all over the list: its chunks must not become as many as its ids."""
    made, held = built(list(range(20 * CHUNK_IDS)), [])
    number = 1 << 20
    for place in range(0, 1000, 2):
        start = held[next(made.iterate(place))].start
        held[ObjectId(number)] = Held(start, Offset(start + 6))
        made = made.splice(place, 2, [(ObjectId(number), start)], lambda object_id: held[object_id].start)
        number += 1

    assert len(made.chunks) <= 3 * len(made) / CHUNK_IDS


@pytest.mark.parametrize("chunk", [b"", module._HEAD.pack(0, 0, 1), module._HEAD.pack(0, 0, 3) + b"abc"])
def test_what_is_no_chunk_is_refused(chunk: bytes) -> None:
    with pytest.raises(ValueError, match="no chunk of object ids"):
        check_chunks([chunk])
