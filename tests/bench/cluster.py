"""What moves, drains and failures of a cluster cost its clients: `make bench-cluster` writes docs/benchmarks.md.

Brokers are processes on a folder that answers a PUT after 50 ms and a GET after 20 (`slow_broker`). A failure's time is
taken apart by what the survivors log: detection ends with the fence, recovery with the end of the dead log; the rest,
until a client's last record is acknowledged, is opening, and the client's own finding out.
"""

import datetime
import math
import pathlib
import re
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.bench.report import Row, at_most
from tests.support.cluster_admin import reassign, set_draining
from tests.support.cluster_processes import Member, Members, until

SLOW_BROKER: Final = ("tests.bench.slow_broker",)
MIB: Final = 1 << 20
WAIT_S: Final = 180.0
CLIENT: Final = {
    "enable.idempotence": True,
    "linger.ms": 1,
    "log_level": 0,
    "retry.backoff.ms": 20,
    "retry.backoff.max.ms": 100,
    "reconnect.backoff.max.ms": 200,
    "topic.metadata.refresh.fast.interval.ms": 50,
}
AT_ONCE: Final = {"enable.idempotence": False, "max.in.flight.requests.per.connection": 1000}
FENCED: Final = re.compile(r"^(\S+) \S+ automq.controller.membership: broker fenced", re.M)
RECOVERED: Final = re.compile(r"^(\S+) \S+ \S+log_recovery: write-ahead log of a dead broker recovered", re.M)
LED: Final = re.compile(r"^(\S+) \S+ automq.server.roles: .*came=WON", re.M)


class Cluster:
    """So many brokers on one slow folder, nothing uploaded but on demand, and nothing balanced."""

    def __init__(self, folder: pathlib.Path, brokers: int, **settings: object) -> None:
        self.folder, self.settings = folder, settings
        self.members = Members(*[self.member(node) for node in range(1, brokers + 1)])

    def member(self, node: int) -> Member:
        standard: dict[str, object] = {
            "automq__memory__bytes": 1300 * MIB,
            "automq__arena__bytes": 512 * MIB,
            "automq__upload__bytes": 256 * MIB,
            "automq__wal__interval__ms": 250,
            "automq__compaction__enable": "false",
            "automq__balancer__enable": "false",
        }
        return Member(
            self.folder, node, f"file://{self.folder}/store", command=SLOW_BROKER, **{**standard, **self.settings}
        )

    def __enter__(self) -> "Cluster":
        self.members.start()
        until(lambda: self.members.controller() == 1, WAIT_S, what="all know the controller")
        return self

    def __exit__(self, *_: object) -> None:
        self.members.end()

    def create(self, topic: str, leaders: Sequence[int]) -> None:
        """A partition for each of them, led by it."""
        admin = AdminClient({"bootstrap.servers": self.members.bootstrap, "log_level": 0})
        wanted = NewTopic(topic, num_partitions=len(leaders), replica_assignment=[[node] for node in leaders])
        admin.create_topics([wanted], request_timeout=60)[topic].result(90)
        expected = {(topic, index): node for index, node in enumerate(leaders)}
        until(
            lambda: all(member.led_by(topic) == expected for member in self.members.running),
            WAIT_S,
            what=f"{topic} is led as wanted",
        )

    def producer(self, **settings: Any) -> Producer:
        return producer_of(self.members, **settings)

    def fill(self, topic: str, partitions: Sequence[int], *, megabytes: float, batch_bytes: int) -> None:
        """See `fill`."""
        fill(self.members, topic, partitions, megabytes=megabytes, batch_bytes=batch_bytes)

    def store_requests(self) -> Counter[str]:
        """So far, by what a person calls them."""
        found: Counter[str] = Counter()
        for member in self.members.running:
            for name in ("PutObject", "GetObject"):
                found[name] += int(member.metric("automq_store_requests_total", operation=name))
        return found


class Bootstrapped(Protocol):
    """What clients connect to."""

    @property
    def bootstrap(self) -> str:
        """Addresses of brokers."""
        ...


