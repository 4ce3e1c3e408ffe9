"""Brokers that end, stall, or cannot be heard; and changes that replace them once."""

import time

from tests.e2e import faults
from tests.e2e.environment import Skipped, StepFailed, get, kubectl, wait_for
from tests.e2e.story import Figure
from tests.e2e.world import World

STALL_S = 12.0
EDITS = 20
LAST = 40


def killed_pod_is_serving_again(world: World) -> Figure:
    seconds = faults.silence_through(world, "demo", "pod-kill", lambda: world.delete_pod("demo", force=True))
    return Figure(seconds, 15, "no acknowledgement")


def changed_config_replaces_the_pod_once(world: World) -> Figure:
    def change() -> None:
        world.patch("demo", {"spec": {"config": {"num.partitions": "2"}}})

    seconds = faults.one_replacement(world, "demo", "config-change", change)
    world.wait_event("demo", "RollingBroker")
    return Figure(seconds, 25, "no acknowledgement")


def many_changes_at_once_cost_few_replacements(world: World) -> Figure:
    """Twenty edits in a row: what runs at the end is the last of them, and most were never started."""
    seen = {world.pod("demo")["metadata"]["uid"]}

    def watch() -> bool:
        pod = world.pod("demo")
        seen.update([pod["metadata"]["uid"]] if pod else [])
        settled = world.condition("demo", "Progressing") == ("False", "Settled")
        return settled and world.spec("demo")["config"]["num.partitions"] == str(LAST)

    def edit() -> None:
        for number in range(EDITS):
            world.patch("demo", {"spec": {"config": {"num.partitions": str(LAST - EDITS + 1 + number)}}})
            watch()
        time.sleep(3)
        wait_for("all is settled", watch, 120)

    seconds = faults.silence_through(world, "demo", "edits", edit)
    config = get("configmap", "demo-config", world.namespace)["data"]["broker.properties"]
    assert f"num.partitions={LAST}" in config, config
    if len(seen) > 1 + EDITS // 4:
        raise StepFailed(f"{EDITS} edits cost {len(seen) - 1} replacements")
    return Figure(seconds, 60, "no acknowledgement")


def changed_image_replaces_the_pod_once(world: World) -> Figure:
    image = world.environment.next_image
    if image is None:
        raise Skipped("E2E_NEXT_IMAGE names no second image")

    def change() -> None:
        world.patch("demo", {"spec": {"image": image}})

    seconds = faults.one_replacement(world, "demo", "image-change", change)
    assert world.pod("demo")["spec"]["containers"][0]["image"] == image
    return Figure(seconds, 25, "no acknowledgement")


def stalled_broker_is_not_replaced(world: World) -> Figure:
    """Twelve seconds without an answer to anybody: nothing said that it is gone."""

    def stall() -> None:
        with faults.stopped_process(world, "demo"):
            time.sleep(STALL_S)

    return Figure(faults.same_pod_throughout(world, "demo", "stall", stall), STALL_S + 8, "no acknowledgement")


def broker_that_only_the_operator_cannot_hear_stays_ready(world: World) -> Figure:
    """As behind a NetworkPolicy: the kubelet and clients reach it."""

    def block() -> None:
        with faults.port_blocked_for_the_operator(world, "demo", 9404):
            wait_for("it is said", lambda: world.condition("demo", "Ready") == ("True", "Unobservable"), 60)
            if "9404" not in world.message("demo", "Ready"):
                raise StepFailed(f"the condition does not name the port: {world.message('demo', 'Ready')}")
            world.wait_event("demo", "Ready")
            time.sleep(10)
            assert world.status("demo")["ready"] == "1/1", world.status("demo")
        wait_for("it is heard again", lambda: world.condition("demo", "Ready") == ("True", "Serving"), 60)

    return Figure(faults.same_pod_throughout(world, "demo", "blocked", block), 5, "no acknowledgement")


def drained_node_costs_one_move(world: World) -> Figure:
    faults.away_from_the_first_node(world, "demo")
    node = world.node_of("demo")

    def drain() -> None:
        with faults.drained(world, node):
            wait_for("a pod elsewhere", lambda: world.pod("demo").get("spec", {}).get("nodeName", node) != node, 90)
            time.sleep(1)
            world.wait_ready("demo", 90)

    return Figure(faults.silence_through(world, "demo", "drain", drain), 25, "no acknowledgement")


def restart_that_is_asked_for_happens_once(world: World) -> Figure:
    def ask() -> None:
        kubectl("-n", world.namespace, "annotate", "--overwrite", "amq", "demo", f"automq.io/restart={time.time()}")

    seconds = faults.one_replacement(world, "demo", "restart", ask)
    uid = world.pod("demo")["metadata"]["uid"]
    kubectl("-n", world.namespace, "annotate", "amq", "demo", "automq.io/restart-")
    time.sleep(8)
    assert world.pod("demo")["metadata"]["uid"] == uid, "taking the wish back is no wish"
    return Figure(seconds, 25, "no acknowledgement")


def paused_cluster_is_left_alone(world: World) -> None:
    """And says so; the change is made when the pause ends."""
    world.patch("demo", {"spec": {"paused": True, "config": {"log.retention.ms": "5400000"}}})
    wait_for("it is paused", lambda: world.condition("demo", "Paused") == ("True", "Asked"), 30)
    uid = world.pod("demo")["metadata"]["uid"]
    time.sleep(8)
    assert world.pod("demo")["metadata"]["uid"] == uid
    assert world.condition("demo", "Ready")[0] == "True", world.condition("demo", "Ready")
    world.patch("demo", {"spec": {"paused": False}})
    wait_for("the change is made", lambda: world.pod("demo").get("metadata", {}).get("uid", uid) != uid, 60)
    time.sleep(1)
    world.wait_ready("demo", 90)
    kubectl("-n", world.namespace, "get", "amq", "demo")
