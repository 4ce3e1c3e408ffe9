"""Metrics of one broker: a prometheus-client registry of its own, so that two brokers can live in one process.

A component asks for its metrics once, in its constructor, and keeps the children it counts with: looking a label up
costs microseconds, which the hot path does not have.
"""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

# Seconds. From a local fsync (0.1 ms) to a store outage (a minute).
LATENCY_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0)


class Metrics:
    """Declares metrics; all names begin with `automq_`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

    def counter(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Counter:
        """A total that only grows."""
        assert name.startswith("automq_")
        return Counter(name, help_text, labels, registry=self.registry)

    def gauge(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Gauge:
        """A level that goes up and down."""
        assert name.startswith("automq_")
        return Gauge(name, help_text, labels, registry=self.registry)

    def histogram(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Histogram:
        """A distribution of seconds."""
        assert name.startswith("automq_")
        return Histogram(name, help_text, labels, buckets=LATENCY_BUCKETS_S, registry=self.registry)

    def render(self) -> bytes:
        """The text that `/metrics` answers."""
        return generate_latest(self.registry)
