"""Long work in bounded turns of the event loop, so that nobody who is served at the same time waits for all of it.

Work is a generator as `automq.steps` says: what must be done at one go is one part; between two parts everybody else
may run.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Final, TypeVar

from automq.runtime.tasks import Tasks
from automq.steps import Steps

S = TypeVar("S")
T = TypeVar("T")
H = TypeVar("H", bound=Hashable)

TURN_US: Final = 2_000
"""A client's request that comes meanwhile waits so long at most for each such work; ten times less than a slow PUT."""


async def in_turns(steps: Steps[T], *, to_the_end: bool = False) -> T:
    """All of it, and its result. Cancelled, it ends between two parts, or only once it is done: `to_the_end`."""
    spent_us = 0
    cancelled: asyncio.CancelledError | None = None
    while True:
        try:
            part_us = next(steps)
        except StopIteration as done:
            if cancelled is not None:
                raise cancelled from None
            result: T = done.value
            return result
        spent_us += TURN_US if part_us is None else part_us
        if spent_us >= TURN_US:
            spent_us = 0
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError as error:
                if not to_the_end:
                    raise
                cancelled = error


class Pace:
    """For a coroutine that works through something itself: await `spend` after each part."""

    __slots__ = ("_spent_us",)

    def __init__(self) -> None:
        self._spent_us = 0

    async def spend(self, part_us: int) -> None:
        """A part took about so long; lets others run when the turn is used up."""
        self._spent_us += part_us
        if self._spent_us >= TURN_US:
            self._spent_us = 0
            await asyncio.sleep(0)


async def map_in_turns(make: Callable[[S], T], items: Iterable[S], *, part_us: int) -> list[T]:
    """What `make`, which takes about `part_us`, makes of each of `items`, in order."""
    pace, made = Pace(), []
    for item in items:
        made.append(make(item))
        await pace.spend(part_us)
    return made


FREED_PER_PART: Final = 250
FREED_US: Final = 1
"""About how long it takes to free one thing."""


async def free_in_turns(*collections: list[Any] | dict[Any, Any]) -> None:
    """Empty what is needed no more: very many things that go with their collection are one long turn."""
    pace = Pace()
    for collection in collections:
        while collection:
            count = min(FREED_PER_PART, len(collection))
            if isinstance(collection, list):
                del collection[-count:]
            else:
                for _ in range(count):
                    collection.popitem()
            await pace.spend(count * FREED_US)


async def counted_in_turns(items: Iterable[H], *, part_us: int) -> dict[H, int]:
    """How often each of `items` is there, in the order of their first; one takes about `part_us`."""
    pace = Pace()
    counts: dict[H, int] = {}
    for item in items:
        counts[item] = counts.get(item, 0) + 1
        await pace.spend(part_us)
    return counts


class WorkQueue:
    """Work that nobody waits for, in order. What is short is done when `add` returns, the rest in turns that follow."""

    def __init__(self, tasks: Tasks, *, name: str) -> None:
        self._tasks = tasks
        self._name = name
        self._queue: deque[Steps[None]] = deque()
        self._is_running = False

    def add(self, steps: Steps[None]) -> None:
        """Do `steps` after everything that was added before; begin now unless that is under way."""
        self._queue.append(steps)
        if self._is_running:
            return
        self._is_running = True
        if self._proceed():
            self._is_running = False
        else:
            _ = self._tasks.spawn(self._run(), name=self._name)

    def clear(self) -> None:
        """What is not done yet never will be."""
        self._queue.clear()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(0)
            if self._proceed():
                self._is_running = False
                return

    def _proceed(self) -> bool:
        """One turn of work; whether nothing is left."""
        spent_us = 0
        while self._queue:
            steps = self._queue[0]
            for part_us in steps:
                spent_us += TURN_US if part_us is None else part_us
                if spent_us >= TURN_US:
                    return False
            if self._queue and self._queue[0] is steps:
                self._queue.popleft()
        return True
