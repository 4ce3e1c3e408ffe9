"""Everything that holds memory at once, on a broker with default settings and a pod's limit: does it stay within it?

2,000 partitions trickle, 200 groups commit, readers of old data come back and back, 60 connections send half a request
and 60 readers take nothing; whoever of the last two is closed connects again.
"""

import contextlib
import pathlib
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from automq.protocol.apis import ApiKey
from automq.protocol.messages.offset import OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic
from automq.server.config.memory import MEMORY_SHARE
from tests.support.cgroup import MemoryGroup, memory_group
from tests.support.process import Broker
from tests.support.raw_client import FETCH_VERSION, RawClient, fetch_of, stalled

MIB = 1 << 20
LIMIT_BYTES = 512 * MIB
TOPICS, PARTITIONS = 20, 100
GROUPS = 200
COLD_MB = 300
HALF_SENT = STALLED = 60


class Load:
    """Threads that do one thing each until the end; whatever breaks off begins again."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.ended = threading.Event()
        self.latencies_s: list[float] = []
        self._threads: list[threading.Thread] = []

    def start(self, step: Callable[[], None], *, every_s: float = 0.0) -> None:
        def work() -> None:
            while not self.ended.is_set():
                with contextlib.suppress(OSError, ConnectionError):
                    step()
                self.ended.wait(every_s)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        self._threads.append(thread)

    def end(self) -> None:
        self.ended.set()
        for thread in self._threads:
            thread.join(20)

    def trickle(self) -> Callable[[], None]:
        """One record into each partition."""
        producer = Producer({"bootstrap.servers": self.broker.address, "acks": "all", "log_level": 2, "linger.ms": 20})

        def step() -> None:
            for topic in range(TOPICS):
                for partition in range(PARTITIONS):
                    with contextlib.suppress(BufferError):
                        producer.produce(f"trickle-{topic}", bytes(200), partition=partition)
                producer.poll(0)

        return step

    def probe(self) -> Callable[[], None]:
        """How long one record takes."""
        producer = Producer({"bootstrap.servers": self.broker.address, "acks": "all", "log_level": 2, "linger.ms": 0})

        def step() -> None:
            began = time.monotonic()
            producer.produce("trickle-0", bytes(200), partition=0)
            producer.flush(60)
            self.latencies_s.append(time.monotonic() - began)

        return step

    def commit(self) -> None:
        """Every group commits ten partitions."""
        client = RawClient(self.broker.address)
        try:
            while not self.ended.is_set():
                for group in range(GROUPS):
                    partitions = [
                        OffsetCommitRequestPartition(
                            partition_index=index, committed_offset=int(time.monotonic()), committed_metadata=""
                        )
                        for index in range(10)
                    ]
                    topics = [OffsetCommitRequestTopic(name=f"trickle-{group % TOPICS}", partitions=partitions)]
                    request = OffsetCommitRequest(
                        group_id=f"group-{group}", generation_id_or_member_epoch=-1, member_id="", topics=topics
                    )
                    client.call(ApiKey.OFFSET_COMMIT, 8, request)
                self.ended.wait(1)
        finally:
            client.close()

    def read_cold(self) -> None:
        """All of the old data, from the first on."""
        client = RawClient(self.broker.address)
        try:
            for partition in range(8):
                offset = 0
                while not self.ended.is_set():
                    answer = client.call(ApiKey.FETCH, FETCH_VERSION, fetch_of("cold", {partition: offset}))
                    found = answer.responses[0].partitions[0]
                    records = found.records
                    if not records:
                        break
                    position = 0
                    while position + 61 <= len(records):
                        base, length = struct.unpack_from(">qi", records, position)
                        (last,) = struct.unpack_from(">i", records, position + 23)
                        offset = base + last + 1
                        position += 12 + length
        finally:
            client.close()

    def send_half(self, size: int) -> None:
        """A request of `size` bytes, six tenths of it, and then nothing until the broker closes."""
        host, port = self.broker.address.rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=2) as client:
            client.sendall(struct.pack(">ihhih", size, ApiKey.PRODUCE, 9, 1, -1))
            piece, left = bytes(64 * 1024), size * 6 // 10
            while not self.ended.is_set():
                try:
                    if left > 0:
                        left -= client.send(piece[:left])
                    elif not client.recv(1):
                        return
                except TimeoutError:
                    continue

    def stall(self) -> None:
        """Ask for everything, and take nothing."""
        client = stalled(self.broker.address, "cold", dict.fromkeys(range(8), 0))
        self.ended.wait(60)
        client.close()


def accounts(broker: Broker) -> dict[str, tuple[float, float]]:
    """Held and limit of each account in MB."""
    names = re.findall(r'account="(\w+)"', broker.page("/metrics"))
    return {
        name: (
            broker.metric("automq_memory_bytes", account=name) / 1e6,
            broker.metric("automq_memory_limit_bytes", account=name) / 1e6,
        )
        for name in dict.fromkeys(names)
    }


@dataclass
class Most:
    """The most that was seen of everything."""

    broker_mb: float = 0.0
    group_mb: float = 0.0
    accounts_mb: dict[str, float] = field(default_factory=dict)

    def look(self, broker: Broker, group: MemoryGroup | None) -> None:
        """Look once."""
        self.broker_mb = max(self.broker_mb, broker.rss_mb())
        if group is not None:
            self.group_mb = max(self.group_mb, group.resident_bytes / 1e6)
        for name, (held, _) in accounts(broker).items():
            self.accounts_mb[name] = max(self.accounts_mb.get(name, 0.0), held)


def measure(folder: pathlib.Path, *, seconds: float) -> Iterator[tuple[str, float, str]]:
    """Name, value and unit of each figure. The broker runs in a control group with the limit, where one can be made."""
    with memory_group(LIMIT_BYTES) as group:
        yield from measure_within(group, folder, seconds=seconds)


def measure_within(
    group: MemoryGroup | None, folder: pathlib.Path, *, seconds: float
) -> Iterator[tuple[str, float, str]]:
    """See `measure`."""
    if group is None:
        broker = Broker(folder / "memory", automq__memory__bytes=int(LIMIT_BYTES * MEMORY_SHARE))
    else:
        # Default settings: it finds the limit by itself.
        broker = Broker(folder / "memory")
        broker.entrance = group.entrance
    load = Load(broker)
    try:
        broker.start()
        yield "memory: RSS after the start", broker.rss_mb(), "MB"
        _create_topics(broker)
        _fill(broker)
        yield "memory: RSS with 2,000 partitions and 300 MB produced", broker.rss_mb(), "MB"
        for step, every_s in ((load.trickle(), 1.0), (load.probe(), 0.1), (load.commit, 1.0)):
            load.start(step, every_s=every_s)
        for _ in range(4):
            load.start(load.read_cold)
        for number in range(HALF_SENT):
            size = (24, 10, 1)[number % 3] * 1_000_000
            load.start(lambda size=size: load.send_half(size), every_s=1.0)  # type: ignore[misc]
        for _ in range(STALLED):
            load.start(load.stall, every_s=1.0)
        most = Most()
        limits = {name: limit for name, (_, limit) in accounts(broker).items()}
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            most.look(broker, group)
            time.sleep(0.5)
        yield "memory: most RSS with a limit of 512 MiB", most.broker_mb, "MB"
        if group is not None:
            yield "memory: most RSS with its compaction process, in a control group", most.group_mb, "MB"
            yield "memory: most charged to the group, cached files included", group.peak_bytes / 1e6, "MB"
            yield "memory: processes killed by the limit", group.killed, ""
        else:
            yield "memory: SKIPPED, no control group can be made here: processes killed by the limit", 0, ""
        for name, held in most.accounts_mb.items():
            yield f"memory: most of {name}, of {limits[name]:.1f}", held, "MB"
        latencies = sorted(load.latencies_s)
        yield "memory: produce p50", latencies[len(latencies) // 2] * 1000, "ms"
        yield "memory: produce p99", latencies[len(latencies) * 99 // 100] * 1000, "ms"
        yield "memory: produced records", float(len(latencies)), ""
    finally:
        load.end()
        broker.stop()


def measure_half_sent(folder: pathlib.Path, *, seconds: float) -> Iterator[tuple[str, float, str]]:
    """60 MB each of requests of 100 MB, on a broker with default settings, beside one healthy producer."""
    broker = Broker(folder / "half-sent")
    load = Load(broker)
    try:
        broker.start()
        admin = AdminClient({"bootstrap.servers": broker.address, "log_level": 2})
        admin.create_topics([NewTopic("trickle-0", 1, 1)])["trickle-0"].result(60)
        load.start(load.probe(), every_s=0.02)
        time.sleep(seconds / 2)
        quiet, load.latencies_s = sorted(load.latencies_s), []
        for _ in range(HALF_SENT):
            load.start(lambda: load.send_half(100_000_000), every_s=1.0)
        peak, until = 0.0, time.monotonic() + seconds
        while time.monotonic() < until:
            peak = max(peak, broker.rss_mb())
            time.sleep(0.2)
        busy = sorted(load.latencies_s)
        yield "half-sent: most RSS with 60 requests of 100 MB", peak, "MB"
        for name, latencies in (("quiet", quiet), ("half-sent", busy)):
            yield f"half-sent: produce p50, {name}", latencies[len(latencies) // 2] * 1000, "ms"
            yield f"half-sent: produce p99, {name}", latencies[len(latencies) * 99 // 100] * 1000, "ms"
        yield "half-sent: connections closed", broker.metric("automq_requests_stalled_total"), ""
    finally:
        load.end()
        broker.stop()


def _create_topics(broker: Broker) -> None:
    admin = AdminClient({"bootstrap.servers": broker.address, "log_level": 2})
    topics = [NewTopic(f"trickle-{number}", PARTITIONS, 1) for number in range(TOPICS)]
    for future in admin.create_topics([*topics, NewTopic("cold", 8, 1)]).values():
        future.result(60)


def _fill(broker: Broker) -> None:
    producer = Producer({"bootstrap.servers": broker.address, "acks": "all", "log_level": 2, "linger.ms": 20})
    record = bytes(1000)
    for number in range(COLD_MB * 1000):
        while True:
            try:
                producer.produce("cold", record, partition=number % 8)
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(120) == 0
