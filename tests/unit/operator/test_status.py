"""The status names what is there, and Ready has one reason: the one thing to look at."""

import pytest

from automq_operator.observed import Readyz
from tests.support.kubernetes_double import SERVING, World, a_cluster
from tests.support.planner import changed, converge, one_pass, reasons

INTERNAL = {"name": "internal", "port": 9092}


def test_finding_02_addresses_are_named_when_their_service_has_them() -> None:
    world = World()
    world.refuses["Service", "demo-kafka"] = (422, "no")
    cluster = a_cluster()
    for _ in range(4):
        cluster, _ = one_pass(cluster, world)
    assert (cluster.status.bootstrap, cluster.status.listeners) == (None, [])
    assert reasons(cluster)["Ready"] == ("False", "Refused")
    world.refuses.clear()
    world.refused.clear()
    cluster = converge(cluster, world)
    assert cluster.status.bootstrap == "demo-kafka.team.svc:9092"
    world.refuses["Service", "demo-kafka"] = (403, "quota")
    cluster = changed(cluster, listeners=[INTERNAL, {"name": "second", "port": 9095}])
    for _ in range(4):
        cluster, _ = one_pass(cluster, world)
    assert [listener.name for listener in cluster.status.listeners] == ["internal"]


@pytest.mark.parametrize("ready", [True, False])
def test_finding_11_the_store_is_a_reason_not_to_be_ready_whatever_the_kubelet_says(ready: bool) -> None:
    world = World()
    cluster = converge(a_cluster(), world)
    said = Readyz(state="Serving", reason="StoreUnreachable", message="no answer of http://minio.example:9000")
    world.change_pod("demo-broker-0", readyz=said, ready=ready)
    cluster, plan = one_pass(cluster, world)
    assert reasons(cluster)["Ready"] == ("False", "Store")
    assert reasons(cluster)["StorageReady"] == ("False", "StoreUnreachable")
    assert cluster.status.phase == "Degraded"
    assert {note.reason for note in plan.notes} == {"Store", "StoreUnreachable"}
    assert plan.actions == []


def test_finding_11_blocked_probes_are_reported_and_the_cluster_is_ready() -> None:
    world = World()
    cluster = converge(a_cluster(), world)
    world.silent.add("demo-broker-0")
    for _ in range(4):
        world.pass_time(10)
        cluster, _ = one_pass(cluster, world)
    assert reasons(cluster)["Ready"] == ("True", "Unobservable")
    assert reasons(cluster)["StorageReady"] == ("Unknown", "Unknown")
    assert (cluster.status.ready, cluster.status.phase) == ("1/1", "Ready")
    assert "NetworkPolicy" in cluster.status.conditions[0].message


def test_the_kubelet_alone_says_that_a_pod_is_not_ready() -> None:
    """A sidecar that fails keeps clients away though the broker would serve them."""
    world = World()
    cluster = converge(a_cluster(), world)
    world.change_pod("demo-broker-0", ready=False)
    cluster, _ = one_pass(cluster, world)
    assert reasons(cluster)["Ready"][0] == "False"


def test_a_stranger_in_the_place_of_the_bootstrap_service_is_not_named() -> None:
    world = World()
    world.objects["Service", "demo-kafka"] = {"kind": "Service", "metadata": {"name": "demo-kafka", "uid": "theirs"}}
    cluster = a_cluster()
    for _ in range(4):
        cluster, _ = one_pass(cluster, world)
    assert reasons(cluster)["Ready"] == ("False", "NameConflict")
    assert cluster.status.bootstrap is None


def test_a_cluster_that_serves_is_ready_while_brokers_are_added() -> None:
    world = World()
    cluster = converge(a_cluster(replicas=3), world)
    world.readyz = Readyz(state="Recovering")
    cluster = changed(cluster, replicas=5)
    for _ in range(4):
        cluster, _ = one_pass(cluster, world)
        assert reasons(cluster)["Ready"] == ("True", "Serving")
    assert (cluster.status.joining, cluster.status.ready, cluster.status.phase) == ([3, 4], "3/5", "Ready")
    assert reasons(cluster)["ScalingSettled"] == ("False", "ScalingOut")
    world.change_pod("demo-broker-1", ready=False, readyz=Readyz(state="Recovering"))
    cluster, _ = one_pass(cluster, world)
    assert reasons(cluster)["Ready"] == ("False", "Starting"), "one of those that clients know"
    assert "demo-broker-1" in cluster.status.conditions[0].message
    for name in ("demo-broker-1", "demo-broker-3", "demo-broker-4"):
        world.change_pod(name, ready=True, readyz=SERVING)
    cluster = converge(cluster, world)
    assert (cluster.status.joining, cluster.status.ready) == ([], "5/5")
    world.change_pod("demo-broker-4", ready=False, readyz=Readyz(state="Recovering"))
    cluster, _ = one_pass(cluster, world)
    assert reasons(cluster)["Ready"] == ("False", "Starting"), "it has served: clients know it"


def test_a_new_cluster_is_ready_when_all_its_brokers_serve() -> None:
    world = World()
    cluster = a_cluster(replicas=3)
    for _ in range(3):
        cluster, _ = one_pass(cluster, world)
    world.change_pod("demo-broker-2", ready=False, readyz=Readyz(state="Recovering"))
    cluster, _ = one_pass(a_cluster(replicas=3), world)
    assert reasons(cluster)["Ready"] == ("False", "Starting")
    assert cluster.status.joining == []


def test_brokers_that_come_back_from_zero_are_not_new() -> None:
    world = World()
    cluster = converge(a_cluster(replicas=2), world)
    cluster = converge(changed(cluster, replicas=0), world)
    world.readyz = Readyz(state="Recovering")
    cluster = changed(cluster, replicas=2)
    for _ in range(3):
        cluster, _ = one_pass(cluster, world)
    world.change_pod("demo-broker-0", ready=True, readyz=SERVING)
    cluster, _ = one_pass(cluster, world)
    assert reasons(cluster)["Ready"] == ("False", "Starting")
    assert cluster.status.joining == []
