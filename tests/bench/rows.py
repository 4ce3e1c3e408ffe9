"""The rows of the benchmark: each measures one thing and says whether its goal holds.

GB and MB are powers of ten and count record values only. Ours and Kafka's runs alternate, the figure is the median.
"""

import asyncio
import mmap
import pathlib
import statistics
import time
from collections.abc import Callable, Iterator

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from automq.runtime.entropy import SystemEntropy
from automq.runtime.workers import ThreadWorkers
from automq.testing import start_broker
from tests.bench import (
    compaction,
    core,
    idle_bill,
    kinds,
    load,
    memory,
    metadata_answers,
    offset_commits,
    readers,
    validation,
)
from tests.bench.growth import growth
from tests.bench.load import create_topic
from tests.bench.report import Row, at_least, at_most
from tests.support.process import Broker, Kafka

PARTITIONS = 16
IDLE_PARTITIONS = 1000
UPLOAD_INTERVAL_S = 10
MEMORY_S = 180.0


def delete_topic(address: str, topic: str) -> None:
    # A client without a name would be ended before its answer is there.
    admin = AdminClient({"bootstrap.servers": address, "log_level": 2})
    admin.delete_topics([topic])[topic].result(30)


def store_cpu_s(broker: Broker, kind: str) -> float:
    return broker.metric("automq_store_cpu_seconds_total", kind=kind)


class Throughput:
    """Produce flat out, ours and Kafka's in turn; broker CPU a GB, split into WAL, upload and the rest."""

    GOALS = {"16 KB": (16_384, 2.5, 0.25), "64 KB": (65_536, 1.5, 0.3), "up to 1 MB": (1_000_000, 1.5, 0.33)}

    def __init__(self, folder: pathlib.Path, *, runs: int, gigabytes: float) -> None:
        self.folder, self.runs, self.records = folder, runs, int(gigabytes * 1e9 / load.RECORD_BYTES)

    def once(self, target: Broker | Kafka, topic: str, batch_bytes: int) -> tuple[float, float, dict[str, float]]:
        """Broker CPU s/GB, MB/s, and the share of WAL and upload (ours only)."""
        create_topic(target.address, topic)
        before, split = target.cpu_s(), dict.fromkeys(("wal", "upload"), 0.0)
        if isinstance(target, Broker):
            split = {kind: store_cpu_s(target, kind) for kind in split}
        result = load.run(
            "produce",
            target.address,
            topic,
            PARTITIONS,
            records=self.records,
            properties={"batch.size": str(batch_bytes)},
        )
        if isinstance(target, Broker):
            time.sleep(2)  # the uploads that this load caused belong to it
            split = {kind: store_cpu_s(target, kind) - was for kind, was in split.items()}
        gigabytes = result["bytes"] / 1e9
        cpu = (target.cpu_s() - before) / gigabytes
        delete_topic(target.address, topic)
        return cpu, result["MBps"], {kind: value / gigabytes for kind, value in split.items()}

    def rows(self) -> Iterator[Row]:
        ours = Broker(self.folder / "throughput")
        kafka = Kafka(self.folder / "kafka") if Kafka.built() else None
        targets: list[Broker | Kafka] = [ours, *([kafka] if kafka else [])]
        try:
            for target in targets:
                target.start()
                create_topic(target.address, "warm")
                load.run(
                    "produce",
                    target.address,
                    "warm",
                    PARTITIONS,
                    seconds=12 if target is kafka else 3,
                    properties={"batch.size": "16384"},
                )
            for name, (batch_bytes, limit, ratio) in self.GOALS.items():
                yield from self._of_size(targets, name, batch_bytes, limit, ratio)
            if kafka is None:
                yield Row("kafka, same load: SKIPPED, the testbed's build is not on this machine", 0, "")
        finally:
            for target in targets:
                target.stop()

    def _of_size(
        self, targets: list[Broker | Kafka], name: str, batch_bytes: int, limit: float, ratio: float
    ) -> Iterator[Row]:
        cpu: dict[str, list[float]] = {target.name: [] for target in targets}
        speed: dict[str, list[float]] = {target.name: [] for target in targets}
        shares: list[dict[str, float]] = []
        for run in range(self.runs):
            for target in targets:
                seconds, megabytes, split = self.once(target, f"t-{batch_bytes}-{run}", batch_bytes)
                cpu[target.name].append(seconds)
                speed[target.name].append(megabytes)
                if isinstance(target, Broker):
                    shares.append(split)
        median = {key: statistics.median(values) for key, values in cpu.items()}
        yield at_most(f"produce {name}: broker CPU", median["automq"], "s/GB", limit)
        wal, upload = (statistics.median(split[kind] for split in shares) for kind in ("wal", "upload"))
        yield Row(f"produce {name}: of it WAL writes", wal, "s/GB")
        yield Row(f"produce {name}: of it uploads", upload, "s/GB")
        yield Row(f"produce {name}: of it the rest", median["automq"] - wal - upload, "s/GB")
        yield Row(f"produce {name}: throughput", statistics.median(speed["automq"]), "MB/s")
        if "kafka" in median:
            yield Row(f"produce {name}: Kafka's CPU, same load", median["kafka"], "s/GB")
            yield Row(f"produce {name}: Kafka's throughput", statistics.median(speed["kafka"]), "MB/s")
            value = median["automq"] / median["kafka"]
            what = f"produce {name}: CPU, ours to Kafka's"
            yield at_most(what, value, "x", ratio)


