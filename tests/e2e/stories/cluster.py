"""Several brokers are one cluster: it comes to be, grows, shrinks, is rolled and heals, and keeps every record."""

import time
from collections import Counter
from collections.abc import Callable

from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
)

from tests.e2e import clients
from tests.e2e.environment import Skipped, StepFailed, get, kubectl, wait_for
from tests.e2e.story import Figure
from tests.e2e.world import World

NAME = "three"
PARTITIONS = 12
DYNAMIC = "log.retention.ms"


def leaders(bootstrap: str, topic: str) -> Counter[int]:
    """Partitions by the broker that leads them; -1 for none."""
    partitions = AdminClient({"bootstrap.servers": bootstrap}).list_topics(topic, timeout=10).topics[topic].partitions
    return Counter(partition.leader for partition in partitions.values())


def scale(world: World, replicas: int, name: str = NAME) -> None:
    kubectl("-n", world.namespace, "scale", "amq", name, f"--replicas={replicas}")


def is_settled(world: World, name: str = NAME) -> bool:
    """Scaling is over, and the status is about the newest spec."""
    found = get("amq", name, world.namespace)
    status = found.get("status", {})
    if status.get("observedGeneration") != found["metadata"]["generation"]:
        return False
    said = {item["type"]: item["status"] for item in status["conditions"]}
    return said.get("ScalingSettled") == "True" and said.get("Progressing") == "False"


def settled(world: World, name: str = NAME, timeout_s: float = 120) -> float:
    return wait_for(f"{name} is settled", lambda: is_settled(world, name), timeout_s)


def pods_ready(world: World, count: int, name: str = NAME) -> bool:
    status = get("statefulset", f"{name}-broker", world.namespace).get("status", {})
    return bool(status.get("readyReplicas", 0) >= count)


def under_load(world: World, topic: str, fault: Callable[[], float], name: str = NAME) -> tuple[float, float]:
    """(what the fault returns, the longest time that one partition was silent): no failed send, every record once."""
    bootstrap = world.outside(name)
    clients.create_topic(bootstrap, topic, PARTITIONS)
    with clients.SteadyProducer(bootstrap, topic) as producer:
        wait_for("every partition is written to", lambda: _all_acked_since(producer, 0.0), 60)
        began = time.monotonic()
        seconds = fault()
        ended = time.monotonic()
        wait_for("every partition is written to", lambda: _all_acked_since(producer, ended), 60)
        silence = producer.longest_silence_of_a_partition_s(began)
    clients.check_exactly_once(world.outside(name), topic, producer)
    return seconds, silence


def _all_acked_since(producer: clients.SteadyProducer, moment: float) -> bool:
    times = list(producer.last_acked.values())
    return len(times) == PARTITIONS and min(times) > moment


def three_brokers_are_one_cluster(world: World) -> Figure:
    world.apply(NAME, spec={"replicas": 3}, listeners=True)
    seconds = world.wait_ready(NAME, 120)
    assert world.status(NAME)["ready"] == "3/3"
    inside = world.status(NAME)["bootstrap"]
    clients.from_a_pod(world.namespace, world.environment.client_image, inside, "from-a-pod", 200)
    bootstrap = world.outside(NAME)
    clients.create_topic(bootstrap, "spread", PARTITIONS)
    wait_for("every broker leads its share", lambda: set(leaders(bootstrap, "spread")) == {0, 1, 2}, 30)
    with clients.SteadyProducer(bootstrap, "spread") as producer:
        wait_for("records are acknowledged", lambda: len(producer.acked) > 500, 30)
    clients.check_exactly_once(bootstrap, "spread", producer)
    return Figure(seconds, 30, "apply to three Ready")


def scale_out_gives_new_brokers_their_share(world: World) -> Figure:
    def out() -> float:
        scale(world, 6)
        wait_for("six pods are Ready", lambda: pods_ready(world, 6), 180)
        return settled(world)

    seconds, silence = under_load(world, "out", out)
    counts = {broker["id"]: broker.get("leaders", 0) for broker in world.status(NAME)["brokers"]}
    assert len(counts) == 6, counts
    assert all(counts.values()), counts
    return Figure(seconds, 30, f"pods Ready to settled, longest silence {silence:.1f} s")


