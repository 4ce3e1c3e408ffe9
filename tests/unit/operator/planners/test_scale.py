"""How many pods a StatefulSet keeps: what is wanted, and every broker that is not drained."""

import dataclasses

import pytest

from automq_operator.planners.scale import replicas
from tests.support.kubernetes_double import World, a_cluster
from tests.support.planner import changed, converge, one_pass, reasons


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
