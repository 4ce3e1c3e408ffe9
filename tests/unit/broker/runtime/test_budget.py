"""The byte budget admits in order and never leaks."""

import asyncio

import pytest

from automq.runtime.budget import ByteBudget


async def test_waiters_are_served_in_order_of_arrival() -> None:
    budget = ByteBudget(10)
    order: list[str] = []

    async def take(name: str, size: int) -> None:
        await budget.acquire(size)
        order.append(name)

    await budget.acquire(8)
    tasks = [asyncio.create_task(take("large", 9)), asyncio.create_task(take("small", 1))]
    await asyncio.sleep(0)
    assert not budget.try_acquire(1), "somebody waits already"
    budget.release(8)
    await asyncio.gather(*tasks)

    assert order == ["large", "small"]
    assert budget.used == 10


async def test_oversize_request_is_admitted_alone() -> None:
    budget = ByteBudget(10)
    await budget.acquire(50)
    assert budget.used == 50
    assert not budget.try_acquire(1)
    budget.release(50)
    assert budget.try_acquire(10)


async def test_cancelled_waiter_leaves_the_line() -> None:
    budget = ByteBudget(10)
    await budget.acquire(10)
    waiting = asyncio.create_task(budget.acquire(10))
    behind = asyncio.create_task(budget.acquire(1))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    budget.release(10)
    await behind

    assert budget.used == 1


async def test_waiter_cancelled_after_admission_gives_its_bytes_back() -> None:
    budget = ByteBudget(10)
    await budget.acquire(10)
    waiting = asyncio.create_task(budget.acquire(4))
    await asyncio.sleep(0)
    budget.release(10)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert budget.used == 0
