"""Real processes in two zones: consumers read what lies in objects at home, the tail at the leader, and all of it."""

import os
import pathlib
import shutil
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.support.broker_processes import SERVE_S, Place
from tests.support.process import free_port

RACKS = {1: "a", 2: "b", 3: "b"}
RECORDS = 400
TAIL = 200
VALUE = "x" * 5_000
TOPIC = "orders"
FETCH_BYTES = 100_000


class Zones:
    """Three brokers, the first of which leads the only partition."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.place = Place(folder)
        self.ports = {node: (free_port(), free_port()) for node in RACKS}

    def start(self) -> None:
        for node, rack in RACKS.items():
            port, http_port = self.ports[node]
            self.place.broker(
                http_port=http_port,
                node__id=node,
                broker__rack=rack,
                listeners=f"PLAINTEXT://127.0.0.1:{port}",
                automq__memory__bytes=128 * 1024 * 1024,
                automq__upload__interval__ms=500,
                automq__balancer__enable="false",
                # Nobody dies here; on a crowded machine a process may be silent for seconds.
                automq__broker__session__timeout__ms=30_000,
                group__initial__rebalance__delay__ms=0,
            )
        for node in RACKS:
            self.place.until_ready(self.ports[node][1])
        admin = AdminClient({"bootstrap.servers": self.address})
        until(lambda: sorted(admin.list_topics(timeout=5).brokers) == [1, 2, 3])
        # The first of a list leads; the others are where consumers may read.
        made = admin.create_topics([NewTopic(TOPIC, 1, replica_assignment=[[1, 2, 3]])])
        made[TOPIC].result(SERVE_S)

    @property
    def address(self) -> str:
        return ",".join(f"127.0.0.1:{port}" for port, _ in self.ports.values())

    def metric(self, node: int, name: str) -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[node][1]}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    def produce(self, first: int, count: int) -> None:
        producer = Producer({"bootstrap.servers": self.address, "enable.idempotence": True, "linger.ms": 2})
        for number in range(first, first + count):
            producer.produce(TOPIC, f"{number} {VALUE}")
            if number % 20 == 0:
                producer.flush(SERVE_S)
        assert producer.flush(SERVE_S) == 0

    def read_in_zone(self) -> float:
        """Bytes that brokers of zone b gave to consumers there."""
        return sum(self.metric(node, 'automq_zone_bytes_total{direction="out",zone="same"}') for node in (2, 3))


def until(is_so: Callable[[], bool], timeout_s: float = SERVE_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, is_so
        time.sleep(0.1)


@pytest.fixture
def zones(tmp_path: pathlib.Path) -> Iterator[Zones]:
    made = Zones(tmp_path)
    yield made
    made.place.end()


def committed(zones: Zones) -> None:
    """Until nothing is left that lies in no object."""
    until(lambda: zones.metric(1, "automq_not_uploaded_bytes") == 0)


def test_librdkafka_reads_in_its_zone_and_returns_to_the_leader_for_the_tail(zones: Zones) -> None:
    zones.start()
    zones.produce(0, RECORDS)
    committed(zones)
    consumer = Consumer(
        {
            "bootstrap.servers": zones.address,
            "group.id": "home",
            "client.rack": "b",
            "auto.offset.reset": "latest",
            "message.max.bytes": FETCH_BYTES // 2,
            "fetch.max.bytes": FETCH_BYTES,
            "max.partition.fetch.bytes": FETCH_BYTES // 2,
        }
    )
    found: list[int] = []
    tail = threading.Thread(target=zones.produce, args=(RECORDS, TAIL))
    try:
        from confluent_kafka import TopicPartition

        consumer.assign([TopicPartition(TOPIC, 0, 0)])
        deadline = time.monotonic() + SERVE_S
        while len(found) < RECORDS + TAIL:
            assert time.monotonic() < deadline, found[-3:]
            message = consumer.poll(0.5)
            if message is None:
                continue
            assert message.error() is None
            found.append(int(message.value().split()[0]))
            if len(found) == RECORDS // 2:
                tail.start()
    finally:
        consumer.close()
        if tail.ident is not None:
            tail.join()
    # In order, each once, none left out: a reset to the latest would show.
    assert found == list(range(RECORDS + TAIL))
    assert zones.metric(1, "automq_replicas_named_total") >= 1
    assert zones.read_in_zone() > RECORDS * len(VALUE) / 2
    assert zones.metric(1, 'automq_zone_bytes_total{direction="out",zone="other"}') > 0


KAFKA = pathlib.Path(os.environ.get("TESTBED_HOME", pathlib.Path.home() / ".cache" / "testbed")) / "kafka" / "lib"


@pytest.mark.skipif(
    shutil.which("java") is None or not KAFKA.is_dir(), reason="needs Java and the jars of Apache Kafka"
)
def test_the_java_consumer_reads_in_its_zone_and_returns_to_the_leader_for_the_tail(
    zones: Zones, tmp_path: pathlib.Path
) -> None:
    zones.start()
    zones.produce(0, RECORDS)
    committed(zones)
    settings = tmp_path / "consumer.properties"
    settings.write_text(
        f"client.rack=b\nauto.offset.reset=latest\nfetch.max.bytes={FETCH_BYTES}\n"
        f"max.partition.fetch.bytes={FETCH_BYTES // 2}\n"
    )
    command = ["java", "-Xmx256m", "-cp", f"{KAFKA}/*", "org.apache.kafka.tools.consumer.ConsoleConsumer"]
    command += ["--bootstrap-server", zones.address, "--topic", TOPIC, "--partition", "0", "--offset", "0"]
    command += ["--command-config", str(settings), "--max-messages", str(RECORDS + TAIL)]
    with (tmp_path / "errors").open("w") as errors:
        reading = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert reading.stdout is not None
        found: list[int] = []
        try:
            for line in reading.stdout:
                found.append(int(line.split()[0]))
                if len(found) == RECORDS // 2:
                    threading.Thread(target=zones.produce, args=(RECORDS, TAIL), daemon=True).start()
            assert reading.wait(SERVE_S) == 0, (tmp_path / "errors").read_text()[-2000:]
        finally:
            reading.kill()
            reading.communicate()
    assert found == list(range(RECORDS + TAIL))
    assert zones.metric(1, "automq_replicas_named_total") >= 1
    assert zones.read_in_zone() > RECORDS * len(VALUE) / 2
