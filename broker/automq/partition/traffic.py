"""Bytes and records of each topic: plain numbers that partitions count in, turned into samples when they are scraped.

The number of series is bounded: topics beyond the limit share one series, and so do all topics with a limit of 0.
"""

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import Metric

from automq.runtime.telemetry import Metrics

OTHERS: Final = "(others)"
"""No topic can be named so."""


class TopicTraffic:
    """What the partitions of one topic count."""

    __slots__ = ("in_batches", "in_bytes", "in_records", "out_bytes", "partitions")

    def __init__(self) -> None:
        self.in_bytes = self.in_records = self.in_batches = self.out_bytes = 0
        self.partitions = 0
        """Open ones that count here."""

    def appended(self, size: int, records: int) -> None:
        """A batch of so many bytes and records is in the log."""
        self.in_bytes += size
        self.in_records += records
        self.in_batches += 1


UNCOUNTED: Final = TopicTraffic()
"""Of partitions that are not served: shared, and shown nowhere."""


class TrafficMeter:
    """Of one broker. `topics_max` series of topics, and one for the others."""

    def __init__(self, metrics: Metrics, *, topics_max: int) -> None:
        self._topics_max = topics_max
        self._topics: dict[str, TopicTraffic] = {OTHERS: TopicTraffic()}
        labels = ["topic"]
        self._families = [
            (metrics.declare(name, "counter", help_text, labels), field)
            for name, help_text, field in (
                ("automq_topic_in_bytes", "Bytes of batches that were appended, compressed as they came", "in_bytes"),
                ("automq_topic_in_records", "Records that were appended", "in_records"),
                ("automq_topic_in_batches", "Batches that were appended", "in_batches"),
                ("automq_topic_out_bytes", "Bytes of batches that were given to consumers", "out_bytes"),
            )
        ]
        metrics.export(self._collect)

    def of(self, topic: str) -> TopicTraffic:
        """Where a partition of `topic` counts from now on; `leave` when it is closed."""
        traffic = self._topics.get(topic)
        if traffic is None:
            if len(self._topics) > self._topics_max:
                topic = OTHERS
            traffic = self._topics.setdefault(topic, TopicTraffic())
        traffic.partitions += 1
        return traffic

    def leave(self, topic: str, traffic: TopicTraffic) -> None:
        """A partition is closed. With its last one a topic gives its series to another."""
        if traffic is UNCOUNTED:
            return
        traffic.partitions -= 1
        if not traffic.partitions and self._topics.get(topic) is traffic:
            del self._topics[topic]

    def _collect(self) -> Iterator[Metric]:
        for family, field in self._families:
            samples = family.counters()
            for topic, traffic in self._topics.items():
                samples.add_metric([topic], getattr(traffic, field))
            yield samples
