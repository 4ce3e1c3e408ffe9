"""Messages of 10 and 60 MB by a real client: acknowledged, read hot and cold, over kill -9 and a fence."""

import hashlib
import pathlib
import random
import signal
import time

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.support.process import Broker

MB = 1_000_000
TOPIC = "large"
REQUEST_BYTES_MAX = 100_000_000


def a_message(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


def create(broker: Broker, *, bytes_max: int) -> None:
    admin = AdminClient({"bootstrap.servers": broker.address, "log_level": 2})
    topic = NewTopic(TOPIC, 1, 1, config={"max.message.bytes": str(bytes_max)})
    admin.create_topics([topic])[TOPIC].result(30)


def produce(broker: Broker, *messages: bytes, **settings: object) -> None:
    errors: list[KafkaError] = []
    producer = Producer(
        {
            "bootstrap.servers": broker.address,
            "message.max.bytes": REQUEST_BYTES_MAX,
            "linger.ms": 0,
            "log_level": 2,
            **settings,
        }
    )
    for message in messages:
        producer.produce(TOPIC, message, on_delivery=lambda error, _: errors.append(error) if error else None)
    assert producer.flush(120) == 0
    assert errors == []


def digests(broker: Broker, count: int) -> list[str]:
    """Of the first `count` messages, read from the start."""
    consumer = Consumer(
        {
            "bootstrap.servers": broker.address,
            "group.id": "reader",
            "enable.auto.commit": False,
            "fetch.message.max.bytes": REQUEST_BYTES_MAX,
            "receive.message.max.bytes": 2 * REQUEST_BYTES_MAX,
            "log_level": 2,
        }
    )
    consumer.assign([TopicPartition(TOPIC, 0, 0)])
    found: list[str] = []
    deadline = time.monotonic() + 90
    while len(found) < count:
        assert time.monotonic() < deadline, f"{len(found)} of {count} messages"
        message = consumer.poll(1)
        if message is not None and not message.error():
            found.append(hashlib.md5(message.value()).hexdigest())
    consumer.close()
    return found


def end(broker: Broker) -> None:
    """An orderly end; the data stay."""
    assert broker.process is not None
    broker.process.send_signal(signal.SIGTERM)
    assert broker.process.wait(60) == 0


@pytest.mark.parametrize("settings", [{}, {"enable.idempotence": True}, {"compression.type": "zstd"}])
def test_k10_a_message_of_10_mb_is_read_hot_and_cold_and_survives_kill_9(
    tmp_path: pathlib.Path, settings: dict[str, object]
) -> None:
    messages = [a_message(100, 1), a_message(10 * MB, 2), a_message(3 * MB, 3), a_message(12 * MB, 4), b"last"]
    expected = [hashlib.md5(message).hexdigest() for message in messages]
    broker = Broker(tmp_path)
    broker.start()
    try:
        create(broker, bytes_max=20 * MB)
        produce(broker, *messages, **settings)
        assert digests(broker, len(messages)) == expected
        broker.kill()
        broker.start()
        assert digests(broker, len(messages)) == expected
        produce(broker, messages[1])
        end(broker)
        broker.start()
        assert digests(broker, len(messages) + 1) == [*expected, expected[1]]
    finally:
        broker.stop()


def test_k10_messages_of_60_mb_take_turns_in_the_arenas(tmp_path: pathlib.Path) -> None:
    messages = [a_message(60 * MB, seed) for seed in range(3)]
    expected = [hashlib.md5(message).hexdigest() for message in messages]
    broker = Broker(tmp_path)
    broker.start()
    try:
        create(broker, bytes_max=64 * 1024 * 1024)
        for message in messages:
            produce(broker, message)
        assert digests(broker, 3) == expected
        broker.kill()
        broker.start()
        assert digests(broker, 3) == expected
        assert broker.rss_mb() < 900
    finally:
        broker.stop()


def test_k10_a_limit_that_cannot_be_held_is_refused_with_its_numbers(tmp_path: pathlib.Path) -> None:
    broker = Broker(tmp_path)
    broker.start()
    try:
        with pytest.raises(KafkaException) as refused:
            create(broker, bytes_max=64 * 1024 * 1024 + 1)
        assert (
            "a batch has at most 67108864 bytes here, the smallest of 67108864, a quarter of automq.arena.bytes="
            in str(refused.value)
        )
        admin = AdminClient({"bootstrap.servers": broker.address, "log_level": 2})
        admin.create_topics([NewTopic(TOPIC, 1, 1)])[TOPIC].result(30)
        with pytest.raises(AssertionError, match="MSG_SIZE_TOO_LARGE"):
            produce(broker, a_message(2 * MB, 1))
    finally:
        broker.stop()
