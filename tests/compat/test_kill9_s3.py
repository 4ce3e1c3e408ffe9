"""kill -9 under large batches, on a store that would keep half of a PUT: every start serves, nothing is lost."""

import os
import pathlib
import random
import threading
import time
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.support.process import Broker
from tests.support.real_s3 import run_real_s3
from tests.support.s3_server import S3Server, write_credentials

KILLS = 4
RECORD_BYTES = 9_000


@pytest.fixture
def versitygw(tmp_path: pathlib.Path) -> Iterator[S3Server]:
    with run_real_s3("versitygw", tmp_path) as server:
        yield server


class Load:
    """Produces flat out, in a thread, until it is told to stop; remembers what was acknowledged."""

    def __init__(self, address: str) -> None:
        self.acknowledged: dict[int, bytes] = {}
        self._stopping = threading.Event()
        self._producer = Producer(
            {
                "bootstrap.servers": address,
                "batch.size": 1_000_000,
                "linger.ms": 20,
                "message.timeout.ms": 120_000,
                "queue.buffering.max.kbytes": 32_768,
                "log_level": 2,
            }
        )
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        """Ends when everything sent has an outcome."""
        self._stopping.set()
        self._thread.join()
        assert self._producer.flush(120) == 0

    def _run(self) -> None:
        dice, number = random.Random(1), 0
        while not self._stopping.is_set():
            number += 1
            try:
                self._producer.produce(
                    "t", b"%08d" % number + dice.randbytes(RECORD_BYTES), on_delivery=self._on_delivery
                )
            except BufferError:
                number -= 1
                self._producer.poll(0.01)
            self._producer.poll(0)

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            offset, value = message.offset(), message.value()
            assert offset is not None
            assert value is not None
            self.acknowledged[offset] = value[:8]


@pytest.mark.timeout(600)
def test_f1_broker_that_is_killed_in_the_middle_of_a_put_starts_again(
    versitygw: S3Server, tmp_path: pathlib.Path
) -> None:
    broker = Broker(
        tmp_path / "broker",
        automq__storage__uri=versitygw.make_store_uri(),
        automq__storage__credentials__dir=write_credentials(tmp_path / "credentials"),
        automq__upload__interval__ms=1500,
    )
    broker.start()
    load = None
    try:
        admin = AdminClient({"bootstrap.servers": broker.address, "log_level": 2})
        admin.create_topics([NewTopic("t", 1, 1)])["t"].result(30)
        load = Load(broker.address)
        dice = random.Random(int.from_bytes(os.urandom(4), "big"))
        for _ in range(KILLS):
            time.sleep(dice.uniform(1.0, 2.5))
            broker.kill()
            broker.start()
        load.stop()
        found = _read(broker.address, max(load.acknowledged) + 1)
    finally:
        if load is not None:
            load.stop()
        broker.stop()

    assert len(load.acknowledged) > 100
    assert {offset: value for offset, value in load.acknowledged.items() if found.get(offset) != value} == {}


def _read(address: str, end: int) -> dict[int, bytes]:
    consumer = Consumer({"bootstrap.servers": address, "group.id": "reader", "check.crcs": True})
    consumer.assign([TopicPartition("t", 0, 0)])
    found: dict[int, bytes] = {}
    deadline = time.monotonic() + 100
    while max(found, default=-1) < end - 1 and time.monotonic() < deadline:
        message = consumer.poll(1)
        if message is not None and message.error() is None:
            offset, value = message.offset(), message.value()
            assert offset is not None
            assert value is not None
            found[offset] = value[:8]
    consumer.close()
    return found
