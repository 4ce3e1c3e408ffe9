"""Brokers over zones: evenly, by a StatefulSet each, with ids that say the zone, and so while scaling."""

import dataclasses

import pytest

from automq_operator import naming, zones
from automq_operator.api import REPLICAS_MAX
from automq_operator.cluster import Cluster
from automq_operator.observed import Node
from automq_operator.plan import DeleteObject, Permits
from automq_operator.planners import deletion
from automq_operator.planners.scale import kept
from automq_operator.resources import workload
from tests.support.kubernetes_double import World, a_cluster
from tests.support.planner import LIMITS, changed, converge, decide, deletions, one_pass, reasons

KEY = "topology.kubernetes.io/zone"
ZONES = ["a", "b", "c"]


def a_world() -> World:
    world = World()
    world.nodes = {f"node-{zone}": Node(name=f"node-{zone}", ready=True, labels={KEY: zone}) for zone in ZONES}
    return world


def over_zones(replicas: int, names: list[str] | None = None, **spec: object) -> Cluster:
    return a_cluster(replicas=replicas, topology={"zones": names or ZONES}, **spec)


def kept_by(world: World) -> dict[str, int]:
    return {name: live["spec"]["replicas"] for (kind, name), live in world.objects.items() if kind == "StatefulSet"}


@pytest.mark.parametrize("zone_count", range(1, 10))
def test_every_number_of_brokers_is_spread_evenly_and_growth_moves_nobody(zone_count: int) -> None:
    before: frozenset[int] = frozenset()
    for replicas in range(REPLICAS_MAX + 1):
        by_zone = zones.counts(replicas, zone_count)
        found = zones.ids(by_zone)
        assert sum(by_zone) == len(found) == replicas
        assert max(by_zone) - min(by_zone) <= 1
        assert before < found or replicas == 0
        assert all(zones.zone_of(node_id) < zone_count for node_id in found)
        before = found


def test_each_zone_has_a_workload_whose_pods_stay_there_and_say_their_rack() -> None:
    world = a_world()
    cluster = converge(over_zones(5), world)
    assert kept_by(world) == {"demo-broker": 2, "demo-broker-1": 2, "demo-broker-2": 1}
    assert sorted(world.pods) == [
        "demo-broker-0", "demo-broker-1", "demo-broker-1-1000", "demo-broker-1-1001", "demo-broker-2-2000",
    ]  # fmt: skip
    assert [(b.id, b.zone, b.node) for b in cluster.status.brokers] == [
        (0, "a", "node-a"), (1, "a", "node-a"), (1000, "b", "node-b"), (1001, "b", "node-b"), (2000, "c", "node-c"),
    ]  # fmt: skip
    assert (cluster.status.ready, reasons(cluster)["ScalingSettled"]) == ("5/5", ("True", "Settled"))


def test_pods_of_a_zone_are_selected_by_its_label_and_know_their_id_and_rack() -> None:
    cluster = over_zones(3)
    for place, zone in enumerate(ZONES):
        spec = workload.stateful_set(cluster, replicas=1, zone=place)["spec"]
        pod = spec["template"]["spec"]
        environment = {item["name"]: item.get("value") for item in pod["containers"][0]["env"]}
        assert pod["nodeSelector"] == {KEY: zone}
        assert environment["KAFKA_BROKER_RACK"] == zone
        assert spec.get("ordinals", {"start": 0})["start"] == place * zones.ZONE_IDS
        assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
        assert [item["topologyKey"] for item in pod["topologySpreadConstraints"]] == ["kubernetes.io/hostname"]
        assert pod["affinity"]["podAntiAffinity"]


