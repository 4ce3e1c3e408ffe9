"""Acknowledgement in slot order, whatever the order of success; none after a fence."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automq.s3stream.append_queue import AppendQueue


@dataclass
class FakeSlot:
    """What the queue needs of a slot."""

    sequence: int
    written: bool = False


def filled(count: int) -> tuple[AppendQueue[FakeSlot], list[FakeSlot]]:
    queue: AppendQueue[FakeSlot] = AppendQueue()
    slots = [FakeSlot(number) for number in range(count)]
    for slot in slots:
        queue.push(slot)
    return queue, slots


def test_late_success_waits_for_the_earlier_slot() -> None:
    queue, slots = filled(3)
    slots[1].written = slots[2].written = True
    assert queue.take_acknowledged() == []

    slots[0].written = True

    assert queue.take_acknowledged() == slots
    assert queue.acknowledged_below == 3


def test_fence_ends_all_acknowledgement() -> None:
    queue, slots = filled(2)
    slots[0].written = True

    assert queue.fence() == slots
    assert queue.take_acknowledged() == []


def test_acknowledged_slot_is_not_found_any_more() -> None:
    queue, slots = filled(2)
    slots[0].written = True
    queue.take_acknowledged()

    assert queue.find(0) is None
    assert queue.find(1) is slots[1]


def test_asking_for_a_slot_never_opened_is_a_bug() -> None:
    queue, _ = filled(1)

    with pytest.raises(AssertionError):
        queue.find(1)


@given(st.integers(1, 12).flatmap(lambda count: st.permutations(range(count))))
def test_acknowledgement_is_dense_and_ordered_for_every_order_of_success(order: list[int]) -> None:
    queue, slots = filled(len(order))
    acknowledged: list[int] = []
    for done, number in enumerate(order):
        slots[number].written = True
        acknowledged += [slot.sequence for slot in queue.take_acknowledged()]
        written = set(order[: done + 1])
        first_missing = next(n for n in range(len(order) + 1) if n not in written)
        assert acknowledged == list(range(first_missing))
        assert queue.acknowledged_below == first_missing
