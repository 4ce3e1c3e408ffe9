"""Brokers on lost nodes: who says so, for how long, and whether there is anywhere to go."""

import dataclasses
from typing import Any

import pytest

from automq_operator.cluster import Cluster
from automq_operator.observed import Node, Taint
from automq_operator.plan import Permits
from automq_operator.planners.lost import most_not_ready
from tests.support.kubernetes_double import World, a_cluster
from tests.support.planner import LIMITS, changed, converge, decide, deletions, one_pass, reasons


def ready(replicas: int = 1, **spec: Any) -> tuple[Cluster, World]:
    world = World()
    return converge(a_cluster(replicas=replicas, **spec), world), world


def silence(world: World) -> None:
    world.silent = set(world.pods)


def test_finding_08_most_nodes_not_ready_kills_nobody() -> None:
    cluster, world = ready()
    for name in ("node1", "node2"):
        world.lose_node(name)
    silence(world)
    for _ in range(30):
        world.pass_time(10)
        cluster, plan = one_pass(cluster, world)
        assert deletions(plan) == []
    assert reasons(cluster)["Progressing"] == ("False", "MostNodesNotReady")


def test_finding_08_a_broker_with_nowhere_to_go_is_not_killed() -> None:
    cluster, world = ready()
    for name in ("node2", "node3"):
        world.nodes[name] = dataclasses.replace(world.nodes[name], schedulable=False)
    world.lose_node("node1")
    silence(world)
    cluster, plan = one_pass(cluster, world)
    assert deletions(plan) == []
    assert reasons(cluster)["Progressing"] == ("False", "NoNodeLeft")
    world.nodes["node3"] = Node(name="node3", ready=True)
    assert deletions(decide(cluster, world)) == [("demo-broker-0", True)]


@pytest.mark.parametrize("other", [
    {"ready": False}, {"schedulable": False}, {"taints": [Taint(key="gpu", value="", effect="NoSchedule")]},
    {"labels": {"disk": "slow"}},
])  # fmt: skip
def test_finding_08_what_is_no_target(other: dict[str, Any]) -> None:
    cluster, world = ready(template={"pod": {"spec": {"nodeSelector": {"disk": "fast"}}}})
    fit = {"ready": True, "labels": {"disk": "fast"}}
    world.nodes = {
        "node1": Node(name="node1", ready=False, not_ready_s=60.0),
        "node2": Node(name="node2", ready=True),  # not selected; keeps most nodes ready
        "node3": Node(name="node3", **{**fit, **other}),
        "node4": Node(name="node4", ready=True),
    }
    world.lose_node("node1")
    silence(world)
    assert deletions(decide(cluster, world)) == []
    world.nodes["node3"] = Node(name="node3", **fit)
    assert deletions(decide(cluster, world)) == [("demo-broker-0", True)]


def test_finding_08_a_tolerated_taint_is_no_obstacle() -> None:
    tolerations = [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]
    cluster, world = ready(template={"pod": {"spec": {"tolerations": tolerations}}})
    for name in ("node2", "node3"):
        world.nodes[name] = Node(name=name, ready=True, taints=[Taint(key="gpu", value="", effect="NoSchedule")])
    world.lose_node("node1")
    silence(world)
    assert deletions(decide(cluster, world)) == [("demo-broker-0", True)]


def test_finding_08_a_broker_that_answers_is_left_to_serve_for_longer() -> None:
    cluster, world = ready()
    world.change_pod("demo-broker-0", ready=False)  # what the node controller says of pods on such a node
    world.lose_node("node1", for_s=LIMITS.node_lost_s)
    cluster, plan = one_pass(cluster, world)
    assert deletions(plan) == []
    assert reasons(cluster)["Ready"] == ("True", "Serving"), "it says so itself, and the kubelet cannot be heard"
    world.pass_time(LIMITS.node_lost_serving_s)
    assert deletions(decide(cluster, world)) == [("demo-broker-0", True)]


def test_finding_08_one_broker_of_a_cluster_at_a_time() -> None:
    cluster, world = ready(replicas=3)
    for name in ("node4", "node5", "node6"):
        world.nodes[name] = Node(name=name, ready=True)
    for number in (0, 1):
        world.change_pod(f"demo-broker-{number}", node=f"node{number + 1}")
        world.lose_node(f"node{number + 1}")
    world.silent = {"demo-broker-0", "demo-broker-1"}
    plan = decide(cluster, world)
    assert deletions(plan) == [("demo-broker-0", True)]
    for action in plan.actions:
        world.carry_out(action)
    assert deletions(decide(cluster, world)) == [], "its successor is not there yet"
    world.settle(cluster)
    world.change_pod("demo-broker-0", ready=False)
    assert deletions(decide(cluster, world)) == [], "its successor does not serve yet"
    world.change_pod("demo-broker-0", ready=True)
    world.silent.discard("demo-broker-0")
    assert deletions(decide(cluster, world)) == [("demo-broker-1", True)]


def test_finding_08_a_successor_that_never_serves_does_not_hold_the_next_for_ever() -> None:
    cluster, world = ready(replicas=2)
    world.change_pod("demo-broker-1", node="node2", ready=False, readyz=None, running=False)
    decide(cluster, world)  # the operator sees it for the first time
    world.lose_node("node1")
    world.silent = {"demo-broker-0"}
    assert deletions(decide(cluster, world)) == []
    world.pass_time(LIMITS.replaced_s + 1)
    assert deletions(decide(cluster, world)) == [("demo-broker-0", True)]


def test_finding_08_the_operators_own_budget_counts() -> None:
    cluster, world = ready()
    world.lose_node("node1")
    silence(world)
    assert deletions(decide(cluster, world, Permits(may_replace=False))) == []


def test_finding_08_ages_begin_when_the_operator_first_looked() -> None:
    cluster, world = ready()
    world.nodes["node1"] = Node(name="node1", ready=False, not_ready_s=1e9)  # whatever another clock says
    silence(world)
    assert deletions(decide(cluster, world)) == []
    world.pass_time(LIMITS.node_lost_s)
    assert deletions(decide(cluster, world)) == [("demo-broker-0", True)]


def test_a_node_that_nobody_knows_says_nothing() -> None:
    cluster, world = ready()
    silence(world)
    del world.nodes["node1"]
    assert deletions(decide(cluster, world)) == []


def test_a_node_that_is_gone_is_lost_at_once() -> None:
    cluster, world = ready()
    silence(world)
    observed = world.observed()
    gone = dataclasses.replace(observed, nodes={**observed.nodes, "node1": None})
    world.observed = lambda: gone  # type: ignore[method-assign]
    assert deletions(decide(cluster, world)) == [("demo-broker-0", True)]


def test_replacing_hides_no_change_of_the_spec() -> None:
    cluster, world = ready()
    world.lose_node("node1")
    silence(world)
    plan = decide(changed(cluster, config={"num.partitions": "3"}), world)
    assert deletions(plan) == [("demo-broker-0", True)]
    assert len(plan.actions) == 3, "and the ConfigMap and the StatefulSet are applied"


@pytest.mark.parametrize(("ready", "lost", "most"), [(3, 0, False), (2, 1, False), (1, 1, False), (1, 2, True),
                                                      (0, 1, True), (0, 0, False)])  # fmt: skip
def test_most(ready: int, lost: int, most: bool) -> None:
    nodes = {f"ready{n}": Node(name="", ready=True) for n in range(ready)}
    assert most_not_ready(nodes | {f"lost{n}": Node(name="", ready=False) for n in range(lost)}) == most