def scale_in_empties_brokers_first(world: World) -> Figure:
    def back() -> float:
        scale(world, 3)
        return settled(world)

    seconds, silence = under_load(world, "in", back)
    wait_for("every broker leads its share", lambda: set(leaders(world.outside(NAME), "in")) == {0, 1, 2}, 60)
    left = get("pod", f"{NAME}-broker-3", world.namespace)
    assert not left, left["status"]
    admin = AdminClient({"bootstrap.servers": world.outside(NAME)})  # kept: without it the answer is lost
    known = {broker.id for broker in admin.describe_cluster().result(30).nodes}
    assert known == {0, 1, 2}, known
    world.wait_event(NAME, "ScalingIn")
    world.wait_event(NAME, "ScalingSettled")
    return Figure(seconds, 30, f"six to three settled, longest silence {silence:.1f} s")


def scale_in_that_is_taken_back_keeps_everybody(world: World) -> Figure:
    """Half-way: somebody is emptied already, nobody is gone."""
    scale(world, 4)
    wait_for("four pods are Ready", lambda: pods_ready(world, 4), 180)
    settled(world)
    uid = get("pod", f"{NAME}-broker-3", world.namespace)["metadata"]["uid"]

    def is_draining() -> bool:
        states = {broker["id"]: broker["state"] for broker in world.status(NAME)["brokers"]}
        return states.get(3) == "Draining"

    def cancel() -> float:
        scale(world, 3)
        wait_for("it is being emptied", is_draining, 30, every_s=0.05)
        scale(world, 4)
        return settled(world)

    seconds, _ = under_load(world, "cancelled", cancel)
    wait_for("it leads again", lambda: world.status(NAME)["brokers"][3].get("leaders"), 60)
    if get("pod", f"{NAME}-broker-3", world.namespace)["metadata"]["uid"] != uid:
        raise StepFailed("the broker was gone before the scale-in was taken back")
    scale(world, 3)
    settled(world)
    return Figure(seconds, 30, "taken back to settled")


def operator_killed_in_a_drain_finishes_it(world: World) -> Figure:
    scale(world, 4)
    wait_for("four pods are Ready", lambda: pods_ready(world, 4), 180)
    settled(world)

    def kill() -> float:
        scale(world, 3)
        wait_for("it is being emptied", lambda: world.condition(NAME, "ScalingSettled")[1] == "ScalingIn", 30, 0.05)
        selector = "app.kubernetes.io/name=automq-operator"
        kubectl("-n", world.system, "delete", "pod", "-l", selector, "--force", "--grace-period=0", "--wait=false")
        return settled(world)

    seconds, _ = under_load(world, "operator-killed", kill)
    return Figure(seconds, 60, "both replicas of the operator killed to settled")


def roll_costs_no_failed_send(world: World) -> Figure:
    def change() -> float:
        world.patch(NAME, {"spec": {"config": {"num.partitions": "2"}}})
        began = time.monotonic()
        wait_for("a broker is out of date", lambda: world.condition(NAME, "Progressing")[0] == "True", 30, 0.1)
        settled(world, timeout_s=180)
        return time.monotonic() - began

    before = {pod: get("pod", pod, world.namespace)["metadata"]["uid"] for pod in _pods(3)}
    seconds, silence = under_load(world, "roll", change)
    after = {pod: get("pod", pod, world.namespace)["metadata"]["uid"] for pod in _pods(3)}
    assert not set(before.values()) & set(after.values()), "each was replaced"
    return Figure(seconds, 90, f"three brokers rolled, longest silence {silence:.1f} s")


