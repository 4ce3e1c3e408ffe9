"""The planner converges, writes nothing when nothing changed, and never touches what it does not own."""

import dataclasses
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from automq_operator import api
from automq_operator.cluster import Cluster
from automq_operator.observed import Readyz
from automq_operator.plan import Apply, DeletePod, Limits, Plan
from automq_operator.reconcile import reconcile
from tests.support.kubernetes_double import World, a_cluster

LIMITS = Limits()
NOW = "2026-01-01T00:00:00Z"
LISTENERS: list[dict[str, Any]] = [
    {"name": "internal", "port": 9092},
    {"name": "outside", "port": 9094, "type": "NodePort"},
]


def one_pass(cluster: Cluster, world: World) -> tuple[Cluster, Plan]:
    plan = reconcile(cluster, world.observed(), now=NOW, limits=LIMITS)
    for action in plan.actions:
        world.carry_out(action)
    world.settle(cluster)
    return dataclasses.replace(cluster, status=plan.status), plan


def converge(cluster: Cluster, world: World, passes: int = 12) -> Cluster:
    for _ in range(passes):
        before = cluster.status
        cluster, plan = one_pass(cluster, world)
        if plan.converged and not plan.actions and cluster.status == before:
            return cluster
    raise AssertionError(f"not settled after {passes} passes: {plan}")


def reasons(status: api.Status) -> dict[str, tuple[str, str]]:
    return {condition.type: (condition.status, condition.reason) for condition in status.conditions}


def test_new_cluster_becomes_ready_with_its_id() -> None:
    cluster = converge(a_cluster(listeners=LISTENERS), World())
    assert cluster.status.ready == "1/1"
    assert cluster.status.cluster_id == "the-cluster-id"
    assert reasons(cluster.status) == {
        "Ready": ("True", "Serving"),
        "StorageReady": ("True", "Available"),
        "Progressing": ("False", "Settled"),
        "ScalingSettled": ("True", "Settled"),
        "Paused": ("False", "Running"),
    }


def test_pods_are_not_rendered_before_their_node_port_is_known() -> None:
    plan = reconcile(a_cluster(listeners=LISTENERS), World().observed(), now=NOW, limits=LIMITS)
    kinds = [action.manifest["kind"] for action in plan.actions if isinstance(action, Apply)]
    assert kinds == ["ServiceAccount", *["Service"] * 4, "NetworkPolicy", "PodDisruptionBudget"]
    assert reasons(plan.status)["Progressing"] == ("True", "WaitingForNodePort")


def test_learning_the_cluster_id_restarts_nothing() -> None:
    world = World()
    cluster = converge(a_cluster(), world)
    uid = world.pods["demo-broker-0"].uid
    converge(cluster, world)
    assert world.pods["demo-broker-0"].uid == uid
    assert "automq.cluster.id=the-cluster-id" in world.objects["ConfigMap", "demo-config"]["data"]["broker.properties"]


def test_unchanged_cluster_causes_no_write() -> None:
    world = World()
    cluster = converge(a_cluster(listeners=LISTENERS), world)
    before = world.writes
    for _ in range(5):
        cluster, plan = one_pass(cluster, world)
        assert plan.status == cluster.status
    assert world.writes == before


def test_changed_config_replaces_the_pod_once() -> None:
    world = World()
    cluster = converge(a_cluster(), world)
    changed = dataclasses.replace(a_cluster(config={"num.partitions": "3"}), status=cluster.status)
    deletions = []
    for _ in range(8):
        changed, plan = one_pass(changed, world)
        deletions += [action for action in plan.actions if isinstance(action, DeletePod)]
    assert [(action.name, action.force) for action in deletions] == [("demo-broker-0", False)]
    assert reasons(changed.status)["Progressing"] == ("False", "Settled")


