"""Requests that wait."""

import asyncio
import itertools
from collections.abc import Mapping
from typing import Any, cast

import pytest

from automq.partition.partition import Partition
from automq.partition.purgatory import TICK_S, WAITERS_PER_TURN, Purgatory, Tick

pytestmark = pytest.mark.looptime


class Log:
    """A partition whose batches are a byte an offset."""

    def __init__(self) -> None:
        self.high_watermark = 10
        self.is_open = True
        self.measured = 0

    def bytes_available(self, start: int, *, bytes_max: int, end: int) -> int | None:
        self.measured += 1
        return end - start

    def come(self, purgatory: Purgatory, size: int) -> None:
        self.high_watermark += size
        purgatory.advance(cast(Partition, self))


class Waiter:
    """Keeps what it hears."""

    def __init__(self, missing: int = 1) -> None:
        self.missing_bytes = missing
        self.open_partitions = 0
        self.tick: Tick | None = None
        self.resting: Mapping[Partition, int] | None = None
        self.rests = False
        self.log: list[Any] = []

    def force_complete(self) -> None:
        self.log.append("completed")

    def on_expiration(self) -> bool:
        self.log.append("expired")
        return self.rests


def park(purgatory: Purgatory, waiter: Waiter, rooms: dict[Log, int], wait_s: float = 10) -> None:
    purgatory.park(waiter, cast(dict[Partition, int], rooms), wait_s)


class Meddler(Waiter):
    """Forgets others, and parks again, when its own time is up."""

    def __init__(self, purgatory: Purgatory, others: list[Waiter], log: Log) -> None:
        super().__init__()
        self.purgatory, self.others, self.partition = purgatory, others, log

    def on_expiration(self) -> bool:
        super().on_expiration()
        for other in self.others:
            self.purgatory.forget(other)
        park(self.purgatory, self, {self.partition: 1}, 0.001)
        return False


async def test_who_expires_may_forget_others_of_its_tick_and_park_again() -> None:
    purgatory, a = Purgatory(), Log()
    others = [Waiter() for _ in range(3)]
    meddler = Meddler(purgatory, others, a)
    park(purgatory, others[0], {a: 1}, 1)
    park(purgatory, meddler, {a: 1}, 1)
    park(purgatory, others[1], {a: 1}, 1)
    park(purgatory, others[2], {a: 1}, 5)
    await asyncio.sleep(1 + TICK_S)

    assert [other.log for other in others] == [["expired"], [], []]
    assert meddler.log[0] == "expired"
    assert len(purgatory) == 1
    await asyncio.sleep(2 * TICK_S)
    assert len(meddler.log) >= 2
    purgatory.forget(meddler)
    assert (len(purgatory), purgatory._ticks, purgatory._watched) == (0, {}, {})


async def turn() -> None:
    await asyncio.sleep(0)


async def test_waiter_is_completed_once_however_many_partitions_moved() -> None:
    purgatory, waiter, a, b = Purgatory(), Waiter(), Log(), Log()
    park(purgatory, waiter, {a: 100, b: 100})
    a.come(purgatory, 1)
    b.come(purgatory, 1)
    assert waiter.log == []
    await turn()

    assert waiter.log == ["completed"]
    assert len(purgatory) == 0


async def test_waiter_is_left_alone_until_there_is_enough() -> None:
    purgatory, waiter, a, b = Purgatory(), Waiter(missing=50), Log(), Log()
    park(purgatory, waiter, {a: 100, b: 100})
    for _ in range(4):
        a.come(purgatory, 6)
        b.come(purgatory, 6)
        await turn()
    assert (waiter.log, waiter.missing_bytes) == ([], 2)
    b.come(purgatory, 6)
    await turn()

    assert waiter.log == ["completed"]


async def test_no_more_than_its_room_is_counted_of_a_partition() -> None:
    purgatory, waiter, a, b = Purgatory(), Waiter(missing=50), Log(), Log()
    park(purgatory, waiter, {a: 10, b: 100})
    a.come(purgatory, 500)
    a.come(purgatory, 500)
    await turn()

    assert (waiter.log, waiter.missing_bytes) == ([], 40)


