"""Brokers that their cluster gave up while they were cut off: restarted, once it is sure, one after the other."""

from automq_operator.cluster import Cluster
from automq_operator.observed import Readyz
from automq_operator.plan import DeletePod
from tests.support.kubernetes_double import World, a_cluster
from tests.support.planner import LIMITS, changed, converge, one_pass, reasons

WORDS = Readyz(state="Fenced", reason="Fenced", message="broker 1 at epoch 14 is fenced at the controller")


def cut_off(world: World, *names: str) -> None:
    """They are back, and find themselves fenced."""
    for name in names:
        world.change_pod(name, readyz=WORDS, ready=False)


def ready() -> tuple[Cluster, World]:
    world = World()
    return converge(a_cluster(replicas=3), world), world


def test_a_broker_that_stays_fenced_is_restarted_and_serves_again() -> None:
    cluster, world = ready()
    cut_off(world, "demo-broker-1")
    cluster, plan = one_pass(cluster, world)
    assert plan.actions == [], "it was just heard"
    assert reasons(cluster)["Ready"][0] == "False"
    world.pass_time(LIMITS.fenced_s)
    cluster, plan = one_pass(cluster, world)
    assert [(action.name, action.force) for action in plan.actions if isinstance(action, DeletePod)] == [
        ("demo-broker-1", False)
    ]
    assert ("RestartingFencedBroker", True) in {(note.reason, note.warning) for note in plan.notes}
    cluster = converge(cluster, world)
    assert world.deleted_pods == ["demo-broker-1"]
    assert reasons(cluster)["Ready"] == ("True", "Serving")


def test_two_of_three_that_are_fenced_come_back_one_after_the_other() -> None:
    cluster, world = ready()
    cut_off(world, "demo-broker-0", "demo-broker-2")
    one_pass(cluster, world)
    world.pass_time(LIMITS.fenced_s)
    for _ in range(6):
        before = len(world.deleted_pods)
        cluster, _ = one_pass(cluster, world)
        assert len(world.deleted_pods) - before <= 1
    assert sorted(world.deleted_pods) == ["demo-broker-0", "demo-broker-2"]
    assert reasons(cluster)["Ready"] == ("True", "Serving")


def test_a_paused_cluster_and_one_that_is_not_wanted_are_left_alone() -> None:
    cluster, world = ready()
    cut_off(world, "demo-broker-1")
    paused = changed(cluster, replicas=3, paused=True)
    for _ in range(3):
        paused, plan = one_pass(paused, world)
        assert plan.actions == []
        world.pass_time(LIMITS.fenced_s)
    world.deleted_pods.clear()
    cluster, world = ready()
    cut_off(world, "demo-broker-2")
    one_pass(cluster, world)
    world.pass_time(LIMITS.fenced_s)
    cluster = converge(changed(cluster, replicas=2), world)
    assert world.deleted_pods == [], "the StatefulSet takes it away"
