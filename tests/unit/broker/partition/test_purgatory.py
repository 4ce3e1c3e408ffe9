"""Requests that wait."""

import asyncio
from typing import Any, cast

import pytest

from automq.partition.partition import Partition
from automq.partition.purgatory import Purgatory

pytestmark = pytest.mark.looptime

A, B = cast(Partition, "partition a"), cast(Partition, "partition b")


class Waiter:
    """Done at the `enough`th try."""

    def __init__(self, enough: int = 1) -> None:
        self.enough = enough
        self.log: list[Any] = []

    def retry(self) -> bool:
        self.log.append("tried")
        self.enough -= 1
        return self.enough <= 0

    def expire(self) -> None:
        self.log.append("expired")


async def turn() -> None:
    await asyncio.sleep(0)


async def test_waiter_is_tried_once_in_a_turn_however_many_partitions_moved() -> None:
    purgatory, waiter = Purgatory(), Waiter()
    purgatory.park(waiter, [A, B], 10)
    purgatory.advance(A)
    purgatory.advance(B)
    assert waiter.log == []
    await turn()

    assert waiter.log == ["tried"]
    assert len(purgatory) == 0


async def test_waiter_that_needs_more_waits_on() -> None:
    purgatory, waiter = Purgatory(), Waiter(enough=2)
    purgatory.park(waiter, [A], 10)
    for _ in range(3):
        purgatory.advance(A)
        await turn()

    assert waiter.log == ["tried", "tried"]


async def test_partition_nobody_waits_for_wakes_nobody() -> None:
    purgatory, waiter = Purgatory(), Waiter()
    purgatory.park(waiter, [A], 10)
    purgatory.advance(B)
    await turn()

    assert waiter.log == []


async def test_waiter_expires_when_its_time_is_up() -> None:
    purgatory, waiter = Purgatory(), Waiter()
    purgatory.park(waiter, [A], 5)
    await asyncio.sleep(4.9)
    assert waiter.log == []
    await asyncio.sleep(0.2)
    purgatory.advance(A)
    await turn()

    assert waiter.log == ["expired"]
    assert len(purgatory) == 0


async def test_forgotten_waiter_hears_nothing_more() -> None:
    purgatory, waiter = Purgatory(), Waiter()
    purgatory.park(waiter, [A, A], 5)
    purgatory.advance(A)

    assert purgatory.forget(waiter)
    assert not purgatory.forget(waiter)
    await asyncio.sleep(10)
    assert waiter.log == []
    assert not purgatory._by_partition


async def test_waiter_may_end_another_one() -> None:
    purgatory, other = Purgatory(), Waiter()

    class Ender(Waiter):
        def retry(self) -> bool:
            purgatory.forget(other)
            return super().retry()

    purgatory.park(Ender(), [A], 5)
    purgatory.park(other, [A], 5)
    purgatory.advance(A)
    await turn()

    assert other.log == []