async def test_waiter_whose_partitions_can_bring_no_more_is_completed() -> None:
    purgatory, waiter, a, b = Purgatory(), Waiter(missing=50), Log(), Log()
    park(purgatory, waiter, {a: 10, b: 20})
    a.come(purgatory, 11)
    await turn()
    assert waiter.log == []
    b.come(purgatory, 20)
    await turn()

    assert waiter.log == ["completed"]


async def test_what_came_is_measured_once_for_all_waiters() -> None:
    purgatory, a = Purgatory(), Log()
    waiters = [Waiter(missing=5) for _ in range(100)]
    for waiter in waiters:
        park(purgatory, waiter, {a: 10})
    a.come(purgatory, 4)

    assert (a.measured, {waiter.missing_bytes for waiter in waiters}) == (1, {1})


async def test_partition_that_is_lost_completes_its_waiters() -> None:
    purgatory, waiter, a = Purgatory(), Waiter(missing=50), Log()
    park(purgatory, waiter, {a: 0})
    a.is_open = False
    purgatory.advance(cast(Partition, a))
    await turn()

    assert waiter.log == ["completed"]


async def test_partition_nobody_waits_for_wakes_nobody() -> None:
    purgatory, waiter, a, b = Purgatory(), Waiter(), Log(), Log()
    park(purgatory, waiter, {a: 10})
    b.come(purgatory, 1)
    await turn()

    assert waiter.log == []
    assert b.measured == 0


async def test_waiter_expires_when_its_time_is_up() -> None:
    purgatory, waiter, a = Purgatory(), Waiter(), Log()
    park(purgatory, waiter, {a: 10}, 5)
    await asyncio.sleep(4.9)
    assert waiter.log == []
    await asyncio.sleep(0.1 + TICK_S)
    a.come(purgatory, 1)
    await turn()

    assert waiter.log == ["expired"]
    assert len(purgatory) == 0


async def test_waiters_of_a_tick_share_a_timer_and_expire_some_a_turn() -> None:
    purgatory, a = Purgatory(), Log()
    waiters = [Waiter() for _ in range(1000)]
    for waiter in waiters:
        park(purgatory, waiter, {a: 10}, 5)
    (tick,) = purgatory._ticks.values()
    tick.timer.cancel()
    purgatory._expire(tick.number)
    expired = [sum(waiter.log == ["expired"] for waiter in waiters)]
    while expired[-1] < 1000:
        await asyncio.sleep(0)
        expired.append(sum(waiter.log == ["expired"] for waiter in waiters))

    assert max(after - before for before, after in itertools.pairwise([0, *expired])) <= 2 * WAITERS_PER_TURN
    assert not purgatory._ticks
    assert len(purgatory) == 0


async def test_a_thousand_waiters_that_one_append_completes_are_completed_some_a_turn() -> None:
    """And one that is forgotten between two turns hears nothing."""
    purgatory, a = Purgatory(), Log()
    waiters = [Waiter(missing=1) for _ in range(1000)]
    for waiter in waiters:
        park(purgatory, waiter, {a: 10}, 5)
    a.come(purgatory, 10)
    await asyncio.sleep(0)
    first = [waiter for waiter in waiters if waiter.log]
    assert 0 < len(first) <= 2 * WAITERS_PER_TURN
    assert purgatory.forget(waiters[-1])
    while len(purgatory):
        await asyncio.sleep(0)

    assert [waiter.log for waiter in waiters] == [["completed"]] * 999 + [[]]


async def test_forgotten_waiter_hears_nothing_more_and_leaves_nothing() -> None:
    purgatory, waiter, a = Purgatory(), Waiter(), Log()
    park(purgatory, waiter, {a: 10}, 3600)
    a.come(purgatory, 1)

    assert purgatory.forget(waiter)
    assert not purgatory.forget(waiter)
    await asyncio.sleep(4000)
    assert waiter.log == []
    assert not purgatory._watched
    assert not purgatory._ticks


