"""The same faults and moves on three of our brokers and on three nodes of Apache Kafka, in one run.

Ours keep everything in a folder that answers like a bucket (`slow_broker`); Kafka has three replicas of what a node is
killed under, on a folder in memory that adds no latency. Each runs with its own defaults: a session of 3 s here, of 9 s
there. What moves has one replica on both sides, as Kafka copies one history for each replica that is new.
"""

import os
import pathlib
import signal
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from confluent_kafka.admin import AdminClient, NewTopic

from automq.cli.client import KafkaClient
from automq.server.config.setting import Address
from tests.bench.cluster import AT_ONCE, WAIT_S, Cluster, Failures, Flow, fill, producer_of
from tests.bench.report import Row
from tests.support.cluster_admin import reassign
from tests.support.cluster_processes import until
from tests.support.process import Kafka

NODES = (1, 2, 3)
PARTITIONS = 30


class Side(Protocol):
    """Three brokers, 1 to 3; the first is the controller, or takes no part."""

    name: str

    @property
    def bootstrap(self) -> str:
        """Of all of them."""
        ...

    def client(self) -> KafkaClient:
        """To the first."""
        ...

    def kill(self, node: int) -> None:
        """kill -9."""
        ...


class Ours:
    """Of automq."""

    name = "automq"

    def __init__(self, cluster: Cluster) -> None:
        self._members = cluster.members

    @property
    def bootstrap(self) -> str:
        return self._members.bootstrap

    def client(self) -> KafkaClient:
        return self._members.by_node[1].client()

    def kill(self, node: int) -> None:
        self._members.by_node[node].kill()


class Theirs:
    """Of Apache Kafka."""

    name = "Apache Kafka"

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka

    @property
    def bootstrap(self) -> str:
        return ",".join(f"127.0.0.1:{self._kafka.port + number}" for number in range(len(NODES)))

    def client(self) -> KafkaClient:
        return KafkaClient(Address(host="127.0.0.1", port=self._kafka.port))

    def kill(self, node: int) -> None:
        os.kill(self._kafka.pids[node - 1], signal.SIGKILL)


@contextmanager
def _ours(folder: pathlib.Path) -> Iterator[Side]:
    with Cluster(folder / "ours", len(NODES)) as cluster:
        yield Ours(cluster)


@contextmanager
def _theirs(folder: pathlib.Path) -> Iterator[Side]:
    kafka = Kafka(folder / "theirs", nodes=len(NODES))
    try:
        kafka.start()
        yield Theirs(kafka)
    finally:
        kafka.stop()


def _create(side: Side, topic: str, replicas: Sequence[Sequence[int]]) -> None:
    admin = AdminClient({"bootstrap.servers": side.bootstrap, "log_level": 0})
    wanted = NewTopic(topic, num_partitions=len(replicas), replica_assignment=[list(each) for each in replicas])
    admin.create_topics([wanted], request_timeout=60)[topic].result(90)
    expected = {index: (each[0], len(each)) for index, each in enumerate(replicas)}
    until(lambda: _led(side, topic) == expected, WAIT_S, what=f"{topic} is led as wanted")


def _led(side: Side, topic: str) -> Mapping[int, tuple[int, int]]:
    """Leader of each partition, and how many replicas are in sync."""
    admin = AdminClient({"bootstrap.servers": side.bootstrap, "log_level": 0})
    found = admin.list_topics(topic, timeout=30).topics[topic].partitions
    return {index: (part.leader, len(part.isrs)) for index, part in found.items()}


def _killed_s(side: Side) -> float:
    """From kill -9 of a broker that leads `PARTITIONS` to a new record acknowledged on each of them."""
    _create(side, "killed", [[3, 1 + index % 2, 2 - index % 2] for index in range(PARTITIONS)])
    fill(side, "killed", range(PARTITIONS), megabytes=20, batch_bytes=16_384)
    producer, failed = producer_of(side, **AT_ONCE), Failures()
    began = time.time()
    side.kill(3)
    for index in range(PARTITIONS):
        producer.produce("killed", b"again", partition=index, on_delivery=failed)
    assert producer.flush(WAIT_S) == 0
    assert failed.count == 0
    return time.time() - began


def _moved_s(side: Side, *, megabytes: int, moves: int) -> tuple[list[float], list[float]]:
    """Whole moves of one partition under 10 MB/s with so much history, and the client's longest wait in each."""
    topic = f"moved-{megabytes}"
    _create(side, topic, [[2]])
    fill(side, topic, [0], megabytes=megabytes, batch_bytes=64_000)
    whole, stalls = [], []
    with Flow(side, topic, 1, rate=1000, record_bytes=10_000) as flow:
        for number in range(moves):
            time.sleep(1)
            target = 3 if number % 2 == 0 else 2
            began = time.time()
            reassign(side, topic, {0: [target]})
            until(lambda node=target: _led(side, topic)[0] == (node, 1), WAIT_S, what="it has moved")  # type: ignore[misc]
            whole.append(time.time() - began)
            time.sleep(1.5)
            stalls.append(flow.stall_s(began, time.time()))
    assert flow.failed.count == 0
    return whole, stalls


def beside_kafka(folder: pathlib.Path, *, trials: int) -> Iterator[Row]:
    """Rows of both, one under the other; none where Apache Kafka is not built."""
    if not Kafka.built():
        print("beside Kafka: SKIPPED, Apache Kafka is not built in the testbed", flush=True)
        return
    made: dict[str, list[float]] = {}
    for trial in range(trials):
        # In turn, so that what else the machine does concerns both.
        sides: list[AbstractContextManager[Side]] = [_ours(folder / f"{trial}"), _theirs(folder / f"{trial}")]
        for opened in sides:
            with opened as side:
                for megabytes in (1, 200):
                    whole, stalls = _moved_s(side, megabytes=megabytes, moves=2)
                    what = f"move of a partition under 10 MB/s with {megabytes} MB of history"
                    made.setdefault(f"{what}: whole move, {side.name}", []).extend(whole)
                    made.setdefault(f"{what}: client stall, {side.name}", []).extend(stalls)
                what = f"kill -9 of 1 of 3 that leads {PARTITIONS} partitions with 20 MB: all writable"
                made.setdefault(f"{what}, {side.name}", []).append(_killed_s(side))
    for name, values in sorted(made.items()):
        yield Row(f"{name}, p50 of {len(values)}", statistics.median(values), "s")
        yield Row(f"{name}, most", max(values), "s")
