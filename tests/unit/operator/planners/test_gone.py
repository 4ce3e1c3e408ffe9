"""A broker whose pod is gone for good is told of at once, by its epoch; silence and NotReady never are."""

import dataclasses

import pytest

from automq_operator.cluster import Cluster
from automq_operator.observed import GonePod
from automq_operator.plan import EndBroker
from tests.support.kubernetes_double import World, a_cluster
from tests.support.planner import changed, converge, decide, one_pass

GONE = GonePod(pod="demo-broker-1", uid="old", broker=1, epoch=17)


def ready(replicas: int = 3) -> tuple[Cluster, World]:
    world = World()
    return converge(a_cluster(replicas=replicas), world), world


def told(cluster: Cluster, world: World) -> list[tuple[int, int]]:
    return [(item.broker, item.epoch) for item in decide(cluster, world).actions if isinstance(item, EndBroker)]


def test_the_cluster_is_told_by_the_epoch_through_brokers_that_serve() -> None:
    cluster, world = ready()
    del world.pods["demo-broker-1"]
    world.gone = [GONE]
    plan = decide(cluster, world)
    (action,) = [item for item in plan.actions if isinstance(item, EndBroker)]
    assert (action.broker, action.epoch, action.uid) == (1, 17, "old")
    assert [host for host, _ in action.through] == ["address-of-demo-broker-0", "address-of-demo-broker-2"]
    assert plan.actions[0] is action, "before anything else: others wait for it"
    assert [note.reason for note in plan.notes if note.about == "old"] == ["BrokerGone"]
    assert not plan.converged


def test_one_that_the_cluster_knows_to_be_gone_is_not_told_of() -> None:
    cluster, world = ready()
    world.gone = [GONE]
    world.registered[1] = True
    assert told(cluster, world) == []
    del world.registered[1]
    assert told(cluster, world) == []


def test_without_a_broker_that_serves_nobody_can_be_told() -> None:
    cluster, world = ready(1)
    world.gone = [dataclasses.replace(GONE, broker=0, pod="demo-broker-0")]
    del world.pods["demo-broker-0"]
    assert told(cluster, world) == []


def test_a_pause_tells_nobody() -> None:
    cluster, world = ready()
    world.gone = [GONE]
    assert told(changed(cluster, replicas=3, paused=True), world) == []


@pytest.mark.parametrize("silent", [False, True])
def test_a_node_that_is_not_ready_says_nothing_of_its_broker(silent: bool) -> None:
    cluster, world = ready()
    for number in range(3):
        world.change_pod(f"demo-broker-{number}", node=f"node{number + 1}")
    world.lose_node("node2", for_s=3600)
    if silent:
        world.silent.add("demo-broker-1")
    for _ in range(3):
        cluster, _ = one_pass(cluster, world)
    assert world.ended == []