def requests(folder: pathlib.Path, *, runs: int, seconds: float) -> Iterator[Row]:
    """Requests of one record each, pipelined by eight clients."""
    targets: list[Broker | Kafka] = [Broker(folder / "requests"), *([Kafka(folder / "kafka")] if Kafka.built() else [])]
    costs: dict[str, list[float]] = {target.name: [] for target in targets}
    rates: dict[str, list[float]] = {target.name: [] for target in targets}
    one_record = {"linger.ms": "0", "batch.num.messages": "1", "queue.buffering.max.messages": "2000"}
    try:
        for target in targets:
            target.start()
            create_topic(target.address, "t")
            load.run("produce", target.address, "t", PARTITIONS, clients=8, seconds=seconds, properties=one_record)
        for _ in range(runs):
            for target in targets:
                before = target.cpu_s()
                result = load.run(
                    "produce", target.address, "t", PARTITIONS, clients=8, seconds=seconds, properties=one_record
                )
                costs[target.name].append((target.cpu_s() - before) / result["records"] * 1e6)
                rates[target.name].append(result["rps"])
    finally:
        for target in targets:
            target.stop()
    yield at_most("requests of one record, 8 clients: broker CPU", statistics.median(costs["automq"]), "us", 25)
    yield Row("requests of one record, 8 clients: rate", statistics.median(rates["automq"]), "1/s")
    if "kafka" in costs:
        yield Row("requests of one record, 8 clients: Kafka's CPU", statistics.median(costs["kafka"]), "us")
        yield Row("requests of one record, 8 clients: Kafka's rate", statistics.median(rates["kafka"]), "1/s")


def store_put_p99_ms(folder: pathlib.Path, puts: int = 500) -> float:
    """p99 of the file store's own durable create of one small slot, one at a time."""
    from automq.s3stream.store.uri import open_store, parse_store_uri

    folder.mkdir(parents=True)

    async def measure() -> float:
        workers = ThreadWorkers(threads=2)
        store = open_store(parse_store_uri(f"file://{folder}/puts"), workers=workers, entropy=SystemEntropy())
        body, times = [memoryview(mmap.mmap(-1, 8192))], []
        for number in range(puts):
            began = time.perf_counter()
            await store.create(f"bench/{number:08d}", body)
            times.append((time.perf_counter() - began) * 1e3)
        await store.close()
        workers.close()
        return sorted(times)[int(puts * 0.99)]

    return asyncio.run(measure())


