"""What several brokers must outlive: lost nodes, another image, an autoscaler and another cluster beside them."""

import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.e2e import clients, faults
from tests.e2e.environment import Skipped, StepFailed, get, kubectl, wait_for
from tests.e2e.stories.cluster import NAME, PARTITIONS, leaders, pods_ready, scale, settled, under_load
from tests.e2e.story import Figure
from tests.e2e.world import World

SCALED = "scaled-by-load"
SIDE_BY_SIDE = ("left", "right")
ZONED = "zoned"
ZONE_KEY = "topology.kubernetes.io/zone"


def image_roll_costs_no_failed_send(world: World) -> Figure:
    image = world.environment.next_image
    if image is None:
        raise Skipped("E2E_NEXT_IMAGE names no other image")

    def change() -> float:
        world.patch(NAME, {"spec": {"image": image}})
        began = time.monotonic()
        wait_for("a broker is out of date", lambda: world.condition(NAME, "Progressing")[0] == "True", 30, 0.1)
        settled(world, timeout_s=180)
        return time.monotonic() - began

    seconds, silence = under_load(world, "image-roll", change)
    found = {_pod(world, node_id)["spec"]["containers"][0]["image"] for node_id in range(3)}
    assert found == {image}, found
    world.patch(NAME, {"spec": {"image": None}})
    settled(world, timeout_s=180)
    return Figure(seconds, 90, f"three brokers rolled to another image, longest silence {silence:.1f} s")


def frozen_node_of_three_costs_no_service(world: World) -> Figure:
    """Its kubelet is silent and its broker serves on, then is replaced elsewhere and fenced."""
    return _lost_node(world, "node-frozen", "freeze", "thaw", 15)


def cut_node_of_three_is_taken_over(world: World) -> Figure:
    """Its broker runs on, alone: the others take over what it led. Longer where it was the controller."""
    return _lost_node(world, "node-cut", "cut", "join", 30)


def two_clusters_scale_side_by_side(world: World) -> Figure:
    for name in SIDE_BY_SIDE:
        world.apply(name, spec={"replicas": 1}, listeners=True)
    for name in SIDE_BY_SIDE:
        world.wait_ready(name, 120)
        settled(world, name)

    def out_and_back(name: str) -> float:
        def both_ways() -> float:
            scale(world, 2, name)
            wait_for("two pods are Ready", lambda: pods_ready(world, 2, name), 180)
            seconds = settled(world, name)
            counts = [broker.get("leaders", 0) for broker in world.status(name)["brokers"]]
            assert len(counts) == 2, counts
            assert all(counts), counts
            began = time.monotonic()
            scale(world, 1, name)
            settled(world, name)
            return max(seconds, time.monotonic() - began)

        return under_load(world, "side-by-side", both_ways, name)[0]

    with ThreadPoolExecutor(len(SIDE_BY_SIDE)) as pool:
        slowest = max(pool.map(out_and_back, SIDE_BY_SIDE))
    for name in SIDE_BY_SIDE:
        world.delete(name)
    return Figure(slowest, 60, "the slowest of four scalings")


def autoscaler_adds_a_broker_under_load_and_takes_it_back(world: World) -> Figure:
    """By the real controller and real figures; the new broker leads its share before scaling counts as settled."""
    autoscaling = {"minReplicas": 1, "maxReplicas": 2, "targetCPU": 60}
    resources = {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}}
    world.apply(SCALED, spec={"autoscaling": autoscaling, "resources": resources}, listeners=True)
    world.wait_ready(SCALED, 120)
    bootstrap = world.outside(SCALED)
    clients.create_topic(bootstrap, "load", PARTITIONS)
    # A request for nearly every record: records alone cost a broker too little.
    with clients.SteadyProducer(bootstrap, "load", rate=3000, linger_ms=0) as producer:
        wait_for("the autoscaler adds a broker", lambda: world.spec(SCALED)["replicas"] == 2, 240)
        began = time.monotonic()
        settled(world, SCALED, timeout_s=180)
        seconds = time.monotonic() - began
        assert set(leaders(bootstrap, "load")) == {0, 1}, leaders(bootstrap, "load")
    wait_for("the autoscaler takes it back", lambda: world.spec(SCALED)["replicas"] == 1, 240)
    settled(world, SCALED, timeout_s=120)
    clients.check_exactly_once(world.outside(SCALED), "load", producer)
    world.delete(SCALED)
    return Figure(seconds, 60, "asked for a second broker to its share")


