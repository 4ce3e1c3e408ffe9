"""Pure: work that is a generator, so that whoever runs it may let others run between two of its parts.

After each part it yields about how many microseconds that part took on a slow core, or None where the part was a turn
of its own. It is an estimate on purpose: a clock would make every simulated run another one. `runtime.turns` runs such
work in bounded turns of the event loop.
"""

from collections.abc import Generator, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

Steps = Generator[int | None, None, T]


def at_once(steps: Steps[T]) -> T:
    """All of it in this turn: for what is known to be short, and where nobody else is served."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: T = done.value
            return result


def slices(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """`items` in parts of `size`, in order; nearly always all of them, as they are."""
    if 0 < len(items) <= size:
        return iter((items,))
    return (items[start : start + size] for start in range(0, len(items), size))