def latency(folder: pathlib.Path, *, runs: int, seconds: float) -> Iterator[Row]:
    """Produce latency at 1,000 records a second; then a consumer that reads what is still in the log cache."""
    broker = Broker(folder / "latency")
    try:
        broker.start()
        create_topic(broker.address, "t")
        results, floors = [], []
        for run in range(runs):
            floors.append(store_put_p99_ms(folder / f"latency-{run}"))
            results.append(
                load.run(
                    "produce",
                    broker.address,
                    "t",
                    PARTITIONS,
                    rate=1000,
                    seconds=seconds,
                    properties={"linger.ms": "0"},
                )
            )
        floor = statistics.median(floors)
        yield Row("the file store's own PUT p99", floor, "ms")
        yield Row("produce p50 at 1,000/s", statistics.median(r["p50"] for r in results), "ms")
        yield at_most("produce p99 at 1,000/s", statistics.median(r["p99"] for r in results), "ms", floor + 5)
    finally:
        broker.stop()


def consumer(folder: pathlib.Path, *, runs: int) -> Iterator[Row]:
    """One librdkafka consumer reading what lies in the log cache."""
    broker = Broker(folder / "consumer")
    records = 100_000
    try:
        broker.start()
        create_topic(broker.address, "t")
        load.run("produce", broker.address, "t", PARTITIONS, records=records, properties={"batch.size": "65536"})
        speeds, costs = [], []
        for _ in range(max(3, runs)):
            before = broker.cpu_s()
            result = load.run("consume", broker.address, "t", PARTITIONS, records=records - 1, seconds=30)
            speeds.append(result["MBps"])
            costs.append((broker.cpu_s() - before) / result["bytes"] * 1e9)
        yield at_least("hot consumer", statistics.median(speeds), "MB/s", 400)
        yield Row("hot consumer: broker CPU", statistics.median(costs), "s/GB")
    finally:
        broker.stop()


def idle(folder: pathlib.Path) -> Iterator[Row]:
    """A thousand partitions at rest: memory, start, and silence."""
    broker = Broker(folder / "idle")
    try:
        broker.start()
        create_topic(broker.address, "many", IDLE_PARTITIONS)
        producer = Producer({"bootstrap.servers": broker.address, "log_level": 2})
        for partition in range(IDLE_PARTITIONS):
            producer.produce("many", b"x", partition=partition)
        assert producer.flush(60) == 0
        broker.kill()
        yield at_most("1,000 partitions: ready after kill -9", broker.start(), "s", 3)
        time.sleep(2 * UPLOAD_INTERVAL_S)
        puts = broker.metric("automq_store_requests_total", operation="PutObject")
        lease = broker.metric("automq_lease_renewals_total")
        cpu = broker.cpu_s()
        time.sleep(20)
        yield at_most("1,000 idle partitions: RSS", broker.rss_mb(), "MB", 250)
        extra = (broker.metric("automq_store_requests_total", operation="PutObject") - puts) - (
            broker.metric("automq_lease_renewals_total") - lease
        )
        yield at_most("1,000 idle partitions: PUTs beside the lease in 20 s", extra, "", 0)
        yield Row("1,000 idle partitions: CPU", (broker.cpu_s() - cpu) / 20 * 100, "% of a core")
    finally:
        broker.stop()


def bill(folder: pathlib.Path, *, seconds: float) -> Iterator[Row]:
    """What a broker without work costs at a store that charges by the request."""
    for name, value, unit in idle_bill.measure(folder, seconds=seconds):
        goal = unit == "$"
        yield at_most(name, value, unit, idle_bill.DOLLARS_A_MONTH_MAX) if goal else Row(name, value, unit)


def memory_rows(folder: pathlib.Path, *, seconds: float) -> Iterator[Row]:
    """A broker with the memory of a small pod, under everything that holds memory at once."""
    for name, value, unit in memory.measure_half_sent(folder, seconds=min(30, seconds)):
        yield at_most(name, value, unit, 300) if "most RSS" in name else Row(name, value, unit)
    limits = {"most RSS": 460.0, "processes killed": 0.0}
    for name, value, unit in memory.measure(folder, seconds=seconds):
        limit = next((limit for part, limit in limits.items() if part in name and "SKIPPED" not in name), None)
        yield Row(name, value, unit) if limit is None else at_most(name, value, unit, limit)


