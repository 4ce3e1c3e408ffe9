"""Faults, each with its end; and what must hold through all of them: every acknowledged record, exactly once."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.e2e import clients
from tests.e2e.environment import StepFailed, get, items, kubectl, wait_for
from tests.e2e.world import World


def silence_through(world: World, name: str, topic: str, fault: Callable[[], None]) -> float:
    """A producer runs while it happens; the longest time without an acknowledgement. Nothing is lost or doubled."""
    bootstrap = world.outside(name)
    clients.create_topic(bootstrap, topic)
    with clients.SteadyProducer(bootstrap, topic) as producer:
        wait_for("records are acknowledged", lambda: len(producer.acked) > 50, 30)
        began = time.monotonic()
        fault()
        time.sleep(1)
        world.wait_ready(name, 120)
        known = len(producer.acked)
        wait_for("records are acknowledged again", lambda: len(producer.acked) > known + 50, 60)
        seconds = producer.longest_silence_s(began)
    clients.check_exactly_once(world.outside(name), topic, producer)
    return seconds


def one_replacement(world: World, name: str, topic: str, change: Callable[[], None], *, timeout_s: float = 90) -> float:
    """The change replaces the pod once, and the producer's longest silence is returned."""
    uid = world.pod(name)["metadata"]["uid"]
    seen = {uid}

    def settled() -> bool:
        pod = world.pod(name)
        if pod:
            seen.add(pod["metadata"]["uid"])
        return (
            len(seen) > 1
            and world.condition(name, "Progressing") == ("False", "Settled")
            and world.condition(name, "Ready")[0] == "True"
        )

    def fault() -> None:
        change()
        wait_for("the pod is replaced and all is settled", settled, timeout_s)
        time.sleep(3)
        settled()

    seconds = silence_through(world, name, topic, fault)
    if len(seen) != 2:
        raise StepFailed(f"the pod was replaced {len(seen) - 1} times")
    return seconds


def same_pod_throughout(world: World, name: str, topic: str, fault: Callable[[], None]) -> float:
    """The fault is nobody's reason to replace or restart the broker; the producer's longest silence."""
    before = _incarnation(world, name)
    seconds = silence_through(world, name, topic, fault)
    if _incarnation(world, name) != before:
        raise StepFailed(f"the broker was replaced or restarted: {world.events(name)}")
    return seconds


def _incarnation(world: World, name: str) -> tuple[str, int]:
    pod = world.pod(name)
    return pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"]


def lost_node(world: World, name: str, topic: str, break_word: str, mend_word: str) -> float:
    """Break the broker's node; the replacement serves elsewhere, and the old one acknowledges nothing more."""
    away_from_the_first_node(world, name)
    node, old = world.node_of(name), world.outside(name)
    clients.create_topic(old, topic)
    try:
        with clients.SteadyProducer(old, topic) as producer:
            wait_for("records are acknowledged", lambda: len(producer.acked) > 50, 30)
            world.environment.node(break_word, node)
            began = time.monotonic()
            wait_for("a pod elsewhere", lambda: world.pod(name).get("spec", {}).get("nodeName", node) != node, 180)
            time.sleep(1)
            world.wait_ready(name, 120)
            seconds = time.monotonic() - began
            time.sleep(3)
        values = clients.read_all(world.outside(name), topic)
        there = set(values)
        lost = [value for value in producer.acked if value not in there]
        if lost or len(values) != len(there):
            raise StepFailed(f"{len(lost)} acknowledged records are not on the replacement: {lost[:3]}")
    finally:
        mend(world, mend_word, node)
    world.wait_event(name, "ReplacingBroker")
    return seconds


def mend(world: World, word: str, *nodes: str) -> None:
    """Put nodes right, and wait until Kubernetes agrees."""
    for node in nodes:
        world.environment.node(word, node)
    for node in nodes:
        kubectl("wait", "--for=condition=Ready", f"node/{node}", "--timeout=120s")


def away_from_the_first_node(world: World, name: str) -> None:
    """The first node carries the cluster's DNS; break another."""
    world.environment.node("exec", "node1", "true")
    if world.node_of(name) != "node1":
        return
    kubectl("cordon", "node1")
    try:
        world.delete_pod(name, force=False)
        wait_for(
            "a pod on another node", lambda: world.pod(name).get("spec", {}).get("nodeName", "node1") != "node1", 90
        )
        time.sleep(1)
        world.wait_ready(name, 90)
    finally:
        kubectl("uncordon", "node1")


def broker_process(world: World, name: str) -> tuple[str, str]:
    """Node, and the broker's process id in that node."""
    pod = world.pod(name)
    container = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    for line in world.environment.node("exec", world.node_of(name), "ctr", "-n", "k8s.io", "tasks", "ls").splitlines():
        task, process, *_ = line.split()
        if task == container:
            return world.node_of(name), process
    raise StepFailed(f"the node does not know container {container}")


@contextmanager
def stopped_process(world: World, name: str) -> Iterator[None]:
    """The broker's process stands still."""
    node, process = broker_process(world, name)
    world.environment.node("exec", node, "kill", "-STOP", process)
    try:
        yield
    finally:
        world.environment.node("exec", node, "kill", "-CONT", process)


@contextmanager
def port_blocked_for_the_operator(world: World, name: str, port: int) -> Iterator[None]:
    """The operator's packets to this port of the broker are dropped, as a NetworkPolicy does; the kubelet's are not."""
    node, process = broker_process(world, name)
    pods = items("pod", world.system, "app.kubernetes.io/name=automq-operator")
    addresses = [pod["status"]["podIP"] for pod in pods if pod["status"].get("podIP")]

    def rule(verb: str, address: str) -> None:
        words = ["INPUT", "-p", "tcp", "--dport", str(port), "-s", address, "-j", "DROP"]
        world.environment.node("exec", node, "nsenter", "-t", process, "-n", "iptables", verb, *words)

    for address in addresses:
        rule("-I", address)
    try:
        yield
    finally:
        for address in addresses:
            rule("-D", address)


@contextmanager
def store_stopped(world: World) -> Iterator[None]:
    """No S3 server; its data stay."""
    world.environment.s3("stop")
    try:
        yield
    finally:
        world.environment.s3("start")


@contextmanager
def drained(world: World, node: str) -> Iterator[None]:
    """`kubectl drain` of a node, evictions and all."""
    kubectl(
        "drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--pod-selector=automq.io/role=broker",
        "--timeout=90s",
    )  # fmt: skip
    try:
        yield
    finally:
        kubectl("uncordon", node)


def nodes() -> list[str]:
    """All real nodes."""
    found = json.loads(kubectl("get", "nodes", "-o", "json"))["items"]
    return [node["metadata"]["name"] for node in found if node["metadata"].get("labels", {}).get("type") != "kwok"]


def is_ready(node: str) -> bool:
    """What Kubernetes says of a node."""
    conditions = get("node", node, "default")["status"]["conditions"]
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)
