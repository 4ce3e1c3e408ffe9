"""How long the event loop's turns are: the one rule that no callback keeps it for more than 10 ms.

A scenario runs three times. Of each callback the least thread-CPU time counts: what a crowded machine or a cold cache
adds once is no property of the code. So a scenario that seems too long runs some more times: code that takes long takes
long every time. The garbage collector is off meanwhile. What is above a millisecond is printed,
and no failure.
"""

import asyncio
import gc
import time
from asyncio import events
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Final

LIMIT_MS: Final = 10.0
REPORTED_MS: Final = 1.0
REPETITIONS: Final = 3
REPETITIONS_MAX: Final = 9


@dataclass(slots=True)
class Turns:
    """The callbacks that ran while they were measured, in order: what each was, and its thread-CPU time."""

    ran: list[tuple[str, float]] = field(default_factory=list)

    @property
    def cpu_ms(self) -> float:
        """All of them together."""
        return sum(took_ms for _, took_ms in self.ran)

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Measure every callback that begins inside."""
        run: Any = events.Handle._run

        def timed(handle: Any) -> None:
            begun = time.thread_time()
            run(handle)
            self.ran.append((_name(handle), (time.thread_time() - begun) * 1000))

        gc.collect()
        gc.disable()
        events.Handle._run = timed  # type: ignore[method-assign]
        try:
            yield
        finally:
            events.Handle._run = run  # type: ignore[method-assign]
            gc.enable()


@dataclass(frozen=True, slots=True)
class Longest:
    """Of a scenario's repetitions."""

    what: str
    turn_ms: float
    """The longest turn."""
    cpu_ms: float
    """All turns of the quickest repetition."""
    turns: int = 0
    """How many there were at least."""


async def measure(
    prepare: Callable[[], Awaitable[Callable[[], Awaitable[object]]]], *, limit_ms: float = LIMIT_MS
) -> Longest:
    """`prepare` makes a world anew and returns the work, which alone is measured; more often while above `limit_ms`."""
    repetitions: list[Turns] = []
    while True:
        work = await prepare()
        turns = Turns()

        async def run(work: Callable[[], Awaitable[object]] = work) -> None:
            await work()

        with turns.measured():
            await asyncio.get_running_loop().create_task(run())
        repetitions.append(turns)
        if len(repetitions) < REPETITIONS:
            continue
        longest = _longest(repetitions)
        if longest.turn_ms <= limit_ms or len(repetitions) == REPETITIONS_MAX:
            return longest


def _longest(repetitions: Sequence[Turns]) -> Longest:
    least = [
        min((turn for turn in same if turn is not None), key=lambda turn: turn[1])
        for same in zip_longest(*(turns.ran for turns in repetitions))
    ]
    if len({len(turns.ran) for turns in repetitions}) > 1:
        # The repetitions went different ways: turn by turn they cannot be compared.
        least = [min((max(turns.ran, key=lambda turn: turn[1]) for turns in repetitions), key=lambda turn: turn[1])]
    reported = sorted(((took, name) for name, took in least if took > REPORTED_MS), reverse=True)
    for took_ms, name in reported[:5]:
        print(f"turn of {took_ms:.1f} ms: {name}")
    what, turn_ms = max(least, key=lambda turn: turn[1])
    fewest = min(len(turns.ran) for turns in repetitions)
    return Longest(what, turn_ms, min(turns.cpu_ms for turns in repetitions), fewest)


async def check_turns(
    prepare: Callable[[], Awaitable[Callable[[], Awaitable[object]]]], *, limit_ms: float = LIMIT_MS
) -> Longest:
    """`measure`, and fail when a turn is too long."""
    longest = await measure(prepare, limit_ms=limit_ms)
    assert longest.turn_ms <= limit_ms, f"{longest.what} kept the loop for {longest.turn_ms:.1f} ms of CPU"
    return longest


def _name(handle: Any) -> str:
    owner = getattr(handle._callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        return f"{owner.get_name()} {owner.get_coro()!r}"
    return repr(handle._callback)