def restart(folder: pathlib.Path, *, runs: int) -> Iterator[Row]:
    """kill -9 with 500 MB in the WAL; until a produce is acknowledged and the last old record read."""
    times = []
    for run in range(runs):
        broker = Broker(
            folder / f"restart-{run}",
            automq__upload__bytes=1 << 30,
            automq__upload__interval__ms=3_600_000,
            automq__arena__bytes=1 << 31,
        )
        try:
            broker.start()
            create_topic(broker.address, "t")
            records = int(500e6 / load.RECORD_BYTES)
            load.run("produce", broker.address, "t", PARTITIONS, records=records, properties={"batch.size": "65536"})
            last = Producer({"bootstrap.servers": broker.address, "acks": "all", "log_level": 2})
            last.produce("t", b"the last one", partition=0)
            assert last.flush(30) == 0
            broker.kill()
            began = time.monotonic()
            broker.start()
            _first_produce_and_last_read(broker.address)
            times.append(time.monotonic() - began)
        finally:
            broker.stop()
    yield at_most("restart after kill -9, 500 MB in the WAL: acknowledged and read", statistics.median(times), "s", 5)


def _first_produce_and_last_read(address: str) -> None:
    producer = Producer({"bootstrap.servers": address, "acks": "all", "log_level": 2})
    producer.produce("t", b"first after", partition=1)
    assert producer.flush(60) == 0
    consumer = Consumer({"bootstrap.servers": address, "group.id": "reader", "enable.auto.commit": False})
    low, high = consumer.get_watermark_offsets(TopicPartition("t", 0), timeout=30)
    assert low == 0
    consumer.assign([TopicPartition("t", 0, high - 1)])
    while (message := consumer.poll(1)) is None or message.error() is not None:
        pass
    assert message.value() == b"the last one"
    consumer.close()


def test_brokers(folder: pathlib.Path, *, runs: int) -> Iterator[Row]:
    """Until a test's own broker serves: `automq.testing`, as anybody's tests use it."""
    for name, in_process in (("a process", False), ("a thread", True)):
        times = []
        for number in range(runs + 1):
            began = time.monotonic()
            # As the pytest plugin starts it; the first one compiles and is not counted.
            with start_broker(in_process=in_process, bytecode_folder=folder / "bytecode"):
                if number:
                    times.append(time.monotonic() - began)
        yield at_most(
            f"automq.testing: a broker in {name} is ready (median of {runs})", statistics.median(times), "s", 2
        )


def all_rows(
    folder: pathlib.Path, *, quick: bool, memory_s: float = MEMORY_S
) -> dict[str, Callable[[], Iterator[Row]]]:
    """Every group of rows by name. `quick` runs each once and briefly: it shows that they work, not how fast."""
    runs, seconds, gigabytes = (1, 1, 0.1) if quick else (3, 6, 1.0)
    return {
        "throughput": Throughput(folder, runs=runs, gigabytes=gigabytes).rows,
        "requests": lambda: requests(folder, runs=runs, seconds=seconds),
        "latency": lambda: latency(folder, runs=runs, seconds=seconds),
        "consumer": lambda: consumer(folder, runs=runs),
        "metadata": lambda: metadata_answers.rows(quick=quick),
        "commits": lambda: offset_commits.rows(quick=quick),
        "readers": lambda: readers.rows(folder, runs=runs, seconds=seconds),
        "idle": lambda: idle(folder),
        "bill": lambda: bill(folder, seconds=20 if quick else 120),
        "memory": lambda: memory_rows(folder, seconds=20 if quick else memory_s),
        "restart": lambda: restart(folder, runs=runs),
        "compaction": lambda: compaction.rows(
            folder, runs=runs, seconds=4 if quick else 8, requests_s=20 if quick else 240
        ),
        "kinds": lambda: kinds.rows(folder, runs=runs, gigabytes=gigabytes / 2),
        "core": lambda: core.rows(runs=runs),
        "growth": lambda: growth(quick=quick),
        "validation": lambda: validation.rows(runs=runs, quick=quick),
        "testing": lambda: test_brokers(folder, runs=1 if quick else 10),
    }
