"""How many requests of each API were answered, and how fast: plain numbers, turned into metrics when they are scraped.

Counting one request with the registry's own counters takes longer than parsing it.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from automq.protocol.apis import APIS
from automq.runtime.telemetry import LATENCY_BUCKETS_S, Metrics


class _Latency:
    """One API's answers."""

    __slots__ = ("buckets", "sum_s")

    def __init__(self) -> None:
        self.buckets = [0] * (len(LATENCY_BUCKETS_S) + 1)
        self.sum_s = 0.0


class RequestMetrics(Collector):
    """All requests of one broker. Counted by everyone, read by the registry."""

    def __init__(self, metrics: Metrics) -> None:
        self._by_api = {int(key): _Latency() for key in APIS}
        self.bytes_in = 0
        self.bytes_out = 0
        self.connections_refused = 0
        self.requests_stalled = 0
        self.connections_over_limit: Mapping[str, int] = {}
        """By the setting whose limit was reached."""
        metrics.registry.register(self)

    def answered(self, key: int, seconds: float, count: int = 1) -> None:
        """`count` requests of API `key` were answered after `seconds`."""
        latency = self._by_api[key]
        latency.buckets[bisect_left(LATENCY_BUCKETS_S, seconds)] += count
        latency.sum_s += seconds * count

    def count(self, key: int) -> int:
        """Requests of API `key` answered so far."""
        return sum(self._by_api[key].buckets)

    def collect(self) -> Iterator[Metric]:
        """For the registry."""
        yield CounterMetricFamily("automq_network_in_bytes", "Bytes received from clients", value=self.bytes_in)
        yield CounterMetricFamily("automq_network_out_bytes", "Bytes sent to clients", value=self.bytes_out)
        yield CounterMetricFamily(
            "automq_connections_refused",
            "Connections closed for a limit or a malformed request",
            self.connections_refused,
        )
        over_limit = CounterMetricFamily(
            "automq_connections_over_limit", "Connections closed because there are too many", labels=["setting"]
        )
        for name, count in self.connections_over_limit.items():
            over_limit.add_metric([name], count)
        yield over_limit
        yield CounterMetricFamily(
            "automq_requests_stalled", "Connections closed because a request did not come in", self.requests_stalled
        )
        family = HistogramMetricFamily("automq_request_seconds", "From parsed request to answer", labels=["api"])
        for key, latency in self._by_api.items():
            total = 0
            buckets = []
            for bound, count in zip((*LATENCY_BUCKETS_S, "+Inf"), latency.buckets, strict=True):
                total += count
                buckets.append((str(bound), total))
            if total:
                family.add_metric([APIS[key].name], buckets=buckets, sum_value=latency.sum_s)
        yield family
