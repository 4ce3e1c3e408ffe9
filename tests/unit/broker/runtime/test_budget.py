"""The byte budget admits in order and never leaks."""

import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automq.runtime.budget import BorrowingBudget, ByteBudget, Share


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


async def test_b15_waiter_cancelled_in_the_turn_of_a_release_is_cancelled() -> None:
    budget = ByteBudget(10)
    await budget.acquire(10)
    waiting = asyncio.create_task(budget.acquire(10))
    await asyncio.sleep(0)
    waiting.cancel()
    budget.release(10)
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert budget.used == 0
    assert budget.try_acquire(10)


ACTORS = 3


def orders(sizes: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Every interleaving of two events of each actor; of actors of one size, the first comes first."""
    found = sorted(set(itertools.permutations(tuple(range(ACTORS)) * 2)))
    equals = [(one, two) for one, two in itertools.combinations(range(ACTORS), 2) if sizes[one] == sizes[two]]
    return [order for order in found if all(order.index(one) < order.index(two) for one, two in equals)]


@pytest.mark.parametrize(("sizes", "count"), [((6, 6, 6), 15), ((10, 4, 6), 90), ((15, 5, 5), 45)])
async def test_b15_no_interleaving_of_acquire_cancel_and_release_leaks_or_raises(
    sizes: tuple[int, ...], count: int
) -> None:
    """Exhaustive: three actors, each begins to acquire, then is cancelled or releases; a turn passes between or not."""
    runs = 0
    for order in orders(sizes):
        for cancelled in itertools.product((False, True), repeat=ACTORS):
            for turns in itertools.product((False, True), repeat=2 * ACTORS - 1):
                await interleave(sizes, order, cancelled, turns)
                runs += 1

    assert runs == count * 2**ACTORS * 2 ** (2 * ACTORS - 1)


async def interleave(
    sizes: tuple[int, ...], order: tuple[int, ...], cancelled: tuple[bool, ...], turns: tuple[bool, ...]
) -> None:
    budget = ByteBudget(10)
    tasks: dict[int, asyncio.Task[None]] = {}
    may_release = [asyncio.Event() for _ in sizes]

    async def use(actor: int) -> None:
        await budget.acquire(sizes[actor])
        try:
            assert budget.used <= budget.limit or budget.used == sizes[actor]
            await may_release[actor].wait()
        finally:
            budget.release(sizes[actor])

    for place, actor in enumerate(order):
        if actor not in tasks:
            tasks[actor] = asyncio.create_task(use(actor))
        elif cancelled[actor]:
            tasks[actor].cancel()
        else:
            may_release[actor].set()
        if place < len(turns) and turns[place]:
            await asyncio.sleep(0)
    outcomes = await asyncio.wait_for(asyncio.gather(*tasks.values(), return_exceptions=True), 1)
    assert all(outcome is None or isinstance(outcome, asyncio.CancelledError) for outcome in outcomes), outcomes
    for actor, outcome in zip(tasks, outcomes, strict=True):
        assert cancelled[actor] or outcome is None
    assert budget.used == 0
    assert budget.try_acquire(10)


def test_what_is_counted_may_pass_the_limit_and_says_by_how_much() -> None:
    budget = ByteBudget(10)
    budget.charge(4)
    assert (budget.used, budget.free, budget.excess, budget.is_full) == (4, 6, 0, False)

    budget.charge(8)
    assert (budget.used, budget.free, budget.excess, budget.is_full) == (12, 0, 2, True)
    assert not budget.try_acquire(1)

    budget.release(8)
    assert budget.try_acquire(6)
    assert budget.is_full


def test_share_counts_in_its_whole_and_tells_when_it_is_released() -> None:
    told: list[int] = []
    whole = ByteBudget(100)
    share = Share(whole, 10, on_release=lambda: told.append(share.used))
    share.charge(12)
    assert (share.used, share.is_full, whole.used) == (12, True, 12)

    share.release(5)
    assert (share.used, share.is_full, whole.used, told) == (7, False, 7, [7])
    assert not isinstance(share, ByteBudget), "it admits nobody"


def test_what_is_counted_for_a_block_is_given_back_at_its_end_however_it_ends() -> None:
    budget = ByteBudget(10)

    def fail() -> None:
        with budget.counting(7) as count:
            count(8)
            assert budget.used == 15
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert budget.used == 0


def test_what_must_be_held_beyond_its_limit_takes_the_room_of_the_lender() -> None:
    cache = ByteBudget(100)
    made_room: list[int] = []
    cache.on_lent = lambda: made_room.append(cache.used)
    budget = BorrowingBudget(50, cache)
    budget.charge(40)
    assert (budget.used, cache.used, made_room) == (40, 0, [])
    budget.charge(30)
    assert (budget.used, cache.used, made_room) == (70, 20, [20])
    assert budget.unmet == 0
    budget.charge(100)
    assert (budget.excess, cache.used, budget.unmet) == (120, 120, 20)
    budget.release(100)
    assert (budget.used, cache.used, budget.unmet) == (70, 20, 0)
    budget.release(70)
    assert (budget.used, cache.used) == (0, 0)


@given(st.lists(st.integers(0, 60), max_size=30))
def test_borrowed_is_always_what_is_beyond_the_limit(sizes: list[int]) -> None:
    cache = ByteBudget(100)
    budget = BorrowingBudget(50, cache)
    held: list[int] = []
    for size in sizes:
        if size % 3 == 0 and held:
            budget.release(held.pop())
        else:
            budget.charge(size)
            held.append(size)
        assert cache.used == budget.excess == max(0, sum(held) - 50)
