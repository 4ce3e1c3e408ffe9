"""Produce and consume in other shapes than the plain one: compressed, small records, idempotent, in Python alone.

Beside the plain row of the same minute, and Kafka's where its build is there; GB are those of plain record values. Each
row's requests are counted, too: a batch is only as large as what comes within `linger.ms`.
"""

import contextlib
import os
import pathlib
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.bench import load
from tests.bench.load import create_topic
from tests.bench.report import Row, at_most
from tests.support.process import Broker, Kafka

PARTITIONS = 16
CONSUMERS = 10
STARTS = 5


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How records are sent."""

    name: str
    properties: dict[str, str] = field(default_factory=dict)
    record_bytes: int = load.RECORD_BYTES
    compared_with: str = ""
    """Another kind."""
    ratio: float | None = None
    """Most CPU to that one's."""
    kafka_ratio: float | None = None
    """Most CPU to Kafka's."""


SIZE_16 = {"batch.size": "16384"}
# So long that batches fill: sixteen partitions share what comes meanwhile.
SIZE_1M = {"batch.size": "1000000", "linger.ms": "200"}
KINDS = (
    Kind(name="plain", properties=SIZE_16),
    Kind(name="100-byte records", properties=SIZE_16, record_bytes=100, compared_with="plain", ratio=1.15),
    Kind(name="lz4", properties=SIZE_16 | {"compression.type": "lz4"}, kafka_ratio=1.0),
    Kind(name="zstd", properties=SIZE_16 | {"compression.type": "zstd"}, kafka_ratio=1.0),
    Kind(name="5 in flight", properties=SIZE_16 | {"max.in.flight": "5"}),
    Kind(
        name="5 in flight, idempotent",
        properties=SIZE_16 | {"max.in.flight": "5", "enable.idempotence": "true"},
        compared_with="5 in flight",
        ratio=1.05,
    ),
    Kind(name="1 MB batches that are full", properties=SIZE_1M, kafka_ratio=0.33),
)


@contextlib.contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Of what is started meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


def produce_s_per_gb(target: Broker | Kafka, topic: str, kind: Kind, gigabytes: float) -> tuple[float, float]:
    """CPU of the broker with the uploads that follow, and KB a request (0 where that is not known)."""
    create_topic(target.address, topic)
    before = target.cpu_s()
    requests = _produced(target)
    result = load.run(
        "produce",
        target.address,
        topic,
        PARTITIONS,
        records=gigabytes * 1e9 / kind.record_bytes,
        record_bytes=kind.record_bytes,
        properties=kind.properties,
    )
    if isinstance(target, Broker):
        time.sleep(2)
    size = result["records"] * kind.record_bytes
    requests = _produced(target) - requests
    return (target.cpu_s() - before) / size * 1e9, size / requests / 1e3 if requests else 0.0


def _produced(target: Broker | Kafka) -> float:
    return target.metric("automq_request_seconds_count", api="Produce") if isinstance(target, Broker) else 0.0


def produced(folder: pathlib.Path, *, runs: int, gigabytes: float) -> Iterator[Row]:
    """Every kind, ours and Kafka's in turn."""
    targets: list[Broker | Kafka] = [Broker(folder / "kinds"), *([Kafka(folder / "kafka")] if Kafka.built() else [])]
    cpu: dict[tuple[str, str], list[float]] = {}
    sizes: dict[str, float] = {}
    try:
        for target in targets:
            target.start()
            produce_s_per_gb(target, "warm", KINDS[0], gigabytes / 2)
        for run in range(runs):
            for number, kind in enumerate(KINDS):
                for target in targets:
                    each, size = produce_s_per_gb(target, f"t-{number}-{run}", kind, gigabytes)
                    sizes[kind.name] = size or sizes[kind.name]
                    cpu.setdefault((target.name, kind.name), []).append(each)
    finally:
        for target in targets:
            target.stop()
    median = {key: statistics.median(values) for key, values in cpu.items()}
    for kind in KINDS:
        ours, theirs = median["automq", kind.name], median.get(("kafka", kind.name))
        yield Row(f"produce {kind.name}: broker CPU", ours, "s/GB")
        yield Row(f"produce {kind.name}: plain bytes of a request", sizes[kind.name], "KB")
        if kind.compared_with and kind.ratio is not None:
            to_other = ours / median["automq", kind.compared_with]
            yield at_most(f"produce {kind.name}: CPU, to {kind.compared_with}", to_other, "x", kind.ratio)
        if theirs is not None:
            name = f"produce {kind.name}: CPU, ours to Kafka's ({theirs:.2f} s/GB)"
            ratio = ours / theirs
            yield Row(name, ratio, "x") if kind.kafka_ratio is None else at_most(name, ratio, "x", kind.kafka_ratio)


def pure(folder: pathlib.Path, *, runs: int, gigabytes: float) -> Iterator[Row]:
    """The plain kind without the compiled core."""
    with environment(AUTOMQ_PURE="1"):
        broker = Broker(folder / "pure")
        try:
            broker.start()
            produce_s_per_gb(broker, "warm", KINDS[0], gigabytes / 2)
            costs = [produce_s_per_gb(broker, f"t-{run}", KINDS[0], gigabytes)[0] for run in range(runs)]
        finally:
            broker.stop()
    yield at_most("produce plain, in Python alone: broker CPU", statistics.median(costs), "s/GB", 4.5)


def consumed(folder: pathlib.Path, *, runs: int) -> Iterator[Row]:
    """What lies in the log cache, read by one and by ten of one partition; batches of 64 KB and of one record."""
    broker = Broker(folder / "consumed")
    records = 60_000
    shapes = {"64 KB batches": {"batch.size": "65536"}, "1 KB batches": {"batch.num.messages": "1", "linger.ms": "0"}}
    try:
        broker.start()
        for name, properties in shapes.items():
            topic = f"t-{len(properties)}"
            create_topic(broker.address, topic, 1)
            load.run("produce", broker.address, topic, 1, records=records, properties=properties)
            for count in (1, CONSUMERS) if len(properties) == 1 else (1,):
                costs = []
                for _ in range(runs):
                    before = broker.cpu_s()
                    results = load.run_together(
                        count, "consume", broker.address, topic, 1, records=records - 1, seconds=60
                    )
                    costs.append((broker.cpu_s() - before) / sum(each["bytes"] for each in results) * 1e9)
                goal = 1.2 if len(properties) > 1 else 0.3 if count == 1 else 0.25
                who = "hot consumer" if count == 1 else f"{count} consumers of one partition"
                yield at_most(f"{who}, {name}: broker CPU", statistics.median(costs), "s/GB out", goal)
    finally:
        broker.stop()


def starts(folder: pathlib.Path) -> Iterator[Row]:
    """From the start of the process until it serves."""
    fresh, again = [], []
    for number in range(STARTS):
        broker = Broker(folder / f"start-{number}")
        try:
            fresh.append(broker.start())
            broker.stop()
            again.append(broker.start())
        finally:
            broker.stop()
    yield at_most(f"start to Ready, new folder (median of {STARTS})", statistics.median(fresh), "s", 0.7)
    yield at_most(f"restart to Ready (median of {STARTS})", statistics.median(again), "s", 0.7)


def rows(folder: pathlib.Path, *, runs: int, gigabytes: float) -> Iterator[Row]:
    """All rows of the group."""
    yield from starts(folder)
    yield from produced(folder, runs=runs, gigabytes=gigabytes)
    yield from pure(folder, runs=runs, gigabytes=gigabytes)
    yield from consumed(folder, runs=runs)
