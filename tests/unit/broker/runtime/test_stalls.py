"""A loop that stands still is measured, and its stack is taken while it does."""

import asyncio
import time
from collections.abc import Callable

import pytest

from automq.runtime.stalls import BEAT_S, STALL_S, NoStallWatch, ThreadStallWatch
from automq.runtime.telemetry import Metrics


class Clock:
    """Stands still but for the stalls of a test: those of a busy machine do not count."""

    def __init__(self) -> None:
        self.at_s = 0.0

    def __call__(self) -> float:
        return self.at_s


def stand_still_here(clock: Clock, seconds: float, *, until: Callable[[], object]) -> None:
    """The loop does nothing else, while the thread that watches it may look."""
    clock.at_s += seconds
    deadline = time.monotonic() + 30
    while not until() and time.monotonic() < deadline:
        time.sleep(0.01)


def sample(metrics: Metrics, name: str) -> float:
    return metrics.registry.get_sample_value(f"automq_event_loop_{name}") or 0.0


def lines_of(caplog: pytest.LogCaptureFixture, message: str) -> list[dict[str, object]]:
    return [vars(record) for record in caplog.records if record.message == message]


STILL, ON = "the event loop stands still", "the event loop goes on"


async def test_stall_is_logged_with_the_stack_of_the_loop_while_it_lasts(caplog: pytest.LogCaptureFixture) -> None:
    metrics, clock = Metrics(), Clock()
    watch = ThreadStallWatch(metrics, now=clock)
    watch.start()
    stand_still_here(clock, 6 * STALL_S, until=lambda: lines_of(caplog, STILL))
    during = lines_of(caplog, STILL)
    while not lines_of(caplog, ON):
        await asyncio.sleep(0.01)
    watch.close()

    assert ["stand_still_here" in str(line["stack"]) for line in during] == [True], "logged during the stall"
    (end,) = lines_of(caplog, ON)
    assert end["stalled_s"] == pytest.approx(6 * STALL_S - BEAT_S, abs=0.011)
    assert sample(metrics, "stalls_total") == 1
    assert sample(metrics, "lag_seconds_sum") == pytest.approx(6 * STALL_S - BEAT_S)


async def test_stacks_are_logged_at_a_bounded_rate_and_all_stalls_counted(caplog: pytest.LogCaptureFixture) -> None:
    metrics, clock = Metrics(), Clock()
    watch = ThreadStallWatch(metrics, now=clock)
    watch.start()
    looks = 3 * BEAT_S
    for number in range(3):
        began = time.monotonic()
        stand_still_here(
            clock,
            3 * STALL_S,
            until=lambda began=began: lines_of(caplog, STILL) and time.monotonic() > began + looks,  # type: ignore[misc]
        )
        while sample(metrics, "stalls_total") == number:
            await asyncio.sleep(0.01)
    watch.close()

    assert len(lines_of(caplog, STILL)) == 1
    assert sample(metrics, "stalls_total") == 3


async def test_nothing_is_watched_after_the_close() -> None:
    metrics = Metrics()
    watch = ThreadStallWatch(metrics)
    watch.start()
    watch.close()
    watch.close()
    NoStallWatch().start()
    NoStallWatch().close()
    await asyncio.sleep(0.2)

    assert metrics.registry.get_sample_value("automq_event_loop_lag_seconds_count") == 0
