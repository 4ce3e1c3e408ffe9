"""What a running broker's /metrics page says of its process, its event loop and its topics."""

import pathlib
import re
import time
from collections.abc import Iterator

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.support.process import Broker

TOPICS_MAX = 3


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    made = Broker(pathlib.Path(tmp_path_factory.mktemp("metrics")), automq__metrics__topics__max=TOPICS_MAX)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def test_c2_process_metrics_are_those_of_the_broker(broker: Broker) -> None:
    before = broker.metric("process_cpu_seconds_total")
    for _ in range(20):
        broker.page("/metrics")

    assert broker.metric("process_cpu_seconds_total") > before > 0
    assert abs(broker.metric("process_resident_memory_bytes") / 1e6 - broker.rss_mb()) < broker.rss_mb() / 2
    assert broker.metric("process_open_fds") >= 3
    assert broker.metric("process_max_fds") >= broker.metric("process_open_fds")
    assert time.time() - 3600 < broker.metric("process_start_time_seconds") <= time.time() + 1


def test_c2_event_loop_lag_is_measured_all_the_time(broker: Broker) -> None:
    page = broker.page("/metrics")
    assert re.search(r'^automq_event_loop_lag_seconds_bucket\{le="0.005"\} ', page, re.MULTILINE)
    assert re.search(r"^automq_event_loop_stalls_total ", page, re.MULTILINE)
    before = broker.metric("automq_event_loop_lag_seconds_count")
    deadline = time.monotonic() + 60
    while broker.metric("automq_event_loop_lag_seconds_count") < before + 5:
        assert time.monotonic() < deadline, "no beat of the event loop is counted"
        time.sleep(0.05)


def test_c2_topics_beyond_the_limit_share_one_series_and_nothing_is_lost(broker: Broker) -> None:
    names = [f"topic-{number}" for number in range(2 * TOPICS_MAX)]
    admin = AdminClient({"bootstrap.servers": broker.address, "log_level": 2})
    for made in admin.create_topics([NewTopic(name, 1, 1) for name in names]).values():
        made.result(60)
    producer = Producer({"bootstrap.servers": broker.address, "log_level": 2})
    for name in names:
        producer.produce(name, b"record")
    assert producer.flush(60) == 0

    page = broker.page("/metrics")
    series = re.findall(r'^automq_topic_in_records_total\{topic="(.*)"\} (\S+)$', page, re.MULTILINE)
    assert len(series) == TOPICS_MAX + 1
    assert dict(series)["(others)"] == f"{TOPICS_MAX:.1f}"
    assert sum(float(count) for _, count in series) == len(names)


def test_c2_series_of_apis_are_there_before_their_first_request(broker: Broker) -> None:
    page = broker.page("/metrics")
    for api in ("Produce", "OffsetCommit", "JoinGroup", "DeleteTopics"):
        assert f'automq_request_seconds_count{{api="{api}"}}' in page
        assert f'automq_request_errors_total{{api="{api}",error="UNKNOWN_SERVER_ERROR"}} 0.0' in page
