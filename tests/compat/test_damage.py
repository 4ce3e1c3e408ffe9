"""A real broker on a damaged store: what real clients get, what one line of its log says, and what goes on beside it.

Java's client is asked through Kafka's own console consumer, where the testbed has built it.
"""

import asyncio
import json
import pathlib
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition as AioTopicPartition
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from automq.controller.controller_metrics import ControllerMetrics
from automq.controller.damage import Damage, Loss, Repair
from automq.controller.model import ControllerSettings
from automq.controller.service import Controller
from automq.ids import ClusterId, NodeId, Offset
from automq.metadata.publisher import MetadataPublisher
from automq.runtime.clock import SystemClock
from automq.runtime.entropy import SystemEntropy
from automq.runtime.tasks import Tasks
from automq.runtime.telemetry import Metrics
from automq.runtime.workers import InlineWorkers
from automq.s3stream.store.file import FileStore
from tests.support.process import TESTBED, Broker, Kafka

RECORDS = 40
BAD = 20
JAVA = pytest.mark.skipif(not Kafka.built(), reason="SKIPPED: Apache Kafka is not built in the testbed")
"""Kafka's own tools, and so the Java client."""


@pytest.fixture
def broker(tmp_path: pathlib.Path) -> Iterator[Broker]:
    running = Broker(tmp_path / "broker")
    running.start()
    yield running
    running.stop()


def create(broker: Broker, *topics: str) -> None:
    admin = AdminClient({"bootstrap.servers": broker.address})
    made = admin.create_topics([NewTopic(topic, 1) for topic in topics])
    for future in made.values():
        future.result(30)


def produce(broker: Broker, topic: str, count: int = RECORDS, *, first: int = 0, timeout_ms: int = 30_000) -> list[Any]:
    """Each record in a batch of its own; the errors there were."""
    errors: list[Any] = []
    producer = Producer(
        {
            "bootstrap.servers": broker.address,
            "linger.ms": 0,
            "message.timeout.ms": timeout_ms,
            "enable.idempotence": True,
        }
    )
    for number in range(first, first + count):
        producer.produce(
            topic, f"{topic} record {number}!", partition=0, on_delivery=lambda error, _: errors.append(error)
        )
        producer.flush(60)
    return [error for error in errors if error is not None]


def stop(broker: Broker, signal_number: int = signal.SIGTERM) -> None:
    assert broker.process is not None
    broker.process.send_signal(signal_number)
    broker.process.wait(60)


def store(broker: Broker) -> pathlib.Path:
    return broker.folder / "store"


def find(broker: Broker, folder: str, text: bytes) -> pathlib.Path:
    """The file below `folder` of the cluster that holds `text`."""
    (found,) = [path for path in store(broker).glob(f"*/{folder}/**/*") if path.is_file() and text in path.read_bytes()]
    return found


def flip(path: pathlib.Path, text: bytes) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(text) + 3] ^= 1
    path.write_bytes(data)


def read_librdkafka(
    broker: Broker, topic: str, *, start: int = 0, wait_s: float = 20.0
) -> tuple[list[str], KafkaError | None]:
    """What comes from `start` on, until an error or the end of the partition."""
    consumer = Consumer(
        {
            "bootstrap.servers": broker.address,
            "group.id": "nobody",
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
        }
    )
    consumer.assign([TopicPartition(topic, 0, start)])
    values: list[str] = []
    deadline = time.monotonic() + wait_s
    try:
        while time.monotonic() < deadline:
            message = consumer.poll(0.5)
            if message is None:
                continue
            error = message.error()
            if error is not None:
                return values, error
            values.append(message.value().decode())
        raise AssertionError(f"neither an error nor the end after {len(values)} records")
    finally:
        consumer.close()


def readyz(broker: Broker) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{broker.http_port}/readyz", timeout=5) as answer:
        assert answer.status == 200
        body: dict[str, Any] = json.load(answer)
        return body


def log_lines(broker: Broker, phrase: str) -> list[str]:
    return [line for line in (broker.folder / "broker.log").read_text().splitlines() if phrase in line]


def names(topic: str, first: int, end: int) -> list[str]:
    return [f"{topic} record {number}!" for number in range(first, end)]


@pytest.fixture
def flipped(broker: Broker) -> Broker:
    """A broker whose topic `orders` has one flipped bit in the object that holds record 20."""
    create(broker, "orders", "payments")
    for topic in ("orders", "payments"):
        assert produce(broker, topic) == []
    stop(broker)
    text = f"orders record {BAD}!".encode()
    flip(find(broker, "data", text), text)
    broker.start()
    return broker


