"""Metrics of brokers: apart from one another, declared once, written in turns."""

import asyncio
from collections.abc import Iterator

import pytest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from automq.runtime.telemetry import SAMPLES_PER_TURN_MAX, Metrics


def test_registries_are_separate() -> None:
    one, other = Metrics(), Metrics()
    one.counter("automq_appends", "Appends.").inc(3)
    other.counter("automq_appends", "Appends.")

    assert b"automq_appends_total 3.0" in one.render()
    assert b"automq_appends_total 0.0" in other.render()


def test_metric_is_declared_once_and_by_the_name_on_the_page() -> None:
    metrics = Metrics()
    metrics.counter("automq_appends", "Appends.", ["topic"])
    metrics.gauge("automq_level", "Level.")

    assert [(f.shown_name, f.kind, f.labels) for f in metrics.families.values()] == [
        ("automq_appends_total", "counter", ("topic",)),
        ("automq_level", "gauge", ()),
    ]
    with pytest.raises(AssertionError, match="declared twice"):
        metrics.declare("automq_level", "gauge", "Again.")


def test_no_series_has_a_twin_with_its_first_time() -> None:
    metrics = Metrics()
    metrics.counter("automq_appends", "Appends.").inc()
    metrics.histogram("automq_seconds", "Seconds.").observe(1)

    assert b"_created" not in metrics.render()


def wide(metrics: Metrics, series: int) -> None:
    family = metrics.declare("automq_wide", "counter", "Wide.", ["topic"])

    def collect() -> Iterator[Metric]:
        counters = family.counters()
        for number in range(series):
            counters.add_metric([f'odd "{number}"\n'], number)
        yield counters

    metrics.export(collect)


async def test_page_in_turns_is_the_page_in_one() -> None:
    metrics = Metrics()
    metrics.gauge("automq_level", "Level.").set(2)
    wide(metrics, SAMPLES_PER_TURN_MAX * 2 + 7)
    metrics.histogram("automq_seconds", "Seconds.", ["kind"]).labels("x").observe(0.003)

    page = await metrics.render_in_turns()

    assert page == metrics.render()
    assert page.count(b"# TYPE automq_wide_total") == 1
    families = {family.name: family for family in text_string_to_metric_families(page.decode())}
    assert len(families["automq_wide"].samples) == SAMPLES_PER_TURN_MAX * 2 + 7


async def test_others_have_turns_while_a_wide_page_is_written() -> None:
    """Counted in turns, not in time: of this page, every turn writes so many samples and no more."""
    metrics = Metrics()
    wide(metrics, SAMPLES_PER_TURN_MAX * 10)
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count_turns())
    await metrics.render_in_turns()
    counting.cancel()

    assert turns >= 10


async def test_what_takes_long_is_prepared_before_the_page_is_written() -> None:
    metrics = Metrics()
    level = metrics.gauge("automq_level", "Level.")

    async def prepare() -> None:
        await asyncio.sleep(0)
        level.set(7)

    metrics.prepare(prepare)

    assert b"automq_level 7.0" in await metrics.render_in_turns()


def test_process_has_the_usual_metrics() -> None:
    metrics = Metrics()
    metrics.watch_process()

    page = metrics.render().decode()
    for name in ("process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"):
        assert f"\n{name} " in page
