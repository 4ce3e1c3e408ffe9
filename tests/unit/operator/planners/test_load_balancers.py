"""Addresses of load balancers: nothing waits for them, and each broker tells clients its own once it is known."""

import dataclasses
from typing import Any

import msgspec

from automq_operator.plan import Permits
from tests.support.kubernetes_double import World, a_cluster
from tests.support.planner import changed, converge, decide, deletions, one_pass, reasons

INTERNAL: dict[str, Any] = {"name": "internal", "port": 9092}
LISTENERS = [INTERNAL, {"name": "outside", "port": 9094, "type": "LoadBalancer"}]


def _told(world: World, node_id: int = 0) -> dict[str, str]:
    readyz = world.pods[f"demo-broker-{node_id}"].readyz
    assert readyz is not None
    return dict(readyz.advertised or {})


def test_a_load_balancer_that_never_comes_keeps_no_broker_from_serving() -> None:
    world = World()
    cluster = converge(a_cluster(listeners=LISTENERS), world)
    assert reasons(cluster)["Ready"] == ("True", "Serving")
    assert reasons(cluster)["Progressing"] == ("True", "WaitingForLoadBalancer")
    plan = decide(cluster, world)
    assert plan.converged, "only others can move it: it is not looked at every second"
    assert plan.well, "an upgrade of other clusters does not wait for it"
    assert list(_told(world)) == ["INTERNAL"], "a broker has no listener that nobody can reach"
    assert [listener.name for listener in cluster.status.listeners] == ["internal"]


def test_a_broker_is_restarted_once_when_its_address_is_known() -> None:
    world = World()
    cluster = converge(a_cluster(listeners=LISTENERS), world)
    world.pass_time(60)
    world.give_address("demo-kafka-outside", hostname="begin.elb.example")
    world.pass_time(60)
    world.give_address("demo-outside-0", hostname="zero.elb.example")
    cluster = converge(cluster, world)
    assert world.deleted_pods == ["demo-broker-0"]
    assert _told(world)["OUTSIDE"] == "zero.elb.example:9094"
    assert reasons(cluster)["Progressing"] == ("False", "Settled")
    assert cluster.status.listeners[1].bootstrap == "begin.elb.example:9094"


def test_the_file_is_written_before_the_broker_is_restarted() -> None:
    world = World()
    cluster = converge(a_cluster(listeners=LISTENERS), world)
    world.pass_time(60)
    world.give_address("demo-outside-0", ip="192.0.2.1")
    plan = decide(cluster, world)
    assert deletions(plan) == []
    assert [action.manifest["kind"] for action in plan.actions] == ["ConfigMap"]  # type: ignore[union-attr]


def test_an_address_that_changes_is_told_anew() -> None:
    world = World()
    cluster = converge(a_cluster(listeners=LISTENERS), world)
    world.pass_time(60)
    world.give_address("demo-outside-0", ip="192.0.2.1")
    cluster = converge(cluster, world)
    world.pass_time(60)
    world.give_address("demo-outside-0", ip="192.0.2.2")
    converge(cluster, world)
    assert _told(world)["OUTSIDE"] == "192.0.2.2:9094"
    assert world.deleted_pods == ["demo-broker-0"] * 2


def test_brokers_of_several_are_restarted_one_by_one_and_only_those_whose_address_came() -> None:
    world = World()
    cluster = converge(a_cluster(listeners=LISTENERS, replicas=3), world)
    world.pass_time(60)
    for node_id in (0, 2):
        world.give_address(f"demo-outside-{node_id}", ip=f"192.0.2.{node_id}")
    most_out = 0
    for _ in range(12):
        cluster, plan = one_pass(cluster, world)
        most_out = max(most_out, len(deletions(plan)))
    assert most_out == 1
    assert sorted(world.deleted_pods) == ["demo-broker-0", "demo-broker-2"]
    assert [_told(world, node_id).get("OUTSIDE") for node_id in range(3)] == ["192.0.2.0:9094", None, "192.0.2.2:9094"]