def dynamic_configs_restart_nobody(world: World) -> Figure:
    """Set, set back after another changed it, refused in the broker's words, unset; the operator dies on the way."""
    before = {pod: get("pod", pod, world.namespace)["metadata"]["uid"] for pod in _pods(3)}
    admin = AdminClient({"bootstrap.servers": world.outside(NAME)})  # kept: without it the answer is lost

    def value(of: str = "1") -> str | None:
        resource = ConfigResource(ConfigResource.Type.BROKER, of)
        (answer,) = admin.describe_configs([resource]).values()
        entry = answer.result(10)[DYNAMIC]
        return str(entry.value) if entry.source == ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG.value else None

    def applied() -> bool:
        found = get("amq", NAME, world.namespace)
        said = {item["type"]: item for item in found["status"]["conditions"]}.get("ConfigApplied", {})
        is_newest = found["status"]["observedGeneration"] == found["metadata"]["generation"]
        return bool(is_newest and said.get("status", "True") == "True")

    def change() -> float:
        began = time.monotonic()
        world.patch(NAME, {"spec": {"config": {DYNAMIC: "7200000"}}})
        wait_for("it is applied", applied, 30, 0.1)
        seconds = time.monotonic() - began
        assert value() == "7200000", value()
        world.patch(NAME, {"spec": {"config": {DYNAMIC: "-5"}}})
        wait_for("it is refused", lambda: world.condition(NAME, "ConfigApplied") == ("False", "Refused"), 30)
        assert f"Invalid value -5 for configuration {DYNAMIC}" in world.message(NAME, "ConfigApplied")
        assert world.condition(NAME, "Ready")[0] == "True"
        assert value() == "7200000", value()
        entry = ConfigEntry(DYNAMIC, "1000", incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ConfigResource.Type.BROKER, "1", incremental_configs=[entry])
        (drift,) = admin.incremental_alter_configs([resource]).values()
        drift.result(10)
        world.patch(NAME, {"spec": {"config": {DYNAMIC: "3600000"}}})
        selector = "app.kubernetes.io/name=automq-operator"
        kubectl("-n", world.system, "delete", "pod", "-l", selector, "--force", "--grace-period=0", "--wait=false")
        wait_for("it is applied", lambda: applied() and value() == "3600000", 90, 0.5)
        world.patch(NAME, {"spec": {"config": {DYNAMIC: None}}})
        wait_for("it is unset", lambda: applied() and value() is None, 60, 0.5)
        return seconds

    seconds, silence = under_load(world, "dynamic", change)
    after = {pod: get("pod", pod, world.namespace)["metadata"]["uid"] for pod in _pods(3)}
    assert before == after, "nobody was restarted"
    world.wait_event(NAME, "SettingConfigs")
    world.wait_event(NAME, "ConfigApplied")
    return Figure(seconds, 15, f"applied without a restart, longest silence {silence:.1f} s")


def bad_image_stops_at_the_first_broker(world: World) -> Figure:
    def bad() -> float:
        world.patch(NAME, {"spec": {"image": "localhost/automq:missing"}})
        wait_for("it is said", lambda: world.condition(NAME, "Ready") == ("False", "ImageUnavailable"), 120)
        time.sleep(5)
        images = [get("pod", pod, world.namespace)["spec"]["containers"][0]["image"] for pod in _pods(3)]
        assert images.count("localhost/automq:missing") == 1, images
        world.patch(NAME, {"spec": {"image": None}})
        return settled(world, timeout_s=180)

    seconds, silence = under_load(world, "bad-image", bad)
    return Figure(seconds, 60, f"mended to settled, longest silence {silence:.1f} s")


def killed_broker_of_three_heals(world: World) -> Figure:
    pod = f"{NAME}-broker-1"
    uid = get("pod", pod, world.namespace)["metadata"]["uid"]

    def is_back() -> bool:
        found = get("pod", pod, world.namespace)
        return bool(found) and found["metadata"]["uid"] != uid and pods_ready(world, 3) and is_settled(world)

    def kill() -> float:
        kubectl("-n", world.namespace, "delete", "pod", pod, "--force", "--grace-period=0", "--wait=false")
        return wait_for("it is back", is_back, 120)

    seconds, silence = under_load(world, "killed", kill)
    world.wait_event(NAME, "BrokerGone")
    return Figure(silence, 10, f"silence of its partitions after a kill by force, {seconds:.1f} s until it is back")


def drained_node_of_three_costs_no_failed_send(world: World) -> Figure:
    node = str(get("pod", f"{NAME}-broker-1", world.namespace)["spec"]["nodeName"])
    if node == "node1":
        raise Skipped("the broker is on the node that carries the cluster's DNS")

    def drain() -> float:
        try:
            kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=90s")
            return settled(world)
        finally:
            kubectl("uncordon", node)

    _, silence = under_load(world, "node-drained", drain)
    return Figure(silence, 10, "no acknowledgement")


def three_brokers_at_zero_come_back(world: World) -> Figure:
    bootstrap = world.outside(NAME)
    clients.create_topic(bootstrap, "kept", PARTITIONS)
    with clients.SteadyProducer(bootstrap, "kept") as producer:
        wait_for("records are acknowledged", lambda: len(producer.acked) > 100, 30)
    scale(world, 0)
    wait_for("no broker runs", lambda: not any(get("pod", pod, world.namespace) for pod in _pods(3)), 90)
    wait_for("it says so", lambda: world.condition(NAME, "Ready") == ("False", "ScaledToZero"), 30)
    scale(world, 3)
    seconds = world.wait_ready(NAME, 120)
    clients.check_exactly_once(world.outside(NAME), "kept", producer)
    return Figure(seconds, 30, "three brokers back from zero")


def _pods(count: int) -> list[str]:
    return [f"{NAME}-broker-{node_id}" for node_id in range(count)]
