"""A loop that stands still is measured, and its stack is taken while it does."""

import asyncio
import time

import pytest

from automq.runtime.stalls import STALL_S, NoStallWatch, ThreadStallWatch
from automq.runtime.telemetry import Metrics


def stand_still_here(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.01)


async def until_watching(metrics: Metrics) -> None:
    while not metrics.registry.get_sample_value("automq_event_loop_lag_seconds_count"):
        await asyncio.sleep(0.01)


async def test_stall_is_logged_with_the_stack_of_the_loop_while_it_lasts(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    watch = ThreadStallWatch(metrics)
    watch.start()
    await until_watching(metrics)
    caplog.clear()

    stand_still_here(6 * STALL_S)
    lines = [record for record in caplog.records if record.message == "the event loop stands still"]
    await asyncio.sleep(0.1)
    watch.close()

    assert [("stand_still_here" in vars(record)["stack"]) for record in lines] == [True], "logged during the stall"
    (end,) = [record for record in caplog.records if record.message == "the event loop goes on"]
    assert float(vars(end)["stalled_s"]) >= 4 * STALL_S
    assert (metrics.registry.get_sample_value("automq_event_loop_stalls_total") or 0) >= 1
    assert (metrics.registry.get_sample_value("automq_event_loop_lag_seconds_sum") or 0) >= 4 * STALL_S


async def test_stacks_are_logged_at_a_bounded_rate_and_all_stalls_counted(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    watch = ThreadStallWatch(metrics)
    watch.start()
    await until_watching(metrics)
    caplog.clear()

    for _ in range(3):
        stand_still_here(3 * STALL_S)
        await asyncio.sleep(0.12)
    watch.close()

    assert [record.message for record in caplog.records].count("the event loop stands still") <= 1
    assert (metrics.registry.get_sample_value("automq_event_loop_stalls_total") or 0) >= 3


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
