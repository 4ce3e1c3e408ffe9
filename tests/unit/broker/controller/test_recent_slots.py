"""What followers are given: slots in order, bounded, and nothing that is not whole."""

import asyncio

import pytest

from automq.controller import recent_slots as module
from automq.controller.recent_slots import RecentSlot, RecentSlots
from automq.ids import ControllerEpoch
from automq.metadata.log_format import LogPosition

pytestmark = pytest.mark.looptime


def filled(slots: int, *, records: int = 2, size: int = 10, kept: int = 1000) -> RecentSlots:
    found = RecentSlots(100, kept)
    for number in range(slots):
        first = 100 + number * records
        found.add(RecentSlot(LogPosition(ControllerEpoch(3), number), first, b"x" * size), first + records)
    return found


def sequences(found: RecentSlots, record_number: int) -> list[int] | None:
    slots = found.behind(record_number)
    return None if slots is None else [slot.position.sequence for slot in slots]


def test_slots_come_in_order_from_where_the_follower_is() -> None:
    assert sequences(filled(4), 102) == [1, 2, 3]
    assert sequences(filled(4), 100) == [0, 1, 2, 3]


def test_nothing_new_is_no_slot_and_what_is_not_kept_is_none() -> None:
    recent = filled(4)
    assert sequences(recent, 108) == []
    assert sequences(recent, 99) is None, "older than what is kept"
    assert sequences(recent, 103) is None, "in the middle of a slot"
    assert sequences(recent, 200) is None, "ahead of the log"
    assert sequences(RecentSlots(100), 100) == []


def test_old_slots_are_let_go_and_the_newest_is_kept_however_large() -> None:
    recent = filled(10, size=10, kept=35)
    assert sequences(recent, 114) == [7, 8, 9]
    assert sequences(recent, 112) is None
    assert sequences(filled(3, size=500, kept=35), 104) == [2]


def test_an_answer_is_bounded_but_for_one_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_BYTES", 25)
    assert sequences(filled(5), 100) == [0, 1]
    assert sequences(filled(5, size=60), 100) == [0]


def test_what_nobody_is_there_for_is_not_kept() -> None:
    recent = filled(3)
    recent.skip(110)
    assert sequences(recent, 104) is None
    assert sequences(recent, 110) == []
    recent.add(RecentSlot(LogPosition(ControllerEpoch(3), 4), 110, b"z"), 111)
    assert sequences(recent, 110) == [4]


async def test_whoever_waits_is_woken_by_the_next_slot_or_by_the_time() -> None:
    recent = filled(1)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await recent.wait(1.0)
    assert loop.time() - began == pytest.approx(1.0)
    loop.call_later(0.25, recent.add, RecentSlot(LogPosition(ControllerEpoch(3), 1), 102, b"y"), 104)
    await recent.wait(1.0)
    assert loop.time() - began == pytest.approx(1.25)
