"""Consumers that do not read, on a real broker: producers go on, others read, and a stop is quick."""

import pathlib
import signal
import time
from collections.abc import Iterator

import pytest
from confluent_kafka import Producer

from automq.protocol.apis import ApiKey
from tests.support.batches import parse_batches
from tests.support.process import Broker
from tests.support.raw_client import FETCH_VERSION, RawClient, fetch_of, stalled

VALUE_BYTES = 100_000
# A client that does not read is given up after 300 s; a machine that does other things is slow for a few.
STALL_S = 45.0


@pytest.fixture
def broker(tmp_path: pathlib.Path) -> Iterator[Broker]:
    made = Broker(tmp_path / "broker", automq__arena__bytes=64 << 20, automq__shutdown__timeout__ms=600_000)
    made.start()
    yield made
    made.stop()


def produce(broker: Broker, topic: str, megabytes: int) -> float:
    """Values of 100 KB to partition 0; the longest that one took, in seconds."""
    producer = Producer({"bootstrap.servers": broker.address, "acks": "all", "linger.ms": 0, "log_level": 2})
    slowest = 0.0
    for _ in range(megabytes * 10):
        began = time.monotonic()
        producer.produce(topic, bytes(VALUE_BYTES), partition=0)
        assert producer.flush(60) == 0
        slowest = max(slowest, time.monotonic() - began)
    return slowest


def test_a4_stop_with_stalled_readers_is_quick_and_uploads_the_tail(broker: Broker) -> None:
    produce(broker, "t", 20)
    clients = [stalled(broker.address, "t", {0: number * 10}) for number in range(10)]
    reader = RawClient(broker.address)
    assert reader.call(ApiKey.FETCH, FETCH_VERSION, fetch_of("t", {0: 0})).responses
    assert broker.process is not None
    broker.process.send_signal(signal.SIGTERM)
    # One second for the sockets; what a stop may take is ten times as much as anybody waits here.
    assert broker.process.wait(60) == 0

    log = (broker.folder / "broker.log").read_text()
    assert "do not take their last answers" in log
    assert "stopped before the tail was uploaded" not in log
    assert not [path for path in (broker.folder / "store").rglob("*") if "/wal/" in str(path) and path.is_file()]
    for client in [*clients, reader]:
        client.close()


def test_a2_producers_go_on_beside_consumers_that_do_not_read(broker: Broker) -> None:
    produce(broker, "t", 20)
    clients = [stalled(broker.address, "t", {0: number * 4 % 150}) for number in range(150)]

    # More than the log cache holds: every arena has to be had again.
    assert produce(broker, "t", 100) < STALL_S
    for client in clients:
        client.close()


def test_a3_f7_old_data_are_read_beside_consumers_that_do_not_read(broker: Broker) -> None:
    produce(broker, "t", 120)
    clients = [stalled(broker.address, "t", {0: number}) for number in range(60)]
    reader = RawClient(broker.address, client_id="healthy")
    slowest, given = 0.0, list[int]()
    for number in range(5):
        began = time.monotonic()
        response = reader.call(ApiKey.FETCH, FETCH_VERSION, fetch_of("t", {0: number * 10}))
        slowest = max(slowest, time.monotonic() - began)
        # A reader's first cold read is a MiB at most, in whole batches.
        given.append(len(response.responses[0].partitions[0].records))
    for client in [*clients, reader]:
        client.close()

    assert min(given) > 500_000
    assert slowest < STALL_S


def test_stalled_reader_that_goes_on_gets_what_was_announced(broker: Broker) -> None:
    produce(broker, "t", 20)
    client = stalled(broker.address, "t", {0: 0})
    time.sleep(0.5)
    produce(broker, "t", 100)
    began = client.receive()

    (partition,) = began.responses[0].partitions
    records = bytes(partition.records)
    assert len(records) > 5_000_000
    batches = list(parse_batches(records))
    assert [value for batch in batches for value in batch.values] == [bytes(VALUE_BYTES)] * len(batches)
    client.close()