def fill(brokers: Bootstrapped, topic: str, partitions: Sequence[int], *, megabytes: float, batch_bytes: int) -> None:
    """Each record is a batch of its own."""
    producer, failed = producer_of(brokers, **AT_ONCE, **{"linger.ms": 0, "batch.num.messages": 1}), Failures()
    value = bytes(batch_bytes)
    for number in range(int(megabytes * 1e6 / batch_bytes)):
        while True:
            try:
                producer.produce(topic, value, partition=partitions[number % len(partitions)], on_delivery=failed)
                break
            except BufferError:
                producer.poll(0.05)
        producer.poll(0)
    assert producer.flush(WAIT_S) == 0
    assert failed.count == 0


def producer_of(members: Bootstrapped, **settings: Any) -> Producer:
    """One that soon asks again."""
    return Producer({"bootstrap.servers": members.bootstrap, **CLIENT, **settings})


class Failures:
    """What a producer was told that it could not do."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, error: object, _message: object) -> None:
        self.count += error is not None


class Flow:
    """Records at a rate into some partitions, in a thread, and when each was acknowledged."""

    def __init__(self, members: Bootstrapped, topic: str, partitions: int, *, rate: float, record_bytes: int) -> None:
        self._producer = producer_of(members)
        self._topic, self._partitions, self._rate, self._value = topic, partitions, rate, bytes(record_bytes)
        self.acked_at: list[float] = []
        self.failed = Failures()
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name="flow")

    def __enter__(self) -> "Flow":
        self._thread.start()
        until(lambda: len(self.acked_at) > 10, WAIT_S, what="records flow")
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self._thread.join()
        assert self._producer.flush(WAIT_S) == 0

    def _on_delivery(self, error: Any, message: Any) -> None:
        self.failed(error, message)
        self.acked_at.append(time.time())

    def _run(self) -> None:
        began, sent = time.time(), 0
        while not self._is_over:
            due = int((time.time() - began) * self._rate)
            for number in range(sent, due):
                self._producer.produce(
                    self._topic, self._value, partition=number % self._partitions, on_delivery=self._on_delivery
                )
            sent = max(sent, due)
            self._producer.poll(0.002)

    def stall_s(self, since: float, until_s: float) -> float:
        """The longest time without an acknowledgement."""
        times = [since, *(each for each in list(self.acked_at) if since <= each <= until_s), until_s]
        return max(after - before for before, after in zip(times, times[1:], strict=False))


def quantile(values: Sequence[float], fraction: float) -> float:
    return sorted(values)[max(0, math.ceil(len(values) * fraction) - 1)]


def logged(members: Sequence[Member], pattern: re.Pattern[str], since: float) -> list[float]:
    """Seconds after `since` of the lines that match, ascending."""
    found = []
    for member in members:
        for text in pattern.findall(member.log.read_text()):
            at = datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() - since
            if at >= 0:
                found.append(at)
    return sorted(found)


def moves(folder: pathlib.Path, *, trials: int) -> Iterator[Row]:
    """One partition under 10 MB/s goes to and fro between two brokers that are not the controller."""
    with Cluster(folder / "moves", 3) as cluster:
        controller, *others = cluster.members.all
        cluster.create("moved", [2])
        with Flow(cluster.members, "moved", 1, rate=1000, record_bytes=10_000) as flow:
            time.sleep(2)
            usual, whole, stalls, sealed = [], [], [], []
            before_all = cluster.store_requests()
            for number in range(trials):
                time.sleep(1)
                usual.append(flow.stall_s(time.time() - 1, time.time()))
                target, source = others[(number + 1) % 2], others[number % 2]
                before = source.metric("automq_partition_sealed_seconds_sum")
                began = time.time()
                reassign(controller, "moved", {0: [target.node]})
                until(
                    lambda node=target.node: controller.led_by("moved")["moved", 0] == node,  # type: ignore[misc]
                    WAIT_S,
                    what="the partition has moved",
                )
                whole.append(time.time() - began)
                time.sleep(1.5)
                stalls.append(flow.stall_s(began, time.time()))
                sealed.append(source.metric("automq_partition_sealed_seconds_sum") - before)
            requests = cluster.store_requests() - before_all
        assert flow.failed.count == 0
    what = f"move of a partition under 10 MB/s ({trials} moves)"
    yield at_most(f"{what}: sealed, p50", statistics.median(sealed), "s", 0.4)
    yield at_most(f"{what}: sealed, p99", quantile(sealed, 0.99), "s", 1.0)
    yield at_most(f"{what}: client stall, p50", statistics.median(stalls), "s", 0.5)
    yield at_most(f"{what}: client stall, p99", quantile(stalls, 0.99), "s", 1.2)
    yield Row(f"{what}: longest wait without a move, p50", statistics.median(usual), "s")
    yield Row(f"{what}: whole move, p50", statistics.median(whole), "s")
    yield Row(f"{what}: PUTs in all, produced data's included", requests["PutObject"], "")


def drains(folder: pathlib.Path, *, partitions: int, limit_s: float) -> Iterator[Row]:
    """All partitions of one broker, a record in each, go to two others."""
    with Cluster(folder / f"drain-{partitions}", 3) as cluster:
        controller = cluster.members.by_node[1]
        cluster.create("drained", [3] * partitions)
        cluster.fill("drained", range(partitions), megabytes=partitions * 1e-4, batch_bytes=100)
        before, began = cluster.store_requests(), time.time()
        set_draining(cluster.members.by_node[3], is_draining=True)
        until(lambda: set(controller.led_by("drained").values()) == {1, 2}, WAIT_S, what="the broker is drained")
        took_s = time.time() - began
        requests = cluster.store_requests() - before
    yield at_most(f"drain of a broker of {partitions:,} partitions", took_s, "s", limit_s)
    yield Row(f"drain of a broker of {partitions:,} partitions: PUTs", requests["PutObject"], "")


def kills(
    folder: pathlib.Path,
    *,
    trials: int,
    dead: int,
    brokers: int,
    partitions: int,
    megabytes: float,
    batch_bytes: int,
    limits_s: Mapping[str, float],
) -> Iterator[Row]:
    """kill -9 of `dead` brokers at once that lead `partitions` each; a record to each one, until it is acknowledged."""
    parts: dict[str, list[float]] = {name: [] for name in ("fenced", "recovered", "writable", "cpu")}
    for trial in range(trials):
        with Cluster(folder / f"kills-{dead}-{batch_bytes}-{trial}", brokers) as cluster:
            victims = cluster.members.all[-dead:]
            leaders = [victim.node for victim in victims for _ in range(partitions)]
            cluster.create("killed", leaders)
            cluster.fill("killed", range(len(leaders)), megabytes=megabytes * dead, batch_bytes=batch_bytes)
            # librdkafka asks for one partition a request, and an idempotent one for five at a time.
            producer, failed = cluster.producer(**AT_ONCE), Failures()
            survivors = cluster.members.all[:-dead]
            cpu_s = sum(member.cpu_s() for member in survivors)
            began = time.time()
            for victim in victims:
                victim.kill()
            for index in range(len(leaders)):
                producer.produce("killed", b"again", partition=index, on_delivery=failed)
            assert producer.flush(WAIT_S) == 0
            parts["writable"].append(time.time() - began)
            assert failed.count == 0
            parts["fenced"].append(logged(survivors, FENCED, began)[-1])
            parts["recovered"].append(logged(survivors, RECOVERED, began)[-1])
            parts["cpu"].append((sum(member.cpu_s() for member in survivors) - cpu_s) / (megabytes * dead) * 100)
    what = f"kill -9 of {dead} of {brokers}, each {partitions} partitions and {megabytes:g} MB by {batch_bytes:,} B"
    for name, limit_s in limits_s.items():
        value = statistics.median(parts["writable"]) if name == "p50" else max(parts["writable"])
        yield at_most(f"{what}: all writable, {name} of {trials}", value, "s", limit_s)
    fenced, recovered = (statistics.median(parts[name]) for name in ("fenced", "recovered"))
    yield Row(f"{what}: of it until the fence", fenced, "s")
    yield Row(f"{what}: of it recovery", recovered - fenced, "s")
    yield Row(f"{what}: of it opening and the client", statistics.median(parts["writable"]) - recovered, "s")
    yield Row(f"{what}: survivors' CPU a 100 MB", statistics.median(parts["cpu"]), "s")


def controllers(folder: pathlib.Path, *, trials: int) -> Iterator[Row]:
    """kill -9 of the controller under load on the others."""
    again, elected, stalls, failures = [], [], [], 0
    for trial in range(trials):
        with Cluster(folder / f"controller-{trial}", 3) as cluster:
            cluster.create("kept", [2, 3])
            with Flow(cluster.members, "kept", 2, rate=200, record_bytes=100) as flow:
                time.sleep(2)
                began = time.time()
                cluster.members.by_node[1].kill()
                until(lambda: _creates(cluster), WAIT_S, what="topics can be created")
                again.append(time.time() - began)
                elected.append(logged(cluster.members.all[1:], LED, began)[0])
                stalls.append(flow.stall_s(began, time.time()))
            failures += flow.failed.count
    what = f"controller killed ({trials} trials)"
    yield at_most(f"{what}: failed records on others' partitions", failures, "", 0)
    yield at_most(f"{what}: topics can be created, most", max(again), "s", 6)
    yield Row(f"{what}: another one is elected, p50", statistics.median(elected), "s")
    yield Row(f"{what}: longest wait for an acknowledgement, p50", statistics.median(stalls), "s")


def _creates(cluster: Cluster) -> bool:
    """Asked anew each time: who waits for a dead broker waits for a client's time-outs."""
    admin = AdminClient({"bootstrap.servers": cluster.members.by_node[2].address, "log_level": 0})
    name = f"after-{time.time_ns()}"
    try:
        admin.create_topics([NewTopic(name, 1)], request_timeout=1.0)[name].result(1.5)
    except Exception:  # noqa: BLE001  whatever it is, it is asked again
        return False
    return True


