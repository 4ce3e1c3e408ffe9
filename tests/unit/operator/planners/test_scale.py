"""How many pods a StatefulSet keeps: what is wanted, and every broker that is not drained."""

import dataclasses

import pytest

from automq_operator.observed import Readyz
from automq_operator.planners.scale import replicas
from tests.support.kubernetes_double import SERVING, World, a_cluster
from tests.support.planner import LIMITS, changed, converge, one_pass, reasons


@pytest.mark.parametrize(
    ("wanted", "live", "drained", "kept"),
    [
        (1, 0, set(), 1),
        (3, 1, set(), 3),
        (1, 3, set(), 3),
        (1, 3, {2}, 2),
        (1, 3, {1}, 3),
        (1, 3, {1, 2}, 1),
        (1, 3, {0, 1, 2}, 1),
        (2, 3, {1, 2}, 2),
    ],
)
def test_only_drained_brokers_at_the_top_go(wanted: int, live: int, drained: set[int], kept: int) -> None:
    assert replicas(wanted=wanted, live=live, drained=drained) == kept


def test_finding_10_scale_in_takes_nobody_away_that_was_not_drained() -> None:
    world = World()
    cluster = converge(a_cluster(replicas=3), world)
    world.stuck |= {1, 2}
    cluster = changed(cluster, replicas=1)
    for _ in range(5):
        cluster, _ = one_pass(cluster, world)
    assert world.objects["StatefulSet", "demo-broker"]["spec"]["replicas"] == 3
    assert reasons(cluster)["Progressing"] == ("True", "ScalingIn")
    assert [broker.id for broker in cluster.status.brokers] == [0, 1, 2]


def test_missing_pods_are_under_way() -> None:
    world = World()
    cluster = converge(a_cluster(), world)
    world.pods.clear()
    world.settle = lambda _: None  # type: ignore[method-assign]
    cluster, plan = one_pass(cluster, world)
    assert reasons(cluster)["Progressing"] == ("True", "Starting")
    assert not plan.converged
    assert dataclasses.asdict(cluster)["status"].ready_replicas == 0


def test_the_last_broker_of_a_roll_is_under_way_until_it_serves() -> None:
    """Its pod is the newest already: nothing is out of date, and clients still miss it."""
    world = World()
    cluster = converge(a_cluster(replicas=3), world)
    cluster = converge(changed(cluster, replicas=3, config={"num.partitions": "3"}), world)
    starting = Readyz(state="Recovering")
    world.change_pod("demo-broker-2", uid="new", ready=False, readyz=starting)
    cluster, plan = one_pass(cluster, world)
    assert reasons(cluster)["Progressing"] == ("True", "Starting")
    assert not plan.converged
    world.change_pod("demo-broker-2", ready=True, readyz=SERVING)
    cluster, _ = one_pass(cluster, world)
    assert reasons(cluster)["Progressing"] == ("False", "Settled")


def test_a_pod_that_does_not_start_in_its_time_is_under_way_no_more() -> None:
    world = World()
    cluster = converge(a_cluster(replicas=3), world)
    world.change_pod("demo-broker-2", uid="new", ready=False, readyz=None)
    cluster, _ = one_pass(cluster, world)
    assert reasons(cluster)["Progressing"] == ("True", "Starting")
    world.pass_time(LIMITS.started_s)
    cluster, _ = one_pass(cluster, world)
    assert reasons(cluster)["Progressing"] == ("False", "Settled")
    assert reasons(cluster)["Ready"][0] == "False"