def test_pod_is_not_replaced_before_the_workload_is_up_to_date() -> None:
    world = World()
    cluster = converge(a_cluster(), world)
    changed = dataclasses.replace(a_cluster(image="automq:2"), status=cluster.status)
    plan = reconcile(changed, world.observed(), now=NOW, limits=LIMITS)
    assert not [action for action in plan.actions if isinstance(action, DeletePod)]
    for action in plan.actions:
        world.carry_out(action)
    world.objects["StatefulSet", "demo-broker"]["status"]["observedGeneration"] = 0
    plan = reconcile(changed, world.observed(), now=NOW, limits=LIMITS)
    assert plan.actions == []


def test_pod_of_a_lost_node_is_deleted_by_force() -> None:
    world = World()
    cluster = converge(a_cluster(), world)
    world.lose_node("node1", for_s=LIMITS.node_lost_s)
    world.silent.add("demo-broker-0")
    plan = reconcile(cluster, world.observed(), now=NOW, limits=LIMITS)
    assert [(a.name, a.force) for a in plan.actions if isinstance(a, DeletePod)] == [("demo-broker-0", True)]
    assert "ReplacingBroker" in [note.reason for note in plan.notes]
    for action in plan.actions:
        world.carry_out(action)
    world.silent.clear()
    cluster = converge(cluster, world)
    assert cluster.status.brokers[0].node == "node2"


def test_pod_of_a_node_that_is_silent_only_briefly_stays() -> None:
    world = World()
    cluster = converge(a_cluster(), world)
    world.lose_node("node1", for_s=LIMITS.node_lost_s - 1)
    world.silent.add("demo-broker-0")
    assert reconcile(cluster, world.observed(), now=NOW, limits=LIMITS).actions == []


def test_stranger_of_a_needed_name_is_never_touched() -> None:
    world = World()
    stranger = {"kind": "ConfigMap", "metadata": {"name": "demo-config", "uid": "theirs"}, "data": {"x": "y"}}
    world.objects["ConfigMap", "demo-config"] = dict(stranger)
    cluster = a_cluster()
    for _ in range(6):
        cluster, _ = one_pass(cluster, world)
    assert world.objects["ConfigMap", "demo-config"] == stranger
    assert reasons(cluster.status)["Ready"][1] == "NameConflict"


def test_service_of_a_listener_that_is_gone_is_deleted_and_others_stay() -> None:
    world = World()
    cluster = converge(a_cluster(listeners=LISTENERS), world)
    world.objects["Service", "somebody-elses"] = {"kind": "Service", "metadata": {"name": "somebody-elses", "uid": "x"}}
    converge(dataclasses.replace(a_cluster(), status=cluster.status), world)
    assert ("Service", "demo-kafka-outside") not in world.objects
    assert ("Service", "somebody-elses") in world.objects


def test_paused_cluster_is_reported_and_not_changed() -> None:
    world = World()
    plan = reconcile(a_cluster(paused=True), world.observed(), now=NOW, limits=LIMITS)
    assert plan.actions == []
    assert plan.status.phase == "Paused"
    assert reasons(plan.status)["Paused"] == ("True", "Asked")


def test_broker_that_waits_for_its_store_is_not_restarted_and_says_why() -> None:
    world = World()
    world.readyz = Readyz(state="Waiting", reason="BucketNotFound", message="there is no bucket demo-kafka")
    cluster = a_cluster()
    for _ in range(6):
        cluster, plan = one_pass(cluster, world)
    assert plan.actions == []
    assert reasons(cluster.status)["StorageReady"] == ("False", "BucketNotFound")
    assert reasons(cluster.status)["Ready"] == ("False", "Store")


def test_adopting_reaches_a_broker_that_was_refused() -> None:
    world = World()
    cluster = a_cluster()
    cluster, _ = one_pass(cluster, world)
    cluster, _ = one_pass(cluster, world)
    name = "demo-broker-0"
    words = ("StoreOwnedByAnother", "cluster abc belongs to another")
    world.change_pod(name, readyz=None, last_words=words, running=False, ready=False)
    cluster, _ = one_pass(cluster, world)
    assert reasons(cluster.status)["StorageReady"] == ("False", "StoreOwnedByAnother")
    adopting = dataclasses.replace(a_cluster(storage={"adopt": "abc"}), status=cluster.status)
    uid = world.pods[name].uid
    adopting = converge(adopting, world)
    assert world.pods[name].uid != uid
    uid = world.pods[name].uid
    converge(dataclasses.replace(a_cluster(), status=adopting.status), world)
    assert world.pods[name].uid == uid, "a healthy broker is not restarted when adopt is taken out again"


