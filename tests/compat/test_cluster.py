"""Real processes on one store are one cluster, for real clients: its controller dies, a broker comes back."""

import contextlib
import json
import pathlib
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic

from automq.protocol.apis import ApiKey
from automq.protocol.errors import ErrorCode
from automq.protocol.messages.controller import UnregisterBrokerRequest
from tests.support.broker_processes import SERVE_S, Place, Process
from tests.support.process import free_port
from tests.support.raw_client import FETCH_VERSION, RawClient, fetch_of

PARTITIONS = 6


class Cluster:
    """Brokers by node id, each at addresses that it keeps."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.place = Place(folder)
        self.processes: dict[int, Process] = {}
        self.ports = {node: (free_port(), free_port()) for node in (1, 2, 3)}

    def start(self, *nodes: int, **settings: object) -> None:
        for node in nodes:
            port, http_port = self.ports[node]
            self.processes[node] = self.place.broker(
                http_port=http_port,
                node__id=node,
                listeners=f"PLAINTEXT://127.0.0.1:{port}",
                automq__memory__bytes=128 * 1024 * 1024,
                group__initial__rebalance__delay__ms=0,
                **settings,
            )
        for node in nodes:
            self.place.until_ready(self.ports[node][1])

    def address(self, *nodes: int) -> str:
        return ",".join(f"127.0.0.1:{self.ports[node][0]}" for node in nodes)

    def admin(self, *nodes: int) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.address(*nodes)})

    def controller(self, *asked: int) -> int:
        """As the brokers that are asked agree on it; -1 while they do not."""
        found = {self.admin(node).list_topics(timeout=5).controller_id for node in asked}
        return found.pop() if len(found) == 1 else -1

    def readiness(self, node: int) -> dict[str, Any]:
        """What its /readyz answers."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[node][1]}/readyz", timeout=5) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def leaders(self, topic: str, *asked: int) -> dict[int, int]:
        metadata = self.admin(*asked).list_topics(topic, timeout=10)
        return {index: part.leader for index, part in metadata.topics[topic].partitions.items()}

    def create(self, topic: str, partitions: int, *asked: int) -> None:
        """Until it is there: clients ask again, too."""

        # Kept: what a client that is gone was asked never ends.
        admin = self.admin(*asked)

        def try_to() -> bool:
            with contextlib.suppress(KafkaException):
                admin.create_topics([NewTopic(topic, partitions, 1)], request_timeout=5)[topic].result(SERVE_S)
            return topic in admin.list_topics(timeout=5).topics

        until(try_to)


def until(is_so: Callable[[], bool], timeout_s: float = SERVE_S) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(KafkaException):
            if is_so():
                return
        assert time.monotonic() < deadline, is_so
        time.sleep(0.1)


