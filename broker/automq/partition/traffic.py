"""Bytes and records of each topic and each partition: plain numbers that partitions count in.

Topics' are turned into samples when they are scraped; the number of series is bounded: topics beyond the limit share
one series, and so do all topics with a limit of 0. Partitions' are turned into rates (`partition.load`).
"""

from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client.core import Metric

from automq.ids import StreamId
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


class PartitionTraffic:
    """What one open partition counts, for itself and for its topic. `touched` gets it once it has counted something."""

    __slots__ = (
        "in_bytes",
        "in_measured",
        "is_open",
        "is_touched",
        "opened_s",
        "out_bytes",
        "out_measured",
        "stream",
        "topic",
        "touched",
    )

    def __init__(
        self, stream: StreamId, topic: TopicTraffic, touched: dict["PartitionTraffic", None], *, opened_s: float
    ) -> None:
        self.stream, self.topic, self.touched = stream, topic, touched
        self.opened_s = opened_s
        self.is_open = True
        self.in_bytes = self.out_bytes = 0
        self.in_measured = self.out_measured = 0
        """How much of it rates were made of already."""
        self.is_touched = False
        """Whether it is in `touched` already: cheaper than a set for whoever counts with every batch."""

    def appended(self, size: int, records: int) -> None:
        """A batch of so many bytes and records is in the log."""
        self.in_bytes += size
        topic = self.topic
        topic.in_bytes += size
        topic.in_records += records
        topic.in_batches += 1
        if not self.is_touched:
            self._touch()

    def given(self, size: int) -> None:
        """So many bytes of batches are in the answer to a consumer."""
        self.out_bytes += size
        self.topic.out_bytes += size
        if not self.is_touched:
            self._touch()

    def _touch(self) -> None:
        self.is_touched = True
        self.touched[self] = None


def _uncounted() -> PartitionTraffic:
    traffic = PartitionTraffic(StreamId(0), TopicTraffic(), {}, opened_s=0.0)
    # Nobody asks what it counted.
    traffic.is_touched = True
    return traffic


UNCOUNTED: Final = _uncounted()
"""Of partitions that are not served: shared, and shown nowhere."""


class TrafficMeter:
    """Of one broker. `topics_max` series of topics, and one for the others."""

    def __init__(self, metrics: Metrics, *, topics_max: int, now: Callable[[], float] = lambda: 0.0) -> None:
        """`now` is in seconds, and never goes back."""
        self._topics_max = topics_max
        self._now = now
        self._topics: dict[str, TopicTraffic] = {OTHERS: TopicTraffic()}
        self._touched: dict[PartitionTraffic, None] = {}
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

    def open(self, topic: str, stream: StreamId) -> PartitionTraffic:
        """Where a partition counts from now on; `close` when it is closed."""
        return PartitionTraffic(stream, self.of(topic), self._touched, opened_s=self._now())

    def close(self, topic: str, traffic: PartitionTraffic) -> None:
        """The partition is served no more. Idempotent for what never was."""
        if traffic is not UNCOUNTED:
            self.leave(topic, traffic.topic)
            traffic.is_open = False
            self._touched.pop(traffic, None)

    def take_touched(self) -> list[PartitionTraffic]:
        """Partitions that counted something since this was asked last."""
        touched = list(self._touched)
        self._touched.clear()
        for traffic in touched:
            traffic.is_touched = False
        return touched

    def of(self, topic: str) -> TopicTraffic:
        """Where the partitions of `topic` count together; `leave` once for each of them."""
        traffic = self._topics.get(topic)
        if traffic is None:
            if len(self._topics) > self._topics_max:
                topic = OTHERS
            traffic = self._topics.setdefault(topic, TopicTraffic())
        traffic.partitions += 1
        return traffic

    def leave(self, topic: str, traffic: TopicTraffic) -> None:
        """A partition is closed. With its last one a topic gives its series to another."""
        traffic.partitions -= 1
        if not traffic.partitions and self._topics.get(topic) is traffic:
            del self._topics[topic]

    def _collect(self) -> Iterator[Metric]:
        for family, field in self._families:
            samples = family.counters()
            for topic, traffic in self._topics.items():
                samples.add_metric([topic], getattr(traffic, field))
            yield samples
