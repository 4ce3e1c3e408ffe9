"""One real client in a process of its own: `python -m tests.chaos.clients produce|consume LIBRARY ...`.

A producer writes one line to its journal for each record whose fate it knows: `acked SEQUENCE` or
`failed SEQUENCE WHY`. A consumer writes `PARTITION OFFSET VALUE` for each record it was given. Lines are flushed before
the client goes on, so a journal is never behind what the client was told.
"""

import argparse
import asyncio
import contextlib
import pathlib
import signal
import sys
import threading
import time
from typing import Any, TextIO

LIBRARIES = ("librdkafka", "aiokafka", "kafka-python")
GIVE_UP_S = 180
LARGE_BYTES = 1000
"""Records of that size are gathered into batches of a megabyte, where the library can."""


QUEUED_BYTES_MAX = 4_000_000
"""What a producer may have asked for and not been told of."""


class Journal:
    """A line-buffered file of what this client was told."""

    def __init__(self, path: pathlib.Path) -> None:
        self._file: TextIO = path.open("w", buffering=1)

    def line(self, *words: object) -> None:
        self._file.write(" ".join(map(str, words)) + "\n")


class Stop:
    """Set by SIGTERM: finish what is in flight, then end."""

    def __init__(self) -> None:
        self.asked = False
        signal.signal(signal.SIGTERM, self._on_signal)

    def _on_signal(self, *_: object) -> None:
        self.asked = True


def value_of(name: str, sequence: int, size: int) -> bytes:
    """Padded with blanks to `size` bytes; `text_of` takes them off."""
    return f"{name}:{sequence}".encode().ljust(size)


def text_of(value: bytes) -> str:
    return value.rstrip().decode()


def produce_librdkafka(options: argparse.Namespace, journal: Journal, stop: Stop) -> None:
    from confluent_kafka import Producer

    producer = Producer(
        {
            "bootstrap.servers": options.bootstrap,
            "enable.idempotence": True,
            "linger.ms": 5 if options.record_bytes < LARGE_BYTES else 50,
            "batch.size": 1_000_000,
            # What is queued when the run ends has to be flushed.
            "queue.buffering.max.kbytes": 32_000,
            "compression.type": "zstd" if options.compressed else "none",
            "log_level": 2,
            "delivery.timeout.ms": GIVE_UP_S * 1000,
            "request.timeout.ms": 5000,
            "retry.backoff.ms": 50,
            "reconnect.backoff.max.ms": 500,
            "socket.connection.setup.timeout.ms": 3000,
        }
    )

    def report(sequence: int) -> Any:
        return lambda error, message: journal.line(*(("failed", sequence, error) if error else ("acked", sequence)))

    sequence = 0
    while not stop.asked:
        try:
            producer.produce(
                options.topic,
                value_of(options.name, sequence, options.record_bytes),
                partition=sequence % options.partitions,
                on_delivery=report(sequence),
            )
        except BufferError:
            # Its queue is full: the broker is down, or slower than the rate.
            producer.poll(0.1)
            continue
        sequence += 1
        producer.poll(1 / options.rate)
    producer.flush(GIVE_UP_S)


async def produce_aiokafka(options: argparse.Namespace, journal: Journal, stop: Stop) -> None:
    from aiokafka import AIOKafkaProducer
    from aiokafka.errors import KafkaError

    producer = AIOKafkaProducer(
        bootstrap_servers=options.bootstrap,
        enable_idempotence=True,
        linger_ms=5 if options.record_bytes < LARGE_BYTES else 50,
        request_timeout_ms=GIVE_UP_S * 1000,
        retry_backoff_ms=50,
        compression_type="lz4" if options.compressed else None,
    )
    while True:
        try:
            await producer.start()
            break
        except KafkaError:
            await asyncio.sleep(0.5)

    async def follow(sequence: int, future: Any) -> None:
        try:
            await future
            journal.line("acked", sequence)
        except KafkaError as error:
            journal.line("failed", sequence, repr(error))

    followers = []
    sequence = 0
    while not stop.asked:
        future = await producer.send(
            options.topic,
            value_of(options.name, sequence, options.record_bytes),
            partition=sequence % options.partitions,
        )
        followers.append(asyncio.ensure_future(follow(sequence, future)))
        sequence += 1
        await asyncio.sleep(1 / options.rate)
    await asyncio.wait_for(asyncio.gather(*followers), GIVE_UP_S)
    await producer.stop()