def test_b11_librdkafka_gets_everything_before_a_flipped_bit_then_an_error_at_its_offset(flipped: Broker) -> None:
    values, error = read_librdkafka(flipped, "orders")
    assert values == names("orders", 0, BAD)
    assert error is not None
    assert error.code() == KafkaError.INVALID_MSG
    assert read_librdkafka(flipped, "orders", start=BAD)[1].code() == KafkaError.INVALID_MSG  # type: ignore[union-attr]

    values, error = read_librdkafka(flipped, "orders", start=BAD + 1)
    assert (values, error and error.code()) == (names("orders", BAD + 1, RECORDS), KafkaError._PARTITION_EOF)
    assert read_librdkafka(flipped, "payments")[0] == names("payments", 0, RECORDS)
    assert produce(flipped, "orders", 1, first=RECORDS) == []

    (line,) = log_lines(flipped, "offsets cannot be read")
    assert "partition=orders-0" in line
    assert f"offset={BAD}" in line
    assert re.search(r"key=\S+/data/[0-9a-f]{16}", line)
    assert "automq fsck" in line
    assert flipped.metric("automq_damaged_reads_total", what="block") >= 2
    assert flipped.metric("automq_damaged_keys") == 1
    assert (readyz(flipped)["state"], readyz(flipped)["reason"]) == ("Serving", "StoreDamaged")


async def test_b11_aiokafka_gets_everything_before_a_flipped_bit_and_what_lies_behind_when_it_seeks(
    flipped: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    partition = AioTopicPartition("orders", 0)
    consumer = AIOKafkaConsumer(bootstrap_servers=flipped.address, auto_offset_reset="none", enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([partition])
        consumer.seek(partition, 0)
        values: list[str] = []
        async with asyncio.timeout(30):
            while len(values) < BAD:
                found = await consumer.getmany(timeout_ms=500)
                values += [record.value.decode() for records in found.values() for record in records]
        assert values == names("orders", 0, BAD)
        # It raises nothing for this code, and says so in its log; it stays where it is and loses its place to nobody.
        async with asyncio.timeout(60):
            while not any(
                "CorruptRecord" in record.getMessage() or "InvalidMessage" in record.getMessage()
                for record in caplog.records
            ):
                assert await consumer.getmany(timeout_ms=500) == {}
        assert await consumer.position(partition) == BAD
        consumer.seek(partition, BAD + 1)
        async with asyncio.timeout(30):
            while len(values) < RECORDS - 1:
                found = await consumer.getmany(timeout_ms=500)
                values += [record.value.decode() for records in found.values() for record in records]
        assert values == names("orders", 0, BAD) + names("orders", BAD + 1, RECORDS)
    finally:
        await consumer.stop()


def console_consumer(broker: Broker, topic: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [TESTBED / "kafka/bin/kafka-console-consumer", "--bootstrap-server", broker.address, "--topic", topic]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=120, check=False)


@JAVA
def test_b11_the_java_client_gets_everything_before_a_flipped_bit_then_an_error_at_its_offset(flipped: Broker) -> None:
    ended = console_consumer(flipped, "orders", "--partition", "0", "--offset", "earliest", "--timeout-ms", "15000")

    assert ended.stdout.split("\n")[:BAD] == names("orders", 0, BAD)
    assert f"corrupt message when fetching offset {BAD} for topic-partition orders-0" in ended.stdout + ended.stderr

    behind = console_consumer(
        flipped, "orders", "--partition", "0", "--offset", str(BAD + 1), "--max-messages", str(RECORDS - BAD - 1)
    )
    assert behind.stdout.split("\n")[: RECORDS - BAD - 1] == names("orders", BAD + 1, RECORDS)


def damage_wal(broker: Broker, topic: str, change: Callable[[pathlib.Path, bytes], None]) -> None:
    text = f"{topic} record {BAD}!".encode()
    change(find(broker, "wal", text), text)


def cut(path: pathlib.Path, text: bytes) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: data.index(text)])


@pytest.fixture
def killed(broker: Broker) -> Broker:
    """A broker that ended without uploading anything of two topics, each record in a slot of its own."""
    create(broker, "orders", "payments")
    for topic in ("payments", "orders"):
        assert produce(broker, topic) == []
    stop(broker, signal.SIGKILL)
    return broker


