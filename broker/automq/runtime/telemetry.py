"""Metrics of one broker: a prometheus-client registry of its own, so that two brokers can live in one process.

A component asks for its metrics once, in its constructor, and keeps the children it counts with: looking a label up
costs microseconds, which the hot path does not have. What is counted for every request is counted in plain numbers, and
turned into samples by a collector of its own (`export`). Every family is declared, which docs/metrics.md is made from.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

# A second line for each series, with the time of its first event: nobody asks for it, and it doubles the page.
disable_created_metrics()  # type: ignore[no-untyped-call]

# Seconds. From a local fsync (0.1 ms) to a store outage (a minute).
LATENCY_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0)

SAMPLES_PER_TURN_MAX: Final = 400
"""Written in one turn of the event loop: about two milliseconds."""


@dataclass(frozen=True, slots=True)
class Family:
    """What a metric is called, and what it means. Counters have `_total` on the page, and not here."""

    name: str
    kind: str
    help_text: str
    labels: tuple[str, ...]

    @property
    def shown_name(self) -> str:
        """On the page."""
        return f"{self.name}_total" if self.kind == "counter" else self.name

    def counters(self) -> CounterMetricFamily:
        """An empty family to add samples to."""
        assert self.kind == "counter"
        return CounterMetricFamily(self.name, self.help_text, labels=self.labels)

    def gauges(self) -> GaugeMetricFamily:
        """The same of levels."""
        assert self.kind == "gauge"
        return GaugeMetricFamily(self.name, self.help_text, labels=self.labels)

    def histograms(self) -> HistogramMetricFamily:
        """The same of distributions."""
        assert self.kind == "histogram"
        return HistogramMetricFamily(self.name, self.help_text, labels=self.labels)


class Metrics:
    """Declares metrics; all names begin with `automq_`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.families: dict[str, Family] = {}
        """Everything that was declared, by the name that it has on the page."""
        self._preparations: list[Callable[[], Awaitable[None]]] = []
        self._rendering = asyncio.Lock()

    def counter(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Counter:
        """A total that only grows."""
        self.declare(name, "counter", help_text, labels)
        return Counter(name, help_text, labels, registry=self.registry)

    def gauge(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Gauge:
        """A level that goes up and down."""
        self.declare(name, "gauge", help_text, labels)
        return Gauge(name, help_text, labels, registry=self.registry)

    def histogram(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Histogram:
        """A distribution of seconds."""
        self.declare(name, "histogram", help_text, labels)
        return Histogram(name, help_text, labels, buckets=LATENCY_BUCKETS_S, registry=self.registry)

    def declare(self, name: str, kind: str, help_text: str, labels: Sequence[str] = ()) -> Family:
        """A family that a collector of its own exports. Counters are named without `_total`."""
        assert name.startswith("automq_")
        family = Family(name, kind, help_text, tuple(labels))
        assert family.shown_name not in self.families, f"{family.shown_name} is declared twice"
        self.families[family.shown_name] = family
        return family

    def export(self, collect: Callable[[], Iterator[Metric]]) -> None:
        """Call `collect` at every scrape. What it yields was declared."""
        self.registry.register(_Exported(collect))

    def prepare(self, preparation: Callable[[], Awaitable[None]]) -> None:
        """Await `preparation` before every scrape: for what takes longer than one turn of the event loop."""
        self._preparations.append(preparation)

    def watch_process(self) -> None:
        """The usual `process_` metrics of this process: CPU, memory, descriptors, start."""
        ProcessCollector(registry=self.registry)

    def render(self) -> bytes:
        """The text that `/metrics` answers, in one turn and without what has to be prepared."""
        return generate_latest(self.registry)

    async def render_in_turns(self) -> bytes:
        """The text that `/metrics` answers; between two pieces of it everybody else gets a turn."""
        async with self._rendering:
            for preparation in self._preparations:
                await preparation()
            pieces: list[bytes] = []
            written = 0
            for metric in self.registry.collect():
                for start in range(0, max(1, len(metric.samples)), SAMPLES_PER_TURN_MAX):
                    samples = metric.samples[start : start + SAMPLES_PER_TURN_MAX]
                    written += len(samples)
                    pieces.append(_text_of(metric, samples, is_first=start == 0))
                    if written >= SAMPLES_PER_TURN_MAX:
                        written = 0
                        await asyncio.sleep(0)
            return b"".join(pieces)


def _text_of(metric: Metric, samples: list[Sample], *, is_first: bool) -> bytes:
    """The page's lines of some samples; help and type stand above the first ones."""
    part = Metric(metric.name, metric.documentation, metric.type, metric.unit)
    part.samples = samples
    text = generate_latest(_Page(part))
    return text if is_first else text.split(b"\n", 2)[2]


class _Page:
    """A registry of one metric, as far as `generate_latest` wants one."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterator[Metric]:
        yield self._metric


class _Exported(Collector):
    def __init__(self, collect: Callable[[], Iterator[Metric]]) -> None:
        self._collect = collect

    def describe(self) -> Iterator[Metric]:
        """Nothing: names are checked when they are declared."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        yield from self._collect()