async def test_waiter_may_end_another_one() -> None:
    purgatory, other, a = Purgatory(), Waiter(), Log()

    class Ender(Waiter):
        def force_complete(self) -> None:
            purgatory.forget(other)
            super().force_complete()

    park(purgatory, Ender(), {a: 10}, 5)
    park(purgatory, other, {a: 10}, 5)
    a.come(purgatory, 1)
    await turn()

    assert other.log == []


async def resting(purgatory: Purgatory, *partitions: Log, missing: int = 1) -> Waiter:
    """One that waited in vain for these."""
    waiter = Waiter(missing)
    waiter.rests = True
    park(purgatory, waiter, dict.fromkeys(partitions, 5), 1)
    await asyncio.sleep(1 + TICK_S)
    assert waiter.log == ["expired"]
    return waiter


async def test_who_rests_is_parked_again_and_told_of_what_comes_then() -> None:
    purgatory, a = Purgatory(), Log()
    waiter = await resting(purgatory, a)
    assert len(purgatory) == 0
    assert purgatory.park_again(waiter, 1)
    assert len(purgatory) == 1
    a.come(purgatory, 1)
    await asyncio.sleep(0)

    assert waiter.log == ["expired", "completed"]
    assert not purgatory._watched


async def test_who_is_parked_again_expires_again_and_rests_again() -> None:
    purgatory, a = Purgatory(), Log()
    waiter = await resting(purgatory, a)
    for _ in range(3):
        assert purgatory.park_again(waiter, 1)
        assert not purgatory.park_again(waiter, 1)
        await asyncio.sleep(1 + TICK_S)

    assert waiter.log == ["expired"] * 4


async def test_who_rests_is_called_for_nothing_and_rests_no_more_once_anything_came() -> None:
    purgatory, a, b = Purgatory(), Log(), Log()
    waiter = await resting(purgatory, a, b)
    b.come(purgatory, 3)
    await asyncio.sleep(0)

    assert waiter.log == ["expired"]
    assert waiter.missing_bytes == 1
    assert not purgatory.park_again(waiter, 1)
    assert not purgatory._watched


async def test_who_rests_is_not_counted_beside_one_that_waits_for_the_same() -> None:
    purgatory, a = Purgatory(), Log()
    waiter, other = await resting(purgatory, a), Waiter(4)
    park(purgatory, other, {a: 9}, 10)
    a.come(purgatory, 3)
    assert other.missing_bytes == 1
    assert list(purgatory._watched[cast(Partition, a)].rooms) == [other]
    a.come(purgatory, 1)
    await asyncio.sleep(0)

    assert (waiter.log, other.log) == (["expired"], ["completed"])


async def test_partition_that_closes_ends_the_rest_of_those_that_waited_for_it() -> None:
    purgatory, a = Purgatory(), Log()
    waiter = await resting(purgatory, a)
    a.is_open = False
    purgatory.advance(cast(Partition, a))
    await asyncio.sleep(0)

    assert (waiter.log, waiter.resting, purgatory._watched) == (["expired"], None, {})


@pytest.mark.parametrize("does_park", [True, False])
async def test_who_rests_may_be_forgotten_or_parked_for_something_else(does_park: bool) -> None:
    purgatory, a, b = Purgatory(), Log(), Log()
    waiter = await resting(purgatory, a)
    if does_park:
        park(purgatory, waiter, {b: 5}, 1)
        a.come(purgatory, 9)
        assert waiter.missing_bytes == 1
        assert purgatory.forget(waiter)
    else:
        assert not purgatory.forget(waiter)

    assert not purgatory.park_again(waiter, 1)
    assert not purgatory._watched


async def test_who_raises_when_it_expires_does_not_rest() -> None:
    class Failing(Waiter):
        def on_expiration(self) -> bool:
            raise ArithmeticError

    purgatory, a = Purgatory(), Log()
    waiter = Failing()
    park(purgatory, waiter, {a: 1}, 1)
    errors: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: errors.append(context["exception"]))
    await asyncio.sleep(1 + TICK_S)

    assert [type(error) for error in errors] == [ArithmeticError]
    assert (waiter.resting, purgatory._watched, len(purgatory)) == (None, {}, 0)