def test_f8_a_damaged_wal_slot_quarantines_its_broker_s_partitions_and_the_broker_serves_the_rest(
    killed: Broker,
) -> None:
    damage_wal(killed, "orders", cut)
    slots = sorted(store(killed).glob("*/wal/**/*"))

    for new in ("new1", "new2"):
        killed.start()
        body = readyz(killed)
        assert (body["state"], body["reason"]) == ("Serving", "StoreDamaged")
        assert "automq repair" in body["message"]
        create(killed, new)
        assert produce(killed, new, 3) == []
        assert read_librdkafka(killed, new)[0] == names(new, 0, 3)
        for topic in ("orders", "payments"):
            (refused,) = produce(killed, topic, 1, timeout_ms=3000)
            assert refused.code() in (KafkaError._MSG_TIMED_OUT, KafkaError.KAFKA_STORAGE_ERROR)
            values, error = read_librdkafka(killed, topic)
            assert values == names(topic, 0, len(values))
            assert error is not None
            assert error.code() == KafkaError.INVALID_MSG
        assert killed.metric("automq_quarantined_partitions") == 2
        stop(killed, signal.SIGKILL)
        assert set(slots) <= set(store(killed).glob("*/wal/**/*")), "nothing is deleted because of damage"


def test_f1_half_a_put_of_a_killed_broker_is_named_and_only_repair_ends_the_log_there(killed: Broker) -> None:
    newest = max(path for path in store(killed).glob("*/wal/**/*") if path.is_file())
    half = newest.with_name(f"{int(newest.name) + 1:0{len(newest.name)}d}")
    half.write_bytes(newest.read_bytes()[:100])
    key = str(half.relative_to(store(killed)))

    for _ in range(2):
        killed.start()
        body = readyz(killed)
        assert (body["state"], body["reason"]) == ("Serving", "StoreDamaged")
        assert log_lines(killed, key)
        for topic in ("orders", "payments"):
            assert read_librdkafka(killed, topic)[0] == names(topic, 0, RECORDS)
            assert len(produce(killed, topic, 1, first=RECORDS, timeout_ms=3000)) == 1
        stop(killed, signal.SIGKILL)
        assert half.stat().st_size == 100

    command = [sys.executable, "-m", "automq", "repair", store(killed).as_uri(), "--end-log", key]
    subprocess.run(command, check=True, timeout=120)
    killed.start()

    assert readyz(killed)["reason"] is None
    for topic in ("orders", "payments"):
        assert read_librdkafka(killed, topic)[0] == names(topic, 0, RECORDS)
        assert produce(killed, topic, 1, first=RECORDS) == []


def test_f8_a_wal_slot_that_is_put_back_lifts_the_quarantine_and_nothing_was_lost(killed: Broker) -> None:
    path = find(killed, "wal", f"orders record {BAD}!".encode())
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    killed.start()
    assert killed.metric("automq_quarantined_partitions") == 2
    stop(killed)

    path.write_bytes(whole)
    killed.start()

    assert readyz(killed)["reason"] is None
    for topic in ("orders", "payments"):
        assert read_librdkafka(killed, topic)[0] == names(topic, 0, RECORDS)
        assert produce(killed, topic, 1, first=RECORDS) == []


def test_f8_a_flipped_bit_in_the_log_quarantines_its_partition_alone_until_the_record_is_given_up(
    killed: Broker,
) -> None:
    damage_wal(killed, "orders", flip)

    killed.start()
    assert (readyz(killed)["state"], readyz(killed)["reason"]) == ("Serving", "StoreDamaged")
    assert killed.metric("automq_quarantined_partitions") == 1
    assert read_librdkafka(killed, "payments")[0] == names("payments", 0, RECORDS)
    assert produce(killed, "payments", 1, first=RECORDS) == []
    values, error = read_librdkafka(killed, "orders")
    assert (values, error and error.code()) == (names("orders", 0, BAD), KafkaError.INVALID_MSG)
    assert len(produce(killed, "orders", 1, timeout_ms=3000)) == 1
    stop(killed)

    give_up(killed, (BAD, BAD + 1))
    killed.start()

    assert readyz(killed)["reason"] is None
    assert read_librdkafka(killed, "orders")[0] == names("orders", 0, BAD) + names("orders", BAD + 1, RECORDS)
    assert produce(killed, "orders", 1, first=RECORDS) == []


