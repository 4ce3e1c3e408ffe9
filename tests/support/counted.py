"""What work costs, counted: the same on every machine, however crowded it is."""

import gc
import sys
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def calls(work: Callable[[], object]) -> int:
    """How many functions, of Python or C, `work` calls. What the garbage collector calls is not its work."""
    count = 0
    gc.collect()
    collects = gc.isenabled()
    gc.disable()

    def counting(_frame: Any, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(counting)
    try:
        work()
    finally:
        sys.setprofile(before)
        if collects:
            gc.enable()
    return count


def blocks(make: Callable[[], T]) -> tuple[T, int]:
    """What `make` makes, and how many pieces of memory Python keeps for it: about one for an object."""
    gc.collect()
    before = sys.getallocatedblocks()
    made = make()
    gc.collect()
    return made, sys.getallocatedblocks() - before