def test_a_users_node_selector_is_one_more_condition() -> None:
    cluster = over_zones(3, template={"pod": {"spec": {"nodeSelector": {"disk": "fast"}}}})
    pod = workload.stateful_set(cluster, replicas=1, zone=1)["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {KEY: "b", "disk": "fast"}


def test_scaling_in_empties_the_newest_of_the_fullest_zones_and_stays_even() -> None:
    world = a_world()
    cluster = converge(over_zones(7), world)
    cluster = changed(cluster, replicas=4, topology={"zones": ZONES})
    cluster, _ = one_pass(cluster, world)
    assert world.draining == {2, 1001, 2001}
    assert kept_by(world) == {"demo-broker": 3, "demo-broker-1": 2, "demo-broker-2": 2}, "nobody goes who is not empty"
    cluster = converge(cluster, world)
    assert kept_by(world) == {"demo-broker": 2, "demo-broker-1": 1, "demo-broker-2": 1}
    assert set(world.registered) == {0, 1, 1000, 2000}
    assert reasons(cluster)["ScalingSettled"] == ("True", "Settled")


def test_one_that_cannot_be_emptied_holds_its_own_zone_only() -> None:
    world = a_world()
    cluster = converge(over_zones(6), world)
    world.stuck.add(1001)
    cluster = changed(cluster, replicas=3, topology={"zones": ZONES})
    for _ in range(6):
        cluster, _ = one_pass(cluster, world)
    assert kept_by(world) == {"demo-broker": 1, "demo-broker-1": 2, "demo-broker-2": 1}
    world.stuck.clear()
    converge(cluster, world)
    assert kept_by(world) == {"demo-broker": 1, "demo-broker-1": 1, "demo-broker-2": 1}


def test_fewer_brokers_than_zones_empty_a_zone_and_zero_stops_all_at_once() -> None:
    world = a_world()
    cluster = converge(over_zones(3), world)
    world.stuck.add(2000)
    cluster = changed(cluster, replicas=2, topology={"zones": ZONES})
    for _ in range(4):
        cluster, _ = one_pass(cluster, world)
    assert kept_by(world)["demo-broker-2"] == 1, "it is not empty"
    world.stuck.clear()
    cluster = converge(cluster, world)
    assert kept_by(world) == {"demo-broker": 1, "demo-broker-1": 1, "demo-broker-2": 0}
    cluster = converge(changed(cluster, replicas=0, topology={"zones": ZONES}), world)
    assert set(kept_by(world).values()) == {0}
    assert (world.pods, cluster.status.phase) == ({}, "Stopped")
    assert kept(wanted=(0, 0), live=(2, 2), drained=frozenset()) == (0, 0)


def test_a_zone_that_is_added_takes_its_share_over() -> None:
    world = a_world()
    cluster = converge(over_zones(4, ["a", "b"]), world)
    assert kept_by(world) == {"demo-broker": 2, "demo-broker-1": 2}
    cluster = converge(changed(cluster, replicas=4, topology={"zones": ZONES}), world, passes=20)
    assert kept_by(world) == {"demo-broker": 2, "demo-broker-1": 1, "demo-broker-2": 1}
    assert world.deleted_pods == [], "those that stay are not restarted"
    assert reasons(cluster)["ScalingSettled"] == ("True", "Settled")


def test_a_cluster_without_zones_gets_some_one_broker_at_a_time() -> None:
    world = a_world()
    cluster = converge(a_cluster(replicas=3), world)
    assert kept_by(world) == {"demo-broker": 3}
    cluster = converge(changed(cluster, replicas=3, topology={"zones": ZONES}), world, passes=30)
    assert kept_by(world) == {"demo-broker": 1, "demo-broker-1": 1, "demo-broker-2": 1}
    assert {broker.node for broker in cluster.status.brokers} == {"node-a", "node-b", "node-c"}
    assert world.deleted_pods == ["demo-broker-0"], "the others were emptied and went"


def test_a_lost_zone_has_nowhere_to_go_and_the_others_are_left_alone() -> None:
    world = a_world()
    cluster = converge(over_zones(3), world)
    world.lose_node("node-c")
    world.silent.add("demo-broker-2-2000")
    world.change_pod("demo-broker-2-2000", ready=False)
    plan = decide(cluster, world)
    assert deletions(plan) == []
    cluster = dataclasses.replace(cluster, status=plan.status)
    assert reasons(cluster)["Progressing"][1] == "NoNodeLeft"
    assert reasons(cluster)["Ready"] == ("False", "NodeNotReady")
    world.nodes["second-c"] = Node(name="second-c", ready=True, labels={KEY: "c"})
    assert deletions(decide(cluster, world)) == [("demo-broker-2-2000", True)]


def test_a_rolled_image_goes_through_all_zones_one_broker_at_a_time() -> None:
    world = a_world()
    cluster = converge(over_zones(3, image="automq:1"), world)
    cluster = changed(cluster, replicas=3, topology={"zones": ZONES}, image="automq:2")
    for _ in range(20):
        before = len(world.deleted_pods)
        cluster, _ = one_pass(cluster, world)
        assert len(world.deleted_pods) - before <= 1
    assert sorted(world.deleted_pods) == ["demo-broker-0", "demo-broker-1-1000", "demo-broker-2-2000"]
    assert reasons(cluster)["Progressing"] == ("False", "Settled")


def test_deletion_ends_the_workload_of_every_zone_before_anything_is_erased() -> None:
    world = a_world()
    cluster = converge(over_zones(3, storage={"deletionPolicy": "Delete"}), world)
    body = {"metadata": {"name": "demo", "namespace": "team", "uid": cluster.uid}, "spec": {}}
    plan = deletion.plan(cluster, world.observed(), body, limits=LIMITS, permits=Permits())
    assert [(action.name, action.foreground) for action in plan.actions if isinstance(action, DeleteObject)] == [
        ("demo-broker", True), ("demo-broker-1", True), ("demo-broker-2", True),
    ]  # fmt: skip
    for action in plan.actions:
        world.carry_out(action)
    del world.objects["StatefulSet", "demo-broker"]
    plan = deletion.plan(cluster, world.observed(), body, limits=LIMITS, permits=Permits())
    assert (plan.actions, plan.done) == ([], False), "two of them still end"


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("demo-broker", True), ("demo-broker-1", True), ("demo-broker-12", True), ("demo-broker-", False),
        ("demo-broker-x", False), ("demo-broker-1-2", False), ("1", False), ("demo", False), ("other-broker-1", False),
    ],
)  # fmt: skip
def test_whose_workload_a_name_is(name: str, own: bool) -> None:
    assert naming.is_workload("demo", name) is own