def _lost_node(world: World, topic: str, break_word: str, mend_word: str, goal_s: float) -> Figure:
    """The longest silence from the loss until a replacement serves elsewhere; the lost broker's zombie is fenced."""
    victim, node = _alone(world)
    before = _pod(world, victim)

    def replaced() -> bool:
        pod = _pod(world, victim)
        return bool(pod) and pod["metadata"]["uid"] != before["metadata"]["uid"] and pod["spec"].get("nodeName") != node

    def lose() -> float:
        try:
            world.environment.node(break_word, node)
            began = time.monotonic()
            wait_for("a replacement elsewhere", replaced, 240)
            settled(world, timeout_s=120)
            return time.monotonic() - began
        finally:
            faults.mend(world, mend_word, node)

    seconds, silence = under_load(world, topic, lose)
    if not replaced():
        raise StepFailed(f"broker {victim} is back on {node}")
    return Figure(silence, goal_s, f"silence of its partitions, {seconds:.1f} s until all is well elsewhere")


def _alone(world: World) -> tuple[int, str]:
    """A broker that has a node for itself, not the one that carries the cluster's DNS; one is moved where none has."""

    def found() -> list[tuple[int, str]]:
        homes = {node_id: str(_pod(world, node_id)["spec"].get("nodeName")) for node_id in range(3)}
        taken = Counter(homes.values())
        return [(node_id, home) for node_id, home in homes.items() if home != "node1" and taken[home] == 1]

    if not found():
        empty = [node for node in faults.nodes() if node not in {_pod(world, n)["spec"]["nodeName"] for n in range(3)}]
        if not empty:
            raise Skipped("the run needs three nodes")
        others = [node for node in faults.nodes() if node != empty[0]]
        uid = _pod(world, 0)["metadata"]["uid"]
        kubectl("cordon", *others)
        try:
            kubectl("-n", world.namespace, "delete", "pod", f"{NAME}-broker-0", "--wait=false")
            wait_for("a pod on the empty node", lambda: _is_another(world, 0, uid) and pods_ready(world, 3), 120)
        finally:
            kubectl("uncordon", *others)
        settled(world, timeout_s=120)
    return found()[-1]


def _is_another(world: World, node_id: int, uid: str) -> bool:
    pod = _pod(world, node_id)
    return bool(pod) and pod["metadata"]["uid"] != uid


def _pod(world: World, node_id: int) -> dict[str, Any]:
    return get("pod", f"{NAME}-broker-{node_id}", world.namespace)


def lost_zone_leaves_the_others_serving(world: World) -> Figure:
    """Its only node is cut off: its broker has nowhere to go, and the others take over what it led."""
    nodes = json.loads(kubectl("get", "nodes", "-o", "json"))["items"]
    labels = {node["metadata"]["name"]: node["metadata"]["labels"].get(ZONE_KEY) for node in nodes}
    zones = sorted({zone for zone in labels.values() if zone})
    if len(zones) < 3 or labels.get("node1") is None:
        raise Skipped("the run needs nodes in three zones")
    lost = zones[-1] if labels["node1"] != zones[-1] else zones[0]
    broken = [name for name, zone in labels.items() if zone == lost]
    world.apply(ZONED, spec={"replicas": 3, "topology": {"zones": zones}}, listeners=True)
    world.wait_ready(ZONED, 120)
    settled(world, ZONED)
    homes = {broker["zone"]: labels[broker["node"]] for broker in world.status(ZONED)["brokers"]}
    assert homes == {zone: zone for zone in zones}, homes

    def lose() -> float:
        began = time.monotonic()
        try:
            for node in broken:
                world.environment.node("cut", node)
            wait_for("it is said", lambda: world.condition(ZONED, "Ready")[0] == "False", 120)
            wait_for("nowhere to go", lambda: world.condition(ZONED, "Progressing")[1] == "NoNodeLeft", 120)
            seconds = time.monotonic() - began
            assert world.status(ZONED)["readyReplicas"] == 2, world.status(ZONED)
        finally:
            faults.mend(world, "join", *broken)
        world.wait_ready(ZONED, 120)
        settled(world, ZONED)
        return seconds

    seconds, silence = under_load(world, "zone-lost", lose, ZONED)
    world.delete(ZONED)
    return Figure(silence, 30, f"silence of its partitions, {seconds:.1f} s until the status says so")
