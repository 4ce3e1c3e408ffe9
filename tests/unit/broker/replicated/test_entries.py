"""Checkpoints in pieces: the newest ones give the whole state, and cost no more than was earned."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automq.replicated.entries import CARRY_BYTES, Entries

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["set", "set", "set", "delete", "capture", "earn", "carry", "restore"]),
        st.integers(0, 12),
        st.integers(0, 400),
    ),
    max_size=80,
)


def gone(key: int) -> bytes:
    return b"%d:" % key


def entry_of(key: int, value: int) -> bytes:
    return b"%d:%d" % (key, value)


def made_of(pieces: dict[int, list[bytes]], first: int, last: int) -> tuple[dict[int, bytes], Entries[int]]:
    """What a reader makes of pieces [first, last]."""
    state: Entries[int] = Entries(gone)
    for number in range(first, last + 1):
        for entry in pieces[number]:
            key, _, value = entry.partition(b":")
            state.restore(int(key), entry if value else None)
        state.restored(number)
    return {key: entry for key in state.all_keys() if (entry := state.get(key)) is not None}, state


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_the_newest_pieces_are_the_whole_state_at_every_piece(steps: list[tuple[str, int, int]]) -> None:
    state: Entries[int] = Entries(gone)
    model: dict[int, bytes] = {}
    pieces: dict[int, list[bytes]] = {}
    for action, key, number in steps:
        if action == "set":
            model[key] = entry_of(key, number)
            state.set(key, model[key])
        elif action == "delete":
            model.pop(key, None)
            state.delete(key)
        elif action == "earn":
            state.earn(number)
        elif action == "carry":
            state.carry(key)
        elif action == "capture":
            newest = len(pieces) + 1
            first = state.oldest_piece(newest)
            pending = state.pending_bytes
            captured = state.capture(newest)
            pieces[newest] = list(captured.entries())
            assert len(captured) == len(pieces[newest])
            assert sum(map(len, pieces[newest])) == pending
            assert made_of(pieces, first, newest)[0] == model
        elif pieces and not state.is_changed and not state.pending_bytes:
            # A new owner goes on where this one was.
            found, state = made_of(pieces, state.oldest_piece(len(pieces) + 1), len(pieces))
            assert found == model
        assert {key: state.get(key) for key in state.all_keys()} == model
        assert (len(state), state.size) == (len(model), sum(map(len, model.values())))
        assert list(state.oldest(3)) == state.all_keys()[:3]


@pytest.mark.parametrize(("record_bytes", "entry_bytes"), [(75, 163), (100, 60), (1000, 160), (100_000, 160)])
def test_state_costs_at_most_twice_the_records_that_changed_it_and_few_pieces(
    record_bytes: int, entry_bytes: int
) -> None:
    dice = random.Random(record_bytes)
    state: Entries[int] = Entries(gone)
    producers, written, earned, newest, longest = 2_000, 0, 0, 0, 0
    for number in range(20_000):
        state.set(dice.randrange(producers), b"%d:" % number + bytes(entry_bytes))
        state.earn(record_bytes)
        earned += record_bytes
        due = state.pending_bytes <= state.credit and state.pending_bytes * 32 >= state.size
        if due:
            newest += 1
            written += state.pending_bytes
            longest = max(longest, newest - state.oldest_piece(newest) + 1)
            state.capture(newest)
    assert newest > 1
    assert written <= 2 * earned
    assert longest <= 70


def test_one_turn_carries_a_few_entries_along_however_many_there_are() -> None:
    state: Entries[int] = Entries(gone)
    for key in range(10_000):
        state.set(key, bytes(50))
    state.capture(1)
    state.set(0, bytes(50))
    state.earn(CARRY_BYTES * 10)
    assert len(state.capture(2)) == 1 + 11


def test_carrying_goes_no_further_than_the_piece_that_is_asked_for() -> None:
    state: Entries[int] = Entries(gone)
    for number in range(1, 4):
        state.set(number, b"x")
        state.capture(number)
    assert not state.carry(100, through=2)
    assert list(state.capture(4).carried) == [1, 2]
    assert state.oldest_piece(5) == 3
