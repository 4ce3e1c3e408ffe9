"""Scale-in: emptied, verified by the broker's own word, shrunk, forgotten; taken back at any moment."""

import dataclasses

import msgspec
import pytest

from automq_operator.cluster import Cluster
from automq_operator.observed import Readyz, Refusal
from automq_operator.plan import DeletePod, LabelPod, SetDraining, Unregister
from automq_operator.reconcile import reconcile
from tests.support.kubernetes_double import World, a_cluster
from tests.support.planner import LIMITS, NOW, changed, converge, decide, one_pass, reasons


def ready(replicas: int) -> tuple[Cluster, World]:
    world = World()
    return converge(a_cluster(replicas=replicas), world), world


def live(world: World) -> int:
    found: int = world.objects["StatefulSet", "demo-broker"]["spec"]["replicas"]
    return found


def test_brokers_are_emptied_before_they_go_and_forgotten_afterwards() -> None:
    cluster, world = ready(5)
    cluster = changed(cluster, replicas=3)
    cluster, plan = one_pass(cluster, world)
    assert [item for item in plan.actions if isinstance(item, DeletePod)] == []
    assert live(world) == 5, "nobody goes who has not been asked"
    assert world.draining == {3, 4}
    assert reasons(cluster)["ScalingSettled"] == ("False", "ScalingIn")
    cluster = converge(cluster, world)
    assert live(world) == 3
    assert sorted(world.pods) == [f"demo-broker-{n}" for n in range(3)]
    assert set(world.registered) == {0, 1, 2}
    assert world.draining == set()
    assert reasons(cluster)["ScalingSettled"] == ("True", "Settled")
    assert cluster.status.ready == "3/3"


def test_nobody_goes_while_it_says_that_it_has_something() -> None:
    cluster, world = ready(3)
    world.stuck.add(1)
    cluster = changed(cluster, replicas=1)
    for _ in range(20):
        world.pass_time(60)
        cluster, _ = one_pass(cluster, world)
    assert live(world) == 2, "the one above it is empty and gone"
    assert reasons(cluster)["Progressing"] == ("True", "ScalingIn")
    assert "demo-broker-1 (it leads 4 partitions)" in _message(cluster, "Progressing")
    assert "demo-broker-1" in world.pods
    world.stuck.clear()
    cluster = converge(cluster, world)
    assert live(world) == 1


def test_a_broker_below_one_that_is_not_empty_stays_too() -> None:
    cluster, world = ready(3)
    world.stuck.add(2)
    cluster = changed(cluster, replicas=1)
    for _ in range(5):
        cluster, _ = one_pass(cluster, world)
    assert live(world) == 3, "a StatefulSet gives up its highest only"


@pytest.mark.parametrize("passes", [1, 2, 3])
def test_raising_replicas_again_takes_the_drain_back(passes: int) -> None:
    cluster, world = ready(4)
    world.stuck |= {2, 3}
    cluster = changed(cluster, replicas=2)
    for _ in range(passes):
        cluster, _ = one_pass(cluster, world)
    assert world.draining == {2, 3}
    cluster = converge(changed(cluster, replicas=4), world)
    assert world.draining == set()
    assert live(world) == 4
    assert world.deleted_pods == []
    assert not any(pod.labelled_draining for pod in world.pods.values())
    assert reasons(cluster)["ScalingSettled"] == ("True", "Settled")


def test_a_drain_that_outlived_its_pod_is_taken_back_from_the_one_that_comes_again() -> None:
    """The cluster keeps the wish by node id: a broker made anew under it would never get anything."""
    cluster, world = ready(3)
    world.draining.add(1)
    del world.pods["demo-broker-1"]
    cluster = converge(cluster, world)
    assert world.draining == set()


def test_a_new_operator_goes_on_where_the_old_one_died() -> None:
    """No decision rests on a memory: every pass begins with a cluster that has only what the API server keeps."""
    cluster, world = ready(4)
    cluster = changed(cluster, replicas=2)
    for _ in range(10):
        plan = reconcile(cluster, world.observed(), now=NOW, limits=LIMITS)
        for action in plan.actions[:1]:  # it dies after each single action
            world.carry_out(action)
        world.settle(cluster)
        if not plan.actions:
            break
    cluster = converge(cluster, world, 30)
    assert live(world) == 2
    assert set(world.registered) == {0, 1}


def test_autoscalers_stop_counting_a_broker_that_goes_and_only_that() -> None:
    cluster, world = ready(3)
    world.stuck.add(2)
    cluster, _ = one_pass(changed(cluster, replicas=2), world)
    assert {name for name, pod in world.pods.items() if pod.labelled_draining} == {"demo-broker-2"}


