"""Timers fire once, in order, at the time that was set last."""

from hypothesis import given
from hypothesis import strategies as st

from automq.coordinators.group.model import ExpiryTimer, JoinTimer, SessionTimer, Timer
from automq.coordinators.group.timers import TimerHeap
from automq.coordinators.group.turn import TimerChange

A, B = JoinTimer("a"), JoinTimer("b")


def drain(heap: TimerHeap, now_ms: int) -> list[Timer]:
    due = []
    while (timer := heap.pop_due(now_ms)) is not None:
        due.append(timer)
    return due


def test_equal_times_fire_in_the_order_of_setting() -> None:
    heap = TimerHeap()
    heap.apply([TimerChange(B, 5), TimerChange(A, 5), TimerChange(ExpiryTimer(), 4)])
    assert drain(heap, 5) == [ExpiryTimer(), B, A]


def test_setting_again_replaces() -> None:
    heap = TimerHeap()
    heap.apply([TimerChange(A, 5), TimerChange(A, 9)])
    assert drain(heap, 8) == []
    assert heap.next_ms() == 9
    assert drain(heap, 9) == [A]
    assert heap.next_ms() is None


def test_a_cancelled_timer_does_not_fire() -> None:
    heap = TimerHeap()
    heap.apply([TimerChange(A, 5), TimerChange(A, None), TimerChange(B, None)])
    assert drain(heap, 100) == []
    assert len(heap) == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.none() | st.integers(0, 20)), max_size=300))
def test_the_heap_is_a_dictionary_sorted_by_time(changes: list[tuple[int, int | None]]) -> None:
    heap = TimerHeap()
    model: dict[int, int] = {}
    for number, at_ms in changes:
        heap.apply([TimerChange(SessionTimer("g", str(number)), at_ms)])
        model.pop(number, None)
        if at_ms is not None:
            model[number] = at_ms
    expected = [SessionTimer("g", str(number)) for number, _ in sorted(model.items(), key=lambda item: item[1])]
    assert len(heap) == len(model)
    assert drain(heap, 20) == expected


def test_timers_that_are_set_again_and_again_take_no_memory() -> None:
    heap = TimerHeap()
    for at_ms in range(10_000):
        heap.apply([TimerChange(A, at_ms)])
    assert len(heap._heap) < 100
