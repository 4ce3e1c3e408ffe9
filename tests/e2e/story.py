"""A story: one promise, shown on the real thing; how long it took; what it may be run beside."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.e2e.environment import PATIENCE
from tests.e2e.world import World


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured, against the goal of an idle machine."""

    seconds: float
    goal_s: float
    what: str = ""


Story = Callable[[World], Figure | None]
Lane = Sequence[Story]
"""Stories that follow each other."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Lanes that run side by side; the next stage begins when all have ended."""

    lanes: Sequence[Lane]
    short: bool = True
    """Part of the short run as well."""


def factor() -> tuple[float, float]:
    """What goals are multiplied by now, and the load that says so: nothing where the machine is quiet."""
    load = os.getloadavg()[0]
    return (1.0 if load <= (os.cpu_count() or 1) else max(1.0, PATIENCE)), load
