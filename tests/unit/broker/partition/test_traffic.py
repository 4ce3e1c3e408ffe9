"""Bytes and records of topics."""

import pytest

from automq.ids import StreamId
from automq.partition.manager import PartitionSettings
from automq.partition.traffic import OTHERS, UNCOUNTED, TrafficMeter
from automq.protocol.apis import ApiKey
from automq.runtime.telemetry import Metrics
from tests.support.batches import build_batch
from tests.support.data_path import TOPIC, DataPath, fetch_request, produce_request


def value(metrics: Metrics, name: str, topic: str) -> float | None:
    return metrics.registry.get_sample_value(name, {"topic": topic})


def test_topics_beyond_the_limit_share_one_series() -> None:
    metrics = Metrics()
    meter = TrafficMeter(metrics, topics_max=2)
    for topic in ("a", "b", "c", "d"):
        meter.of(topic).in_bytes += 10

    assert value(metrics, "automq_topic_in_bytes_total", "a") == 10
    assert value(metrics, "automq_topic_in_bytes_total", "b") == 10
    assert value(metrics, "automq_topic_in_bytes_total", "c") is None
    assert value(metrics, "automq_topic_in_bytes_total", OTHERS) == 20


def test_limit_of_none_leaves_one_series() -> None:
    metrics = Metrics()
    meter = TrafficMeter(metrics, topics_max=0)
    meter.of("a").out_bytes += 1

    assert value(metrics, "automq_topic_out_bytes_total", "a") is None
    assert value(metrics, "automq_topic_out_bytes_total", OTHERS) == 1


def test_topic_that_is_gone_makes_room_for_another() -> None:
    metrics = Metrics()
    meter = TrafficMeter(metrics, topics_max=1)
    first, second = meter.of("a"), meter.of("a")
    assert first is second
    meter.leave("a", first)
    assert value(metrics, "automq_topic_in_bytes_total", "a") == 0
    meter.leave("a", second)
    assert value(metrics, "automq_topic_in_bytes_total", "a") is None
    meter.of("b")

    assert value(metrics, "automq_topic_in_bytes_total", "b") == 0


def test_partition_that_never_was_served_leaves_nothing() -> None:
    meter = TrafficMeter(Metrics(), topics_max=1)
    meter.close("a", UNCOUNTED)

    assert UNCOUNTED.topic.partitions == 0
    assert UNCOUNTED.is_open


def test_what_a_partition_counts_is_its_topics_too() -> None:
    metrics = Metrics()
    meter = TrafficMeter(metrics, topics_max=1)
    one, other = meter.open("a", StreamId(1)), meter.open("a", StreamId(2))
    one.appended(7, 3)
    other.given(5)

    assert (one.in_bytes, one.out_bytes, other.in_bytes, other.out_bytes) == (7, 0, 0, 5)
    assert value(metrics, "automq_topic_in_bytes_total", "a") == 7
    assert value(metrics, "automq_topic_in_records_total", "a") == 3
    assert value(metrics, "automq_topic_out_bytes_total", "a") == 5


def test_only_partitions_that_counted_something_are_touched_and_each_once() -> None:
    meter = TrafficMeter(Metrics(), topics_max=1)
    busy, idle = meter.open("a", StreamId(1)), meter.open("a", StreamId(2))
    busy.appended(7, 3)
    busy.given(7)

    assert meter.take_touched() == [busy]
    assert meter.take_touched() == []
    idle.given(1)
    assert meter.take_touched() == [idle]
    meter.close("a", idle)
    assert (busy.is_open, idle.is_open) == (True, False)


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_what_is_produced_and_fetched_is_counted() -> None:
    path = await DataPath(partitions=PartitionSettings(metric_topics_max=5)).start()
    path.create_topic(partitions=2)
    metrics = path.engine.metrics
    assert value(metrics, "automq_topic_in_records_total", TOPIC) == 0
    client = path.connect()
    batch = build_batch([b"one", b"two", b"three"], timestamp_ms=0)
    await client.call(ApiKey.PRODUCE, 9, produce_request(batch, batch))
    await client.call(ApiKey.PRODUCE, 9, produce_request(batch[:-1] + b"x"))
    await client.call(ApiKey.FETCH, 12, fetch_request(0, 0))

    assert value(metrics, "automq_topic_in_records_total", TOPIC) == 6
    assert value(metrics, "automq_topic_in_batches_total", TOPIC) == 2
    assert value(metrics, "automq_topic_in_bytes_total", TOPIC) == 2 * len(batch)
    assert value(metrics, "automq_topic_out_bytes_total", TOPIC) == 2 * len(batch)
    assert metrics.registry.get_sample_value("automq_fetch_reads_total", {"source": "memory"}) == 2
    await path.close()


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_closed_partitions_leave_no_series() -> None:
    path = await DataPath().start()
    path.create_topic()
    metrics = path.engine.metrics
    assert value(metrics, "automq_topic_in_records_total", TOPIC) == 0
    path.partitions.close()

    assert value(metrics, "automq_topic_in_records_total", TOPIC) is None
    await path.close()