@pytest.mark.parametrize(
    ("fields", "goes"),
    [
        ({"readyz": None, "running": False, "ready": False, "waiting_reason": "CrashLoopBackOff"}, True),
        ({"readyz": None, "running": False, "ready": False, "scheduled": False}, True),
        ({"readyz": Readyz(state="Waiting", reason="StoreUnreachable"), "ready": False}, True),
        ({"readyz": Readyz(state="Recovering"), "ready": False}, False),
        ({"readyz": None}, False),  # the kubelet says Ready, it does not answer us: it serves
        ({"readyz": None, "ready": False}, False),  # hangs: who knows
    ],
)
def test_silence_is_no_proof_of_emptiness_and_what_does_not_run_has_nothing(
    fields: dict[str, object], goes: bool
) -> None:
    cluster, world = ready(2)
    world.change_pod("demo-broker-1", **fields)
    cluster = changed(cluster, replicas=1)
    for _ in range(4):
        world.pass_time(30)
        cluster, _ = one_pass(cluster, world)
    assert live(world) == (1 if goes else 2)


def test_scaling_in_keeps_no_other_change_from_being_made() -> None:
    cluster, world = ready(3)
    world.stuck.add(2)
    cluster, _ = one_pass(changed(cluster, replicas=2), world)
    cluster = changed(cluster, replicas=2, config={"num.partitions": "3"})
    for _ in range(20):
        cluster, _ = one_pass(cluster, world)
    assert "num.partitions=3" in world.objects["ConfigMap", "demo-config"]["data"]["broker.properties"]
    assert world.deleted_pods == ["demo-broker-0", "demo-broker-1"], "rolled; the one that goes, goes as it is"
    assert live(world) == 3


def test_zero_replicas_ask_nobody_and_end_all() -> None:
    cluster, world = ready(3)
    cluster = converge(changed(cluster, replicas=0), world)
    assert live(world) == 0
    assert world.asked_of_brokers == []
    assert reasons(cluster)["ScalingSettled"] == ("True", "ScaledToZero")
    cluster = converge(changed(cluster, replicas=3), world)
    assert cluster.status.ready == "3/3"


def test_the_annotation_keeps_a_broker_empty_as_long_as_it_stands() -> None:
    cluster, world = ready(3)
    cluster = dataclasses.replace(cluster, drain=frozenset({1}))
    cluster = converge(cluster, world)
    assert world.draining == {1}
    assert [broker.state for broker in cluster.status.brokers] == ["Serving", "Draining", "Serving"]
    assert world.deleted_pods == []
    cluster = converge(dataclasses.replace(cluster, drain=frozenset()), world)
    assert world.draining == set()


def test_a_scale_in_takes_named_brokers_that_are_the_highest() -> None:
    cluster, world = ready(4)
    cluster = converge(dataclasses.replace(cluster, drain=frozenset({2, 3})), world)
    assert world.draining == {2, 3}
    assert "demo-broker-2, demo-broker-3 kept empty" in _message(cluster, "ScalingSettled")
    world.asked_of_brokers.clear()
    cluster = converge(dataclasses.replace(changed(cluster, replicas=2), drain=frozenset({2, 3})), world)
    assert live(world) == 2
    assert ("drain", 2) not in world.asked_of_brokers, "they were empty already"
    assert _message(cluster, "ScalingSettled") == "2 brokers"


def test_a_named_broker_below_the_highest_is_emptied_and_stays_and_the_status_says_so() -> None:
    cluster, world = ready(3)
    world.stuck.add(2)
    cluster = dataclasses.replace(changed(cluster, replicas=2), drain=frozenset({0}))
    for _ in range(4):
        cluster, _ = one_pass(cluster, world)
    assert world.draining == {0, 2}
    assert live(world) == 3
    assert "demo-broker-0 (stays, as fewer replicas take the highest ids)" in _message(cluster, "Progressing")
    world.stuck.clear()
    cluster = converge(cluster, world)
    assert live(world) == 2
    assert world.draining == {0}
    assert _message(cluster, "ScalingSettled").startswith("2 brokers; demo-broker-0 kept empty by automq.io/drain")


def test_naming_every_broker_that_stays_is_not_followed_and_holds_up_no_scale_in() -> None:
    cluster, world = ready(3)
    cluster = dataclasses.replace(changed(cluster, replicas=2), drain=frozenset({0, 1, 2}))
    cluster = converge(cluster, world)
    assert live(world) == 2
    assert world.draining == set()
    assert "not followed" in _message(cluster, "ScalingSettled")