def test_condition_keeps_its_time_while_its_status_stays() -> None:
    world = World()
    cluster = converge(a_cluster(), world)
    plan = reconcile(cluster, world.observed(), now="2027-07-07T00:00:00Z", limits=LIMITS)
    assert {condition.last_transition_time for condition in plan.status.conditions} == {NOW}


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    listeners = [{"name": "internal", "port": 9092}]
    if draw(st.booleans()):
        listeners.append({"name": "outside", "port": 9094, "type": "NodePort"})
    spec: dict[str, Any] = {"listeners": listeners, "image": draw(st.sampled_from(["automq:1", "automq:2"]))}
    spec["config"] = draw(
        st.dictionaries(st.sampled_from(["log.retention.ms", "num.partitions"]), st.sampled_from("12"))
    )
    if draw(st.booleans()):
        spec["template"] = {"pod": {"spec": {"nodeSelector": {"disk": "fast"}}}}
    return spec


@settings(max_examples=150, deadline=None)
@given(
    history=st.lists(
        st.tuples(specs(), st.sampled_from(["none", "lose node", "drift", "kill pod", "stranger"])), max_size=5
    )
)
def test_planner_converges_from_every_history(history: list[tuple[dict[str, Any], str]]) -> None:
    world = World()
    cluster = a_cluster()
    world.objects["Service", "theirs"] = {"kind": "Service", "metadata": {"name": "theirs", "uid": "theirs"}}
    for spec, fault in history:
        cluster = dataclasses.replace(a_cluster(**spec), status=cluster.status)
        cluster, _ = one_pass(cluster, world)
        if fault == "lose node":
            world.lose_node("node1")
        elif fault == "drift" and ("Service", "demo-kafka") in world.objects:
            world.meddle("Service", "demo-kafka", {"selector": {"wrong": "label"}})
        elif fault == "kill pod":
            world.pods.clear()
        elif fault == "stranger":
            world.objects["Job", "demo-erase"] = {"kind": "Job", "metadata": {"name": "demo-erase", "uid": "theirs"}}
    cluster = converge(cluster, world)
    assert reasons(cluster.status)["Ready"] == ("True", "Serving")
    assert ("Service", "theirs") in world.objects
    writes = world.writes
    one_pass(cluster, world)
    assert world.writes == writes


def test_op15_status_lists_addresses_that_clients_can_use() -> None:
    world = World()
    for number, name in enumerate(world.nodes, start=1):
        world.nodes[name] = dataclasses.replace(world.nodes[name], address=f"10.0.0.{number}")
    cluster = converge(a_cluster(listeners=LISTENERS), world)
    assert {item.name: item.bootstrap for item in cluster.status.listeners} == {
        "internal": "demo-kafka.team.svc:9092",
        "outside": "10.0.0.1:30123,10.0.0.2:30123,10.0.0.3:30123",
    }
    world.nodes["node1"] = dataclasses.replace(world.nodes["node1"], ready=False)
    cluster, _ = one_pass(cluster, world)
    assert cluster.status.listeners[1].bootstrap == "10.0.0.2:30123,10.0.0.3:30123"


def test_op15_host_of_a_listener_is_listed_alone() -> None:
    outside = {"name": "outside", "port": 9094, "type": "NodePort", "host": "kafka.example"}
    cluster = converge(a_cluster(listeners=[LISTENERS[0], outside]), World())
    assert cluster.status.listeners[1].bootstrap == "kafka.example:30123"


def test_status_round_trips_through_its_yaml_form() -> None:
    cluster = converge(a_cluster(listeners=LISTENERS), World())
    assert (
        api.parse_status(msgspec.json.decode(msgspec.json.encode(api.to_yaml_dict(cluster.status)))) == cluster.status
    )