def test_a_broker_more_changes_no_other() -> None:
    world = World()
    cluster = converge(a_cluster(listeners=LISTENERS), world)
    world.pass_time(60)
    world.give_address("demo-outside-0", ip="192.0.2.1")
    cluster = converge(cluster, world)
    world.deleted_pods.clear()
    cluster = converge(changed(cluster, listeners=LISTENERS, replicas=2), world)
    assert world.deleted_pods == []
    world.pass_time(60)
    world.give_address("demo-outside-1", ip="192.0.2.2")
    converge(cluster, world)
    assert world.deleted_pods == ["demo-broker-1"]


def test_a_broker_of_a_release_that_does_not_say_is_left_alone() -> None:
    world = World()
    cluster = converge(a_cluster(listeners=LISTENERS), world)
    world.change_pod("demo-broker-0", readyz=world.readyz)
    world.pass_time(60)
    world.give_address("demo-outside-0", ip="192.0.2.1")
    for _ in range(3):
        cluster, plan = one_pass(cluster, world)
        assert deletions(plan) == []


def test_with_a_host_nothing_is_waited_for_and_nobody_restarted() -> None:
    world = World()
    listener = {**LISTENERS[1], "host": "b{id}.example", "bootstrapHost": "kafka.example"}
    cluster = converge(a_cluster(listeners=[INTERNAL, listener]), world)
    assert cluster.status.listeners[1].bootstrap == "kafka.example:9094"
    world.pass_time(60)
    world.give_address("demo-outside-0", ip="192.0.2.1")
    world.pass_time(60)
    world.give_address("demo-kafka-outside", ip="192.0.2.9")
    cluster = converge(cluster, world)
    assert world.deleted_pods == []
    assert reasons(cluster)["Progressing"] == ("False", "Settled")


def test_a_refused_load_balancer_is_named_and_holds_nothing_up() -> None:
    world = World()
    world.refuses["Service", "demo-outside-0"] = (403, "exceeded quota: services.loadbalancers")
    cluster = a_cluster(listeners=LISTENERS)
    for _ in range(4):
        cluster, _plan = one_pass(cluster, world)
    assert reasons(cluster)["Ready"] == ("True", "Serving")
    assert reasons(cluster)["Progressing"] == ("False", "Refused")


def test_what_is_about_connections_only_ends_no_hold_of_an_upgrade() -> None:
    """A user who opens a port to a team while an upgrade waits its turn has asked for no restart."""
    world = World()
    cluster = converge(a_cluster(default_image="automq:1", listeners=LISTENERS), world)
    upgraded = dataclasses.replace(cluster, default_image="automq:2")
    peers = {"allowFrom": [{"podSelector": {}}], "annotations": {"a": "b"}}
    upgraded = changed(upgraded, listeners=[INTERNAL, LISTENERS[1] | peers], networkPolicy={"metricsFrom": [{}]})
    for _ in range(3):
        upgraded, plan = one_pass(upgraded, world, Permits(may_move=False))
        assert deletions(plan) == []
    assert reasons(upgraded)["Progressing"][1] == "UpgradePending"


def test_a_word_that_never_comes_is_no_reason_to_restart_again_and_again() -> None:
    """A broker that goes on telling something else is restarted now and then, and serves in between."""
    world = World()
    cluster = converge(a_cluster(listeners=LISTENERS), world)
    world.give_address("demo-outside-0", ip="192.0.2.1")
    passes_s, minutes = 1.0, 5
    for _ in range(int(minutes * 60 / passes_s)):
        world.pass_time(passes_s)
        cluster, _plan = one_pass(cluster, world)
        pod = world.pods["demo-broker-0"]
        if pod.readyz is not None:
            stale = {"INTERNAL": "demo-broker-0.demo-brokers.team.svc:9092"}
            world.change_pod(pod.name, readyz=msgspec.structs.replace(pod.readyz, advertised=stale))
    assert 1 <= len(world.deleted_pods) <= minutes * 60 / 30


def test_a_broker_that_is_new_is_given_time_to_read_its_file() -> None:
    world = World()
    cluster = converge(a_cluster(listeners=LISTENERS), world)
    world.give_address("demo-outside-0", ip="192.0.2.1")
    for _ in range(3):
        cluster, plan = one_pass(cluster, world)
        assert deletions(plan) == []
    world.pass_time(31)
    one_pass(cluster, world)
    assert world.deleted_pods == ["demo-broker-0"]