def test_a_broker_that_is_fenced_and_gone_is_forgotten_and_none_that_lives() -> None:
    cluster, world = ready(2)
    world.registered |= {7: True, 8: False}
    plan = decide(cluster, world)
    assert [item.broker for item in plan.actions if isinstance(item, Unregister)] == [7]


def test_a_restart_empties_its_broker_first_and_fills_it_before_the_next() -> None:
    cluster, world = ready(3)
    cluster = changed(cluster, replicas=3, config={"num.partitions": "3"})
    for _ in range(40):
        before = set(world.deleted_pods)
        cluster, plan = one_pass(cluster, world)
        for name in set(world.deleted_pods) - before:
            assert ("drain", int(name[-1])) in world.asked_of_brokers, f"{name} was restarted with all it led"
        assert len(world.draining) <= 1
    assert world.deleted_pods == [f"demo-broker-{n}" for n in range(3)]
    assert world.draining == set()
    told = list(world.asked_of_brokers)
    assert told == [(word, n) for n in range(3) for word in ("drain", "fill")]


def test_a_restart_waits_for_its_drain_but_not_for_ever() -> None:
    cluster, world = ready(2)
    world.stuck.add(0)
    cluster = changed(cluster, replicas=2, config={"num.partitions": "3"})
    for _ in range(5):
        world.pass_time(5)
        cluster, _ = one_pass(cluster, world)
    assert world.deleted_pods == []
    world.pass_time(60)
    cluster, _ = one_pass(cluster, world)
    assert world.deleted_pods == ["demo-broker-0"]


def test_a_change_that_is_taken_back_takes_its_drain_back() -> None:
    cluster, world = ready(2)
    world.stuck.add(0)
    cluster, _ = one_pass(changed(cluster, replicas=2, config={"num.partitions": "3"}), world)
    cluster, _ = one_pass(cluster, world)
    assert world.draining == {0}
    cluster = converge(changed(cluster, replicas=2), world)
    assert (world.draining, world.deleted_pods) == (set(), [])


def test_the_only_broker_is_restarted_as_it_is() -> None:
    cluster, world = ready(1)
    cluster = converge(changed(cluster, config={"num.partitions": "3"}), world)
    assert world.deleted_pods == ["demo-broker-0"]
    assert world.asked_of_brokers == []


def test_a_broker_is_told_itself_and_of_one_that_is_gone_those_that_stay_are_told_first() -> None:
    cluster, world = ready(3)
    world.registered[7] = True
    plan = decide(changed(cluster, replicas=1), world)
    told = {item.broker: item.through for item in plan.actions if isinstance(item, SetDraining)}
    assert told == {n: ((f"address-of-demo-broker-{n}", 9092),) for n in (1, 2)}, "another would refuse it"
    (of_the_gone,) = [item for item in plan.actions if isinstance(item, Unregister)]
    assert of_the_gone.through[0] == ("address-of-demo-broker-0", 9092)


def test_a_new_broker_without_a_share_is_waited_for_but_not_for_ever() -> None:
    cluster, world = ready(1)
    world.readyz = msgspec.structs.replace(world.readyz, led_partitions=0)
    cluster, _ = one_pass(changed(cluster, replicas=2), world)
    world.draining.add(1)  # leads nothing
    cluster = dataclasses.replace(cluster, drain=frozenset())
    cluster, _ = one_pass(cluster, world)
    assert reasons(cluster)["ScalingSettled"] == ("False", "Balancing")


def test_a_pause_drains_nobody() -> None:
    cluster, world = ready(3)
    cluster, plan = one_pass(changed(cluster, replicas=1, paused=True), world)
    assert not [item for item in plan.actions if isinstance(item, SetDraining | LabelPod)]


def test_a_broker_that_does_not_start_is_not_looked_at_every_second() -> None:
    world = World()
    world.unavailable_images.add("automq:bad")
    cluster = a_cluster(replicas=2, image="automq:bad")
    for _ in range(4):
        cluster, plan = one_pass(cluster, world)
    assert reasons(cluster)["ScalingSettled"] == ("False", "ScalingOut")
    assert plan.converged


def test_what_the_cluster_refuses_to_forget_is_not_asked_for_every_second() -> None:
    cluster, world = ready(1)
    world.registered[7] = False
    assert not decide(cluster, world).converged, "it is fenced in a moment"
    world.refused["Broker", "demo-broker-7"] = Refusal(status=42, message="it has partitions", digest="unregister")
    assert decide(cluster, world).converged


def _message(cluster: Cluster, kind: str) -> str:
    return next(item.message for item in cluster.status.conditions if item.type == kind)
