"""Work in bounded turns: everything is done, in order, and others run in between."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Iterator
from typing import Any, ClassVar

import pytest

from automq.runtime.tasks import Tasks
from automq.runtime.turns import TURN_US, Pace, WorkQueue, counted_in_turns, free_in_turns, in_turns
from automq.steps import at_once
from tests.support.turns import check_turns


def counting(parts: int, done: list[int], *, part_us: int = TURN_US // 10) -> Generator[int, None, int]:
    for number in range(parts):
        done.append(number)
        yield part_us
    return parts


class Neighbour:
    """Counts the turns that somebody else gets."""

    def __init__(self, done: list[int]) -> None:
        self.done = done
        self.seen: list[int] = []
        self.task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while True:
            self.seen.append(len(self.done))
            await asyncio.sleep(0)

    def end(self) -> list[int]:
        self.task.cancel()
        return self.seen


def test_at_once_is_the_same_without_turns() -> None:
    done: list[int] = []
    assert at_once(counting(30, done)) == 30
    assert done == list(range(30))


async def test_others_run_between_turns() -> None:
    done: list[int] = []
    neighbour = Neighbour(done)
    assert await in_turns(counting(35, done)) == 35
    assert done == list(range(35))
    assert set(neighbour.end()) >= {10, 20, 30}


async def test_little_work_is_one_turn() -> None:
    done: list[int] = []
    neighbour = Neighbour(done)
    await in_turns(counting(9, done))
    assert neighbour.end() == []


async def test_cancelled_work_ends_between_two_parts() -> None:
    done: list[int] = []
    task = asyncio.get_running_loop().create_task(in_turns(counting(1000, done)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert 0 < len(done) < 1000


async def test_pace_lets_others_run() -> None:
    done: list[int] = []
    neighbour, pace = Neighbour(done), Pace()
    for number in range(25):
        done.append(number)
        await pace.spend(TURN_US // 10)
    assert {10, 20} <= set(neighbour.end())


async def test_queue_does_what_is_short_at_once_and_the_rest_in_order() -> None:
    crashes: list[str] = []
    tasks = Tasks("test", on_crash=lambda name, error: crashes.append(name))
    queue, done = WorkQueue(tasks, name="work"), list[int]()
    queue.add(_void(counting(3, done)))
    assert done == [0, 1, 2]

    queue.add(_void(counting(25, done)))
    assert len(done) == 13
    queue.add(_void(counting(2, done)))
    assert len(done) == 13
    while len(done) < 30:
        await asyncio.sleep(0)
    assert done == [*range(3), *range(25), *range(2)]

    await asyncio.sleep(0)
    queue.add(_void(counting(2, done)))
    assert len(done) == 32
    queue.add(_void(counting(25, done)))
    queue.clear()
    before = len(done)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(done) == before
    await tasks.close()
    assert not crashes


def _void(steps: Generator[int, None, int]) -> Generator[int, None, None]:
    yield from steps


async def test_work_that_adds_work_is_no_recursion() -> None:
    tasks = Tasks("test", on_crash=lambda name, error: None)
    queue, done = WorkQueue(tasks, name="work"), list[str]()

    def outer() -> Generator[int, None, None]:
        queue.add(inner())
        done.append("outer")
        yield 1

    def inner() -> Generator[int, None, None]:
        done.append("inner")
        yield 1

    queue.add(outer())
    assert done == ["outer", "inner"]
    await tasks.close()


async def test_the_rule_fails_for_a_long_turn_and_not_for_many() -> None:
    def burn(count: int) -> int:
        return sum(number * number for number in range(count))

    async def in_one() -> Callable[[], Awaitable[object]]:
        async def work() -> None:
            burn(1_000_000)

        return work

    async def in_many() -> Callable[[], Awaitable[object]]:
        async def work() -> None:
            for _ in range(100):
                burn(10_000)
                await asyncio.sleep(0)

        return work

    with pytest.raises(AssertionError, match="kept the loop"):
        await check_turns(in_one)
    longest = await check_turns(in_many)
    assert longest.cpu_ms > longest.turn_ms * 10


class Freed:
    """Notes when it goes."""

    turn = 0
    freed: ClassVar[Counter[int]] = Counter()

    def __del__(self) -> None:
        Freed.freed[Freed.turn] += 1


async def turning() -> None:
    while True:
        Freed.turn += 1
        await asyncio.sleep(0)


@pytest.mark.parametrize("kind", ["list", "dict"])
async def test_very_many_things_are_freed_some_in_a_turn(kind: str) -> None:
    Freed.freed.clear()
    many: list[Any] | dict[Any, Any] = [Freed() for _ in range(20_000)]
    if kind == "dict":
        many = dict(enumerate(many))
    turns = asyncio.ensure_future(turning())
    await free_in_turns(many)
    turns.cancel()

    assert len(many) == 0
    assert Freed.freed.total() == 20_000
    assert max(Freed.freed.values()) <= 2_500


async def test_what_is_counted_in_turns_keeps_the_order_of_the_first() -> None:
    seen: Counter[int] = Counter()

    def items() -> Iterator[int]:
        for number in range(10_000):
            seen[Freed.turn] += 1
            yield number % 7_000

    turns = asyncio.ensure_future(turning())
    counts = await counted_in_turns(items(), part_us=2)
    turns.cancel()

    assert list(counts) == list(range(7_000))
    assert [counts[0], counts[6_999]] == [2, 1]
    assert max(seen.values()) <= 1_000
