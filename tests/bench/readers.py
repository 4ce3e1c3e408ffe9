"""Consumers in numbers and of all kinds: those that do not read, that read old data, that are wide, that wait.

Consumers that no library can be are a few lines on a socket, driven from a process of their own (`python -m
tests.bench.readers ...`), so that what they cost is not the measuring process's.
"""

import contextlib
import json
import pathlib
import selectors
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from automq.protocol.apis import ApiKey
from tests.bench import load
from tests.bench.load import create_topic
from tests.bench.report import Row, at_least, at_most
from tests.support.process import ROOT, Broker
from tests.support.raw_client import FETCH_VERSION, RawClient, fetch_of, stalled

MEMORY = pathlib.Path("/dev/shm")
STALLED = 1000
COLD_STALLED = 200
IDLE = 1000
WIDE_CONSUMERS = 20
WIDE_PARTITIONS = 1000
WIDE_RATE = 1000
WIDE_WAIT_MS = 5000
"""Who asks for a megabyte waits for it: with the default of half a second the time decides, and not the bytes."""


@contextlib.contextmanager
def consumers(kind: str, address: str, topic: str, count: int) -> Iterator[None]:
    """So many consumers in a process of their own, once all are connected."""
    command = [sys.executable, "-m", "tests.bench.readers", kind, address, topic, str(count)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "ready"
    try:
        yield
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        assert process.stdin is not None
        process.stdin.close()


def cpu_percent(broker: Broker, seconds: float) -> float:
    """Of a core."""
    before, began = broker.cpu_s(), time.monotonic()
    time.sleep(seconds)
    return (broker.cpu_s() - before) / (time.monotonic() - began) * 100


def produce_p99_ms(broker: Broker, topic: str, seconds: float) -> float:
    """At 5 MB/s, which leaves the machine room for what is compared."""
    result = load.run("produce", broker.address, topic, 16, rate=5_000, seconds=seconds, properties={"linger.ms": "5"})
    return result["p99"]


def stalled_hot(*, runs: int, seconds: float) -> Iterator[Row]:
    """Producers beside consumers that ask for everything and take nothing.

    The store lies in memory: a disk that others sync moves a p99 from 15 ms to 700 within a minute, with or without
    consumers beside it.
    """
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        yield from _stalled_hot(pathlib.Path(folder), runs=runs, seconds=seconds)


def _stalled_hot(folder: pathlib.Path, *, runs: int, seconds: float) -> Iterator[Row]:
    broker = Broker(folder / "stalled")
    try:
        broker.start()
        create_topic(broker.address, "t", 16)
        load.run("produce", broker.address, "t", 16, records=100_000, properties={"batch.size": "65536"})
        produce_p99_ms(broker, "t", 2)
        quiet, loud = [], []
        # Each run has its own quiet one, before and after it, and the median is that of the runs' ratios.
        quiet.append(produce_p99_ms(broker, "t", seconds))
        for _ in range(runs if runs == 1 else max(5, runs)):
            with consumers("stalled", broker.address, "t", STALLED):
                time.sleep(2)
                loud.append(produce_p99_ms(broker, "t", seconds))
            quiet.append(produce_p99_ms(broker, "t", seconds))
        beside = zip(quiet, quiet[1:], loud, strict=False)
        ratio = statistics.median(2 * each / (before + after) for before, after, each in beside)
        yield Row("produce p99, quiet", statistics.median(quiet), "ms")
        yield at_most(f"produce p99 beside {STALLED:,} consumers that do not read, to quiet", ratio, "x", 1.5)
        yield Row("produce p99 beside them", statistics.median(loud), "ms")
        yield Row(
            "account of what is not taken", broker.metric("automq_memory_bytes", account="reader_pins") / 1e6, "MB"
        )
    finally:
        broker.stop()


def cold_speed(broker: Broker, megabytes: int) -> float:
    """MB/s of one consumer that reads partition 0 from its beginning."""
    client = RawClient(broker.address, client_id="healthy")
    offset = total = 0
    began = time.monotonic()
    while total < megabytes * 1e6:
        response = client.call(ApiKey.FETCH, FETCH_VERSION, fetch_of("t", {0: offset}, partition_max_bytes=4_000_000))
        (partition,) = response.responses[0].partitions
        assert partition.error_code == 0
        records = bytes(partition.records or b"")
        total += len(records)
        offset = _end_of(records, offset)
    client.close()
    return total / (time.monotonic() - began) / 1e6


def _end_of(records: bytes, offset: int) -> int:
    position = 0
    while position < len(records):
        base = int.from_bytes(records[position : position + 8], "big")
        offset = base + int.from_bytes(records[position + 23 : position + 27], "big") + 1
        position += 12 + int.from_bytes(records[position + 8 : position + 12], "big")
    return offset


def stalled_cold(folder: pathlib.Path, *, runs: int) -> Iterator[Row]:
    """One consumer of old data beside many that ask for old data and take nothing."""
    broker = Broker(folder / "cold", automq__arena__bytes=64 << 20)
    try:
        broker.start()
        create_topic(broker.address, "t", 1)
        load.run("produce", broker.address, "t", 1, records=300_000, properties={"batch.size": "65536"})
        alone, beside = [], []
        for _ in range(runs):
            alone.append(cold_speed(broker, 150))
            with consumers("cold", broker.address, "t", COLD_STALLED):
                beside.append(cold_speed(broker, 150))
        ratio = statistics.median(beside) / statistics.median(alone)
        yield Row("cold reader alone", statistics.median(alone), "MB/s")
        yield at_least(f"cold reader beside {COLD_STALLED} that do not read, to alone", ratio, "x", 0.7)
    finally:
        broker.stop()


def min_bytes(folder: pathlib.Path, *, runs: int) -> Iterator[Row]:
    """librdkafka that asks for at least so much at once."""
    broker = Broker(folder / "min-bytes")
    cases: dict[str, dict[str, str]] = {
        "1 byte": {},
        "1 MB": {"fetch.min.bytes": "1048576", "max.partition.fetch.bytes": "1048576"},
        "10 MB": {
            "fetch.min.bytes": "10000000",
            "max.partition.fetch.bytes": "20000000",
            "fetch.max.bytes": "50000000",
        },
    }
    records = 100_000
    speeds: dict[str, list[float]] = {name: [] for name in cases}
    try:
        broker.start()
        create_topic(broker.address, "t", 1)
        load.run("produce", broker.address, "t", 1, records=records, properties={"batch.size": "65536"})
        for _ in range(max(3, runs)):
            for name, properties in cases.items():
                # The last bytes of a log are waited for: what is measured ends before them.
                wanted = records * 4 // 5
                result = load.run("consume", broker.address, "t", 1, records=wanted, seconds=60, properties=properties)
                speeds[name].append(result["MBps"])
    finally:
        broker.stop()
    base = statistics.median(speeds["1 byte"])
    yield Row("hot consumer, one partition", base, "MB/s")
    for name in ("1 MB", "10 MB"):
        ratio = statistics.median(speeds[name]) / base
        yield at_least(f"hot consumer with fetch.min.bytes of {name}, to the default", ratio, "x", 0.8)


def wide(folder: pathlib.Path, *, seconds: float) -> Iterator[Row]:
    """Consumers of very many partitions that wait for much, while a little is produced to each."""
    broker = Broker(folder / "wide")
    done = threading.Event()
    try:
        broker.start()
        create_topic(broker.address, "t", WIDE_PARTITIONS)
        producing = threading.Thread(target=_trickle, args=(broker.address, done))
        producing.start()
        time.sleep(5)
        alone = cpu_percent(broker, seconds)
        with consumers("wide", broker.address, "t", WIDE_CONSUMERS):
            time.sleep(5)
            beside = cpu_percent(broker, seconds)
        with consumers("wide-default", broker.address, "t", WIDE_CONSUMERS):
            time.sleep(5)
            often = cpu_percent(broker, seconds)
        name = f"{WIDE_CONSUMERS} consumers of {WIDE_PARTITIONS:,} partitions, min.bytes 1 MB, {WIDE_RATE:,} records/s"
        yield Row("1,000 records/s to 1,000 partitions: CPU", alone, "% of a core")
        yield at_most(f"{name}: CPU beside that", beside - alone, "% of a core", 10)
        yield Row("- with a max.wait of 500 ms, which ends most waits", often - alone, "% of a core")
    finally:
        done.set()
        broker.stop()


def _trickle(address: str, done: threading.Event) -> None:
    producer = Producer({"bootstrap.servers": address, "linger.ms": 5, "log_level": 0})
    began, sent = time.monotonic(), 0
    while not done.is_set():
        while sent < (time.monotonic() - began) * WIDE_RATE:
            producer.produce("t", bytes(100), partition=sent * 7 % WIDE_PARTITIONS)
            sent += 1
        producer.poll(0.005)


def idle_consumers(folder: pathlib.Path, *, seconds: float) -> Iterator[Row]:
    """Consumers at the end of the log, each with a Fetch that waits its half second."""
    broker = Broker(folder / "idle-consumers")
    try:
        broker.start()
        create_topic(broker.address, "t", 16)
        time.sleep(3)
        alone = cpu_percent(broker, seconds)
        with consumers("idle", broker.address, "t", IDLE):
            time.sleep(2)
            fetches = broker.metric("automq_request_seconds_count", api="Fetch")
            beside = cpu_percent(broker, seconds)
            rate = (broker.metric("automq_request_seconds_count", api="Fetch") - fetches) / seconds
        yield Row(f"{IDLE:,} idle long-polling consumers: fetches", rate, "1/s")
        yield at_most(f"{IDLE:,} idle long-polling consumers: CPU", beside - alone, "% of a core", 5)
        yield Row("a fetch that waits in vain: CPU", (beside - alone) / 100 / rate * 1e6, "us")
    finally:
        broker.stop()


def rows(folder: pathlib.Path, *, runs: int, seconds: float) -> Iterator[Row]:
    """All rows of the group."""
    yield from stalled_hot(runs=runs, seconds=seconds)
    yield from stalled_cold(folder, runs=runs)
    yield from min_bytes(folder, runs=runs)
    yield from wide(folder, seconds=seconds)
    yield from idle_consumers(folder, seconds=seconds)


# The consumers' own process.


def _stall(address: str, topic: str, count: int, *, partitions: int, from_end: bool) -> list[RawClient]:
    ends = [0] * partitions
    if from_end:
        consumer = Consumer({"bootstrap.servers": address, "group.id": "x"})
        ends = [consumer.get_watermark_offsets(TopicPartition(topic, index))[1] for index in range(partitions)]
        consumer.close()
    clients = []
    for number in range(count):
        index = number % partitions
        # What is hot is some 200 MB; what was written first is cold.
        start = max(0, ends[index] - 4_000) if from_end else number * 1_000
        clients.append(stalled(address, topic, {index: start}))
    return clients


class _Poller:
    """A consumer that fetches on and on: its position is what it was given last."""

    def __init__(self, address: str, topic: str, partitions: int, **options: Any) -> None:
        self.client = RawClient(address)
        self.topic, self.options = topic, options
        self.offsets = dict.fromkeys(range(partitions), 0)
        self.epoch, self.session_id = 0, 0
        self.ask(self.offsets)

    def ask(self, offsets: dict[int, int]) -> None:
        """For these partitions from these offsets on, and the others as before."""
        request = fetch_of(self.topic, offsets, session_id=self.session_id, session_epoch=self.epoch, **self.options)
        self.client.send(ApiKey.FETCH, FETCH_VERSION, request)

    def take(self) -> None:
        """Receive what came, and ask for what follows it."""
        response = self.client.receive()
        self.session_id, self.epoch = response.session_id, self.epoch + 1
        moved = {}
        for topic in response.responses:
            for partition in topic.partitions:
                if partition.records:
                    index = partition.partition_index
                    moved[index] = self.offsets[index] = _end_of(bytes(partition.records), self.offsets[index])
        self.ask(moved)


def _poll(pollers: list[_Poller]) -> None:
    selector = selectors.DefaultSelector()
    for poller in pollers:
        selector.register(poller.client.socket, selectors.EVENT_READ, poller)
    while True:
        for key, _ in selector.select():
            key.data.take()


def main() -> None:
    kind, address, topic, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    pollers: list[_Poller] = []
    kept: list[RawClient] = []
    match kind:
        case "stalled":
            kept = _stall(address, topic, count, partitions=16, from_end=True)
        case "cold":
            kept = _stall(address, topic, count, partitions=1, from_end=False)
        case "wide":
            options = {"max_wait": WIDE_WAIT_MS, "min_bytes": 1_000_000, "partition_max_bytes": 1_048_576}
            pollers = [_Poller(address, topic, WIDE_PARTITIONS, **options) for _ in range(count)]
        case "wide-default":
            options = {"max_wait": 500, "min_bytes": 1_000_000, "partition_max_bytes": 1_048_576}
            pollers = [_Poller(address, topic, WIDE_PARTITIONS, **options) for _ in range(count)]
        case "idle":
            pollers = [_Poller(address, topic, 1) for _ in range(count)]
        case _:
            sys.exit(json.dumps({"unknown": kind}))
    time.sleep(1)
    print("ready", flush=True)
    _poll(pollers)
    del kept


if __name__ == "__main__":
    main()
