"""What stays in memory of what has come and gone: objects of our own classes, and entries of what they hold.

The search for cycles is off meanwhile. In a broker it seldom looks at what has lived for a while: what refers to itself
when it is let go of stays for hours, or for ever.
"""

import gc
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

OURS = "automq."
CONTAINERS = (dict, list, set, deque, OrderedDict)


@contextmanager
def no_search_for_cycles() -> Iterator[None]:
    """Search once, then not until the end of the block."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def alive() -> Counter[str]:
    """How many objects of each of our classes there are, and how many entries their own containers have."""
    found: Counter[str] = Counter()
    for one in gc.get_objects():
        kind = type(one)
        if isinstance(one, type) or not str(kind.__module__).startswith(OURS):
            continue
        name = f"{kind.__module__}.{kind.__qualname__}"
        found[name] += 1
        for field, value in _fields(one):
            if isinstance(value, CONTAINERS):
                found[f"{name}.{field}"] += len(value)
    return found


def _fields(one: object) -> Iterator[tuple[str, Any]]:
    yield from vars(one).items() if hasattr(one, "__dict__") else ()
    for kind in type(one).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            name = f"_{kind.__name__.lstrip('_')}{slot}" if slot.startswith("__") and not slot.endswith("__") else slot
            if hasattr(one, name):
                yield name, getattr(one, name)


def grown(before: Counter[str], after: Counter[str], *, by: int) -> dict[str, tuple[int, int]]:
    """What there is more of than `by`."""
    return {name: (before[name], after[name]) for name in sorted(after) if after[name] - before[name] > by}