@pytest.mark.parametrize("breakage", ["removed", "cut"])
def test_f8_the_newest_object_damaged_holds_up_its_partition_and_nobody_else(broker: Broker, breakage: str) -> None:
    create(broker, "orders")
    assert produce(broker, "orders") == []
    stop(broker)
    broker.start()
    create(broker, "payments")
    assert produce(broker, "orders", 5, first=RECORDS) == []
    stop(broker)
    path = find(broker, "data", f"orders record {RECORDS}!".encode())
    if breakage == "removed":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:200])

    broker.start()

    assert readyz(broker)["reason"] == "StoreDamaged"
    assert produce(broker, "payments", 3) == []
    values, error = read_librdkafka(broker, "orders")
    assert values == names("orders", 0, RECORDS)
    assert error is not None
    assert error.code() == KafkaError.INVALID_MSG
    assert broker.metric("automq_quarantined_partitions") == 1


def give_up(broker: Broker, *ranges: tuple[int, int]) -> None:
    """What `automq repair` records, of the stream of `orders`; the broker is down."""

    async def record() -> None:
        (key,) = [path for path in store(broker).glob("*") if path.is_dir() and len(path.name) == 22]
        store_port = FileStore(str(store(broker)), workers=InlineWorkers(), entropy=SystemEntropy())
        tasks = Tasks("repair", on_crash=lambda _name, _error: None)
        metadata = MetadataPublisher()
        controller = Controller(
            settings=ControllerSettings(),
            cluster_id=ClusterId(key.name),
            node=NodeId(1),
            store=store_port,
            publisher=metadata,
            key_of=str,
            clock=SystemClock(),
            entropy=SystemEntropy(),
            tasks=tasks,
            metrics=ControllerMetrics(Metrics(), lambda: metadata.image),
            on_fenced=lambda _reason: None,
            on_damaged=lambda _error: None,
            on_store=lambda _error: None,
        )
        await controller.start(owner=None)
        topic = metadata.image.topic("orders")
        assert topic is not None
        losses = [
            Loss(
                stream=topic.partitions[0].stream,
                start=Offset(first),
                end=Offset(end),
                damage=Damage(key="k", reason="r"),
            )
            for first, end in ranges
        ]
        await controller.repair(Repair(losses=losses), by="a test")
        await controller.close()
        await tasks.close()
        await store_port.close()

    asyncio.run(record())


@pytest.fixture
def given_up(broker: Broker) -> Broker:
    """Of `orders`, records 20 to 29 are given up, and offsets 40 to 999 behind the last one."""
    create(broker, "orders")
    assert produce(broker, "orders") == []
    stop(broker)
    give_up(broker, (BAD, BAD + 10), (RECORDS, 1000))
    broker.start()
    return broker


LEFT = names("orders", 0, BAD) + names("orders", BAD + 10, RECORDS)


def test_clients_pass_over_what_was_given_up_and_no_offset_is_given_twice(given_up: Broker) -> None:
    values, error = read_librdkafka(given_up, "orders")
    assert (values, error and error.code()) == (LEFT, KafkaError._PARTITION_EOF)

    consumer = Consumer({"bootstrap.servers": given_up.address, "group.id": "g", "auto.offset.reset": "error"})
    consumer.assign([TopicPartition("orders", 0, RECORDS)])
    assert consumer.poll(2) is None
    assert produce(given_up, "orders", 1, first=RECORDS) == []
    message = consumer.poll(20)
    assert message is not None
    assert (message.error(), message.offset(), message.value()) == (None, 1000, f"orders record {RECORDS}!".encode())
    consumer.close()


async def test_aiokafka_passes_over_what_was_given_up(given_up: Broker) -> None:
    partition = AioTopicPartition("orders", 0)
    consumer = AIOKafkaConsumer(bootstrap_servers=given_up.address, auto_offset_reset="none", enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([partition])
        consumer.seek(partition, 0)
        values: list[str] = []
        async with asyncio.timeout(30):
            while await consumer.position(partition) < 1000:
                found = await consumer.getmany(timeout_ms=500)
                values += [record.value.decode() for records in found.values() for record in records]
        assert values == LEFT
    finally:
        await consumer.stop()


@JAVA
def test_the_java_client_passes_over_what_was_given_up(given_up: Broker) -> None:
    assert produce(given_up, "orders", 1, first=RECORDS) == []
    ended = console_consumer(
        given_up,
        "orders",
        "--partition",
        "0",
        "--offset",
        "earliest",
        "--max-messages",
        str(len(LEFT) + 1),
        "--timeout-ms",
        "30000",
    )
    assert ended.stdout.split("\n")[: len(LEFT) + 1] == [*LEFT, f"orders record {RECORDS}!"]