@pytest.fixture
def cluster(tmp_path: pathlib.Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    yield made
    made.place.end()


def produce(cluster: Cluster, topic: str, partitions: list[int], *asked: int, prefix: str) -> None:
    """A record to each partition; every one is acknowledged."""
    producer = Producer({"bootstrap.servers": cluster.address(*asked), "enable.idempotence": True})
    failures: list[object] = []
    for index in partitions:
        producer.produce(
            topic,
            f"{prefix}{index}",
            partition=index,
            on_delivery=lambda error, _message: failures.append(error) if error is not None else None,
        )
    assert producer.flush(SERVE_S) == 0
    assert failures == []


def consume(cluster: Cluster, topic: str, count: int, *asked: int, group: str) -> Counter[str]:
    """So many records, as a member of a group that begins at the start."""
    consumer = Consumer(
        {"bootstrap.servers": cluster.address(*asked), "group.id": group, "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([topic])
    found: Counter[str] = Counter()
    deadline = time.monotonic() + SERVE_S
    try:
        while found.total() < count:
            assert time.monotonic() < deadline, found
            message = consumer.poll(0.5)
            if message is not None and message.error() is None:
                found[message.value().decode()] += 1
    finally:
        consumer.close()
    return found


def test_three_processes_are_one_cluster_and_outlive_their_controller(cluster: Cluster) -> None:
    cluster.start(1)
    cluster.start(2, 3)
    until(lambda: cluster.controller(1, 2, 3) == 1)

    # Made through a broker that is not the controller, produced through another, read through a third.
    cluster.create("orders", PARTITIONS, 2)
    leaders = cluster.leaders("orders", 3)
    assert Counter(leaders.values()) == {1: 2, 2: 2, 3: 2}
    everything = list(leaders)
    produce(cluster, "orders", everything, 3, prefix="a")
    assert consume(cluster, "orders", PARTITIONS, 1, group="readers") == {f"a{index}": 1 for index in everything}

    cluster.processes[1].popen.send_signal(signal.SIGKILL)
    cluster.processes[1].wait()
    others = [index for index, leader in leaders.items() if leader != 1]
    produce(cluster, "orders", others, 2, prefix="b")
    until(lambda: cluster.controller(2, 3) in (2, 3))
    cluster.create("more", 2, 3)
    assert set(cluster.leaders("more", 2).values()) <= {2, 3}
    produce(cluster, "more", [0, 1], 3, prefix="m")

    # Back again it follows, and what it led is led by somebody, with everything that was acknowledged.
    cluster.start(1)
    assert cluster.controller(1, 2, 3) in (2, 3)
    produce(cluster, "orders", everything, 1, prefix="c")
    expected = {f"a{index}": 1 for index in everything} | {f"b{index}": 1 for index in others}
    expected |= {f"c{index}": 1 for index in everything}
    assert consume(cluster, "orders", len(expected), 2, group="judges") == expected


def test_a_broker_that_joins_is_given_its_share_under_load_and_a_dead_ones_share_is_given_on(cluster: Cluster) -> None:
    cluster.start(1, automq__balancer__interval__ms=500)
    cluster.create("orders", 12, 1)
    producer = Producer({"bootstrap.servers": cluster.address(1), "enable.idempotence": True, "linger.ms": 1})
    failures: list[object] = []
    sent: list[str] = []

    def send() -> None:
        for index in range(12):
            sent.append(f"r{len(sent)}")
            producer.produce(
                "orders",
                sent[-1],
                partition=index,
                on_delivery=lambda error, _message: failures.append(error) if error is not None else None,
            )
        producer.poll(0.01)

    def spread(*nodes: int) -> bool:
        send()
        return Counter(cluster.leaders("orders", 1).values()) == dict.fromkeys(nodes, 12 // len(nodes))

    send()
    cluster.start(2, 3)
    until(lambda: spread(1, 2, 3))
    for _ in range(20):
        send()

    cluster.processes[3].popen.send_signal(signal.SIGKILL)
    cluster.processes[3].wait()
    until(lambda: spread(1, 2))
    assert producer.flush(SERVE_S) == 0
    assert failures == []
    assert consume(cluster, "orders", len(sent), 1, 2, group="judges") == Counter(sent)


def test_a_drained_broker_says_when_it_is_empty(cluster: Cluster) -> None:
    cluster.start(1)
    cluster.start(2)
    cluster.create("orders", 4, 2)
    produce(cluster, "orders", [0, 1, 2, 3], 1, prefix="d")
    assert cluster.readiness(2)["empty"] is False

    draining = ConfigEntry("automq.broker.draining", "true", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.BROKER, "2", incremental_configs=[draining])
    admin = cluster.admin(1)
    admin.incremental_alter_configs([resource])[resource].result(SERVE_S)

    until(lambda: cluster.readiness(2)["empty"] is True)
    shown = cluster.readiness(2)
    assert (shown["state"], shown["ledPartitions"], shown["notEmpty"]) == ("Serving", 0, None)
    assert set(cluster.leaders("orders", 1).values()) == {1}
    assert cluster.readiness(1)["empty"] is False


def test_a_dead_broker_is_forgotten_with_what_is_configured_for_it(cluster: Cluster) -> None:
    cluster.start(1)
    cluster.start(2)
    cluster.create("orders", 2, 1)
    produce(cluster, "orders", [0, 1], 1, prefix="u")
    epoch = cluster.readiness(2)["brokerEpoch"]

    def unregister(node: int, of_epoch: int) -> ErrorCode:
        client = RawClient(cluster.address(1))
        request = UnregisterBrokerRequest(broker_id=node, broker_epoch=of_epoch)
        answer = client.call(ApiKey.UNREGISTER_BROKER, 0, request)
        client.close()
        return ErrorCode(answer.error_code)

    assert unregister(2, epoch) is ErrorCode.INVALID_REQUEST, "it sends heartbeats"
    cluster.processes[2].popen.send_signal(signal.SIGKILL)
    cluster.processes[2].wait()
    assert unregister(2, epoch) is ErrorCode.NONE
    assert unregister(2, epoch) is ErrorCode.BROKER_ID_NOT_REGISTERED
    assert sorted(cluster.admin(1).list_topics(timeout=5).brokers) == [1]
    assert consume(cluster, "orders", 2, 1, group="judges") == {"u0": 1, "u1": 1}


def test_a_broker_that_wakes_up_after_its_session_gives_no_stale_answer(cluster: Cluster) -> None:
    cluster.start(1)
    cluster.start(2)
    cluster.create("orders", 2, 1)
    (ours,) = [index for index, leader in cluster.leaders("orders", 1).items() if leader == 2]
    produce(cluster, "orders", [ours], 1, prefix="a")
    reader = RawClient(cluster.address(2))
    reader.call(ApiKey.FETCH, FETCH_VERSION, fetch_of("orders", {ours: 0}, max_wait=0))

    cluster.processes[2].popen.send_signal(signal.SIGSTOP)
    # Asked while it cannot answer: that lies in its socket when it wakes up.
    reader.send(ApiKey.FETCH, FETCH_VERSION, fetch_of("orders", {ours: 0}, max_wait=0))
    until(lambda: cluster.leaders("orders", 1)[ours] == 1)
    produce(cluster, "orders", [ours], 1, prefix="b")
    cluster.processes[2].popen.send_signal(signal.SIGCONT)

    with pytest.raises(ConnectionError):
        reader.receive()
    reader.close()
    # Whichever it learns first as it wakes up, that its proof is too old or that it is fenced.
    cluster.processes[2].wait_for("the broker begins anew")
    assert consume(cluster, "orders", 2, 1, group="judges") == {f"a{ours}": 1, f"b{ours}": 1}


def test_controller_that_is_stopped_hands_over(cluster: Cluster) -> None:
    cluster.start(1)
    cluster.start(2)
    cluster.create("orders", 2, 2)

    cluster.processes[1].popen.send_signal(signal.SIGTERM)
    assert cluster.processes[1].wait() == 0

    until(lambda: cluster.controller(2) == 2)
    assert "names its successor" in cluster.processes[1].text
    cluster.create("more", 1, 2)
    produce(cluster, "more", [0], 2, prefix="m")


def test_up_with_several_brokers_is_a_cluster_that_one_signal_ends(tmp_path: pathlib.Path) -> None:
    place = Place(tmp_path)
    up = place.run("up", "--brokers", "2", "--port", "0", "--data-dir", str(tmp_path / "data"))
    try:
        up.wait_for("bootstrap: ")
        line = next(line for line in up.text.splitlines() if line.startswith("bootstrap: "))
        admin = AdminClient({"bootstrap.servers": line.removeprefix("bootstrap: ")})
        until(lambda: sorted(admin.list_topics(timeout=5).brokers) == [1, 2])

        up.popen.send_signal(signal.SIGTERM)
        assert up.wait() == 0
    finally:
        # Not killed at once: it ends its brokers.
        up.popen.terminate()
        up.wait()
        place.end()


def test_balance_shows_pauses_and_explains_whoever_is_the_controller(cluster: Cluster) -> None:
    cluster.start(1, automq__balancer__interval__ms=500)
    cluster.create("orders", 6, 1)

    def balance(*arguments: str, asked: int = 1) -> Any:
        """Asked again while there is no controller, as a person would."""
        command = [sys.executable, "-m", "automq", "balance", "--bootstrap", cluster.address(asked), *arguments]
        deadline = time.monotonic() + SERVE_S
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SERVE_S)
        while done.returncode and time.monotonic() < deadline:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SERVE_S)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if "--json" in arguments else done.stdout

    assert balance("--pause", "--json")["paused"] is True
    cluster.start(2, automq__balancer__interval__ms=500)
    # A broker that does not know: the controller is asked through it.
    until(lambda: len(balance("--dry-run", "--json", asked=2)["planned"]) == 3)
    assert "leads 2.00 of the mean" in balance("--dry-run", asked=2)
    assert Counter(cluster.leaders("orders", 1).values()) == {1: 6}

    assert balance("--resume", "--json", asked=2)["paused"] is False
    until(lambda: Counter(cluster.leaders("orders", 1).values()) == {1: 3, 2: 3})
    until(lambda: {move["state"] for move in balance("--explain", "--json")["moves"]} == {"done"})
    explained = balance("--explain", "--json")["moves"]
    assert [(move["source"], move["target"]) for move in explained] == [(1, 2)] * 3
    assert all(move["reason"] and move["expected"] and move["undo"]["partitions"] for move in explained)

    # Another controller tells the same of the past.
    balance("--pause")
    controller = cluster.controller(1)
    other = 3 - controller
    cluster.processes[controller].popen.send_signal(signal.SIGKILL)
    cluster.processes[controller].wait()
    until(lambda: cluster.controller(other) == other)

    def past() -> list[tuple[str, int, str]]:
        moves = balance("--explain", "--json", asked=other)["moves"]
        return [(move["topic"], move["partition"], move["reason"]) for move in moves]

    until(lambda: past() == [(move["topic"], move["partition"], move["reason"]) for move in explained])