def produce_kafka_python(options: argparse.Namespace, journal: Journal, stop: Stop) -> None:
    from kafka import KafkaProducer
    from kafka.errors import KafkaError

    while True:
        try:
            producer = KafkaProducer(
                bootstrap_servers=options.bootstrap,
                enable_idempotence=True,
                linger_ms=5 if options.record_bytes < LARGE_BYTES else 50,
                batch_size=16_384 if options.record_bytes < LARGE_BYTES else 1_000_000,
                delivery_timeout_ms=GIVE_UP_S * 1000,
                request_timeout_ms=5000,
                retry_backoff_ms=50,
                reconnect_backoff_max_ms=500,
                max_block_ms=GIVE_UP_S * 1000,
                compression_type="gzip" if options.compressed else None,
            )
            break
        except KafkaError:
            time.sleep(0.5)

    def follow(sequence: int, future: Any) -> None:
        future.add_callback(lambda _: journal.line("acked", sequence))
        future.add_errback(lambda error: journal.line("failed", sequence, repr(error)))
        future.add_both(lambda _: room.release())

    # This library queues without end, and what has waited for `delivery_timeout_ms` is given up.
    room = threading.Semaphore(QUEUED_BYTES_MAX // max(options.record_bytes, 100))

    sequence = 0
    while not stop.asked:
        if not room.acquire(timeout=0.1):
            continue
        follow(
            sequence,
            producer.send(
                options.topic,
                value_of(options.name, sequence, options.record_bytes),
                partition=sequence % options.partitions,
            ),
        )
        sequence += 1
        time.sleep(1 / options.rate)
    producer.flush(GIVE_UP_S)
    producer.close()


def consume_librdkafka(options: argparse.Namespace, journal: Journal, stop: Stop) -> None:
    from confluent_kafka import Consumer

    consumer = Consumer(
        {
            "bootstrap.servers": options.bootstrap,
            "group.id": options.group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": True,
            "auto.commit.interval.ms": 500,
            "session.timeout.ms": 10_000,
            "log_level": 2,
            "reconnect.backoff.max.ms": 500,
            "enable.auto.offset.store": False,
            "socket.connection.setup.timeout.ms": 3000,
            "partition.assignment.strategy": "range",
        }
    )
    consumer.subscribe([options.topic])
    while not stop.asked:
        message = consumer.poll(0.2)
        if message is not None and message.error() is None:
            journal.line(message.partition(), message.offset(), text_of(message.value()))
            consumer.store_offsets(message)
    consumer.close()


async def consume_aiokafka(options: argparse.Namespace, journal: Journal, stop: Stop) -> None:
    from aiokafka import AIOKafkaConsumer
    from aiokafka.coordinator.assignors.range import RangePartitionAssignor
    from aiokafka.errors import KafkaError

    consumer = AIOKafkaConsumer(
        options.topic,
        bootstrap_servers=options.bootstrap,
        group_id=options.group,
        auto_offset_reset="earliest",
        auto_commit_interval_ms=500,
        session_timeout_ms=10_000,
        retry_backoff_ms=100,
        partition_assignment_strategy=[RangePartitionAssignor],
    )
    while not stop.asked:
        try:
            await consumer.start()
            break
        except KafkaError:
            await asyncio.sleep(0.5)
    while not stop.asked:
        for records in (await consumer.getmany(timeout_ms=200)).values():
            for record in records:
                journal.line(record.partition, record.offset, text_of(record.value))
    # It waits for tasks that it has cancelled, and lets through what they end with.
    with contextlib.suppress(asyncio.CancelledError):
        await consumer.stop()


def consume_kafka_python(options: argparse.Namespace, journal: Journal, stop: Stop) -> None:
    from kafka import KafkaConsumer
    from kafka.codec import has_lz4, has_zstd
    from kafka.coordinator.assignors.range import RangePartitionAssignor
    from kafka.errors import KafkaError

    if options.compressed and not (has_lz4() and has_zstd()):
        # What the other producers write it cannot read, and its poll would spin for ever at the first such batch.
        while not stop.asked:
            time.sleep(0.2)
        return
    while True:
        try:
            consumer = KafkaConsumer(
                options.topic,
                bootstrap_servers=options.bootstrap,
                group_id=options.group,
                auto_offset_reset="earliest",
                auto_commit_interval_ms=500,
                session_timeout_ms=10_000,
                retry_backoff_ms=100,
                reconnect_backoff_max_ms=500,
                partition_assignment_strategy=[RangePartitionAssignor],
            )
            break
        except KafkaError:
            time.sleep(0.5)
    while not stop.asked:
        try:
            batches = consumer.poll(timeout_ms=200)
        except KafkaError:  # this library lets a refused connection through; its users poll again
            time.sleep(0.2)
            continue
        for records in batches.values():
            for record in records:
                journal.line(record.partition, record.offset, text_of(record.value))
    consumer.close()


ROLES: dict[tuple[str, str], Any] = {
    ("produce", "librdkafka"): produce_librdkafka,
    ("produce", "aiokafka"): produce_aiokafka,
    ("produce", "kafka-python"): produce_kafka_python,
    ("consume", "librdkafka"): consume_librdkafka,
    ("consume", "aiokafka"): consume_aiokafka,
    ("consume", "kafka-python"): consume_kafka_python,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=["produce", "consume"])
    parser.add_argument("library", choices=LIBRARIES)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--partitions", type=int, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--group", default="chaos")
    parser.add_argument("--record-bytes", type=int, default=0)
    parser.add_argument("--compressed", action="store_true", help="each producer in a way of its own")
    parser.add_argument("--rate", type=float, default=200.0, help="records a second")
    parser.add_argument("--journal", type=pathlib.Path, required=True)
    options = parser.parse_args()
    result = ROLES[options.role, options.library](options, Journal(options.journal), Stop())
    if result is not None:
        asyncio.run(result)


if __name__ == "__main__":
    sys.exit(main())