def joins(folder: pathlib.Path) -> Iterator[Row]:
    """A fourth broker joins three that take 0.9 MB/s on 90 partitions."""
    with Cluster(folder / "joins", 3, automq__balancer__enable="true") as cluster:
        cluster.create("spread", [1 + index % 3 for index in range(90)])
        with Flow(cluster.members, "spread", 90, rate=900, record_bytes=1000) as flow:
            time.sleep(10)
            joined = cluster.member(4)
            began = time.time()
            joined.start()
            until(joined.is_serving, WAIT_S, what="the fourth serves")
            serving_s = time.time() - began
            everybody = [*cluster.members.all, joined]
            try:
                until(lambda: _is_even(everybody), WAIT_S, what="bytes in are even")
                took_s = time.time() - began - 5
            finally:
                joined.kill()
        assert flow.failed.count == 0
    yield at_most("a broker joins three: bytes in within 10 % of the mean", took_s, "s", 30)
    yield Row("a broker joins three: it serves after", serving_s, "s")


def _is_even(members: Sequence[Member]) -> bool:
    """Over five seconds; one partition of 22 is the largest step."""
    before = [member.metric("automq_topic_in_bytes_total") for member in members]
    time.sleep(5)
    into = [member.metric("automq_topic_in_bytes_total") - was for member, was in zip(members, before, strict=True)]
    mean = statistics.fmean(into)
    return mean > 0 and all(abs(each - mean) <= 0.1 * mean for each in into)


def idle(folder: pathlib.Path, *, seconds: float) -> Iterator[Row]:
    """What five brokers without work write of metadata."""
    with Cluster(folder / "idle", 5) as cluster:
        time.sleep(5)
        before = _metadata_bytes(cluster), cluster.store_requests()
        time.sleep(seconds)
        sent, requests = _metadata_bytes(cluster) - before[0], cluster.store_requests() - before[1]
    yield at_most("idle cluster of 5: metadata written", sent / seconds * 3600 / 1e6, "MB/h", 20)
    yield Row("idle cluster of 5: PUTs, the lease's included", requests["PutObject"] / seconds * 3600, "1/h")
    yield Row("idle cluster of 5: GETs", requests["GetObject"] / seconds * 3600, "1/h")


def _metadata_bytes(cluster: Cluster) -> float:
    return sum(member.metric("automq_store_sent_bytes_total", purpose="metadata") for member in cluster.members.running)
