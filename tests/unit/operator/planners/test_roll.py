"""Restarts: for what the user or an upgrade changed, one at a time, none while another is out, none for a silence."""

import dataclasses
from typing import Any

import pytest

from automq_operator import naming
from automq_operator.cluster import Cluster
from automq_operator.observed import Readyz
from automq_operator.plan import Permits
from tests.support.kubernetes_double import World, a_cluster
from tests.support.planner import changed, converge, decide, deletions, one_pass, reasons

HELD = Permits(may_move=False, waits_for="team/first")


def ready(replicas: int = 1, **spec: Any) -> tuple[Cluster, World]:
    world = World()
    return converge(a_cluster(replicas=replicas, **spec), world), world


def test_finding_04_one_unanswered_probe_restarts_nobody() -> None:
    world = World()
    cluster, _ = one_pass(a_cluster(), world)  # the first pod: made before the cluster id was known
    cluster, _ = one_pass(cluster, world)
    world.silent.add("demo-broker-0")
    for _ in range(60):
        world.pass_time(1)
        cluster, plan = one_pass(cluster, world)
        assert deletions(plan) == []
    assert world.deleted_pods == []


def test_finding_04_a_silent_broker_counts_as_serving_while_the_kubelet_says_ready() -> None:
    cluster, world = ready()
    world.silent.add("demo-broker-0")
    cluster, _ = one_pass(cluster, world)
    assert (cluster.status.ready, reasons(cluster)["Ready"]) == ("1/1", ("True", "Serving"))
    world.pass_time(30)
    cluster, _ = one_pass(cluster, world)
    assert reasons(cluster)["Ready"] == ("True", "Unobservable")
    world.change_pod("demo-broker-0", ready=False)
    cluster, _ = one_pass(cluster, world)
    assert reasons(cluster)["Ready"] == ("False", "Starting"), "two witnesses, and neither speaks for it"


def test_finding_04_a_learned_id_is_in_no_hash_of_a_pod() -> None:
    world = World()
    cluster, _ = one_pass(a_cluster(), world)
    before = world.pods["demo-broker-0"].restart_hash
    cluster = converge(cluster, world)
    assert cluster.status.cluster_id == "the-cluster-id"
    template = world.objects["StatefulSet", "demo-broker"]["spec"]["template"]["metadata"]["annotations"]
    assert template[naming.HASH_ANNOTATION] == before


def test_finding_10_a_bad_image_stops_at_the_first_of_three() -> None:
    cluster, world = ready(replicas=3)
    world.unavailable_images.add("automq:bad")
    cluster = changed(cluster, replicas=3, image="automq:bad")
    for _ in range(30):
        world.pass_time(10)
        cluster, _ = one_pass(cluster, world)
    assert world.deleted_pods == ["demo-broker-0"]
    assert cluster.status.ready == "2/3"
    cluster = changed(cluster, replicas=3, image="automq:good")
    for _ in range(12):
        cluster, _ = one_pass(cluster, world)
    assert cluster.status.ready == "3/3"
    assert world.deleted_pods == [f"demo-broker-{n}" for n in (0, 0, 1, 2)], "the broken one first"


def test_finding_10_a_roll_waits_until_the_one_before_serves() -> None:
    cluster, world = ready(replicas=3)
    cluster = changed(cluster, replicas=3, config={"num.partitions": "3"})
    world.readyz = Readyz(state="Recovering")
    for _ in range(10):
        cluster, _ = one_pass(cluster, world)
    assert world.deleted_pods == ["demo-broker-0"]
    world.change_pod("demo-broker-0", readyz=Readyz(state="Serving", cluster_id="the-cluster-id"), ready=True)
    for _ in range(4):  # given partitions again; the next is emptied
        cluster, _ = one_pass(cluster, world)
    assert world.deleted_pods == ["demo-broker-0", "demo-broker-1"]


def test_no_roll_while_a_broker_that_is_up_to_date_is_out() -> None:
    cluster, world = ready(replicas=2)
    cluster = changed(cluster, replicas=2, config={"num.partitions": "3"})
    cluster, _ = one_pass(cluster, world)
    world.change_pod("demo-broker-1", restart_hash=_template_hash(world), ready=False, readyz=None)
    for _ in range(5):
        cluster, _ = one_pass(cluster, world)
    assert world.deleted_pods == []


def _template_hash(world: World) -> str:
    template = world.objects["StatefulSet", "demo-broker"]["spec"]["template"]["metadata"]["annotations"]
    found: str = template[naming.HASH_ANNOTATION]
    return found


def _image(world: World) -> str:
    pod = world.objects["StatefulSet", "demo-broker"]["spec"]["template"]["spec"]
    found: str = pod["containers"][0]["image"]
    return found


def test_all_broken_by_a_bad_change_are_all_mended_by_the_next() -> None:
    world = World()
    world.unavailable_images.add("automq:bad")
    cluster = a_cluster(replicas=3, image="automq:bad")
    for _ in range(4):
        cluster, _ = one_pass(cluster, world)
    cluster = converge(changed(cluster, replicas=3, image="automq:good"), world)
    assert cluster.status.ready == "3/3"


def test_a_broker_that_waits_for_its_store_is_restarted_for_adopt_only() -> None:
    cluster, world = ready()
    words = Readyz(state="Waiting", reason="StoreOwnedByAnother", message="it is another's")
    world.change_pod("demo-broker-0", readyz=words, ready=False)
    for _ in range(5):
        cluster, _ = one_pass(cluster, world)
    assert world.deleted_pods == []
    world.readyz = words
    cluster = changed(cluster, storage={"adopt": "abc"})
    for _ in range(5):
        cluster, _ = one_pass(cluster, world)
    assert world.deleted_pods == ["demo-broker-0"], "once, however often it is refused again"


@pytest.mark.parametrize("state", ["Starting", "Recovering", "Draining", "Damaged"])
def test_no_state_of_a_broker_is_a_reason_to_restart_it(state: str) -> None:
    cluster, world = ready()
    world.change_pod("demo-broker-0", readyz=Readyz(state=state), ready=False)
    for _ in range(5):
        cluster, _ = one_pass(cluster, world)
    assert world.deleted_pods == []
    assert reasons(cluster)["Ready"][0] == "False"


def test_finding_09_an_upgraded_operator_restarts_nobody_before_its_turn() -> None:
    cluster, world = ready()
    upgraded = dataclasses.replace(cluster, default_image="automq:2")
    for _ in range(5):
        upgraded, plan = one_pass(upgraded, world, HELD)
        assert plan.actions == []
        assert plan.pending
        assert plan.converged
    assert reasons(upgraded)["Progressing"] == ("True", "UpgradePending")
    assert reasons(upgraded)["Ready"] == ("True", "Serving")
    upgraded, plan = one_pass(upgraded, world)
    assert plan.moved_by == "automq:2"
    for _ in range(5):
        upgraded, plan = one_pass(upgraded, world)
    assert world.deleted_pods == ["demo-broker-0"]
    assert (plan.pending, plan.moved_by, plan.well) == (False, "automq:2", True)
    _, plan = one_pass(upgraded, world, HELD)
    assert plan.actions == [], "and it stays there when its turn is over"


def test_finding_09_status_wiped_and_operator_upgraded_restarts_nobody() -> None:
    cluster, world = ready()
    wiped = dataclasses.replace(a_cluster(default_image="automq:2"), generation=cluster.generation)
    for _ in range(5):
        wiped, _ = one_pass(wiped, world, HELD)
    assert world.deleted_pods == []
    assert (
        world.objects["StatefulSet", "demo-broker"]["spec"]["template"]["spec"]["containers"][0]["image"] == "automq:1"
    )


def test_finding_09_a_user_change_meanwhile_is_made_with_the_image_in_use() -> None:
    cluster, world = ready()
    upgraded = dataclasses.replace(cluster, default_image="automq:2")
    upgraded = changed(upgraded, config={"num.partitions": "3"})
    for _ in range(5):
        upgraded, plan = one_pass(upgraded, world, HELD)
    assert world.deleted_pods == ["demo-broker-0"]
    assert _image(world) == "automq:1"
    assert plan.pending


def test_finding_09_spec_image_pins() -> None:
    cluster, world = ready(image="automq:1")
    upgraded = dataclasses.replace(cluster, default_image="automq:2")
    upgraded, plan = one_pass(upgraded, world)
    assert (plan.actions, plan.pending) == ([], False)


def test_finding_09_taking_the_pin_away_changes_no_image() -> None:
    cluster, world = ready(image="automq:pinned")
    cluster = changed(cluster)
    for _ in range(5):
        cluster, plan = one_pass(cluster, world, HELD)
    assert world.deleted_pods == []
    assert plan.pending


def test_finding_09_children_of_an_older_release_are_held_too() -> None:
    cluster, world = ready()
    for kind, name in (("StatefulSet", "demo-broker"), ("ConfigMap", "demo-config")):
        annotations = world.objects[kind, name]["metadata"]["annotations"]
        del annotations[naming.APPLIED_ANNOTATION], annotations[naming.INPUTS_ANNOTATION]
    template = world.objects["StatefulSet", "demo-broker"]["spec"]["template"]["metadata"]["annotations"]
    template[naming.HASH_ANNOTATION] = "what an older release made of it"
    world.change_pod("demo-broker-0", restart_hash="what an older release made of it")
    _, plan = one_pass(cluster, world, HELD)
    assert (plan.actions, plan.pending) == ([], True)


def test_finding_09_a_pinned_cluster_is_not_restarted_for_what_a_release_renders() -> None:
    cluster, world = ready(image="automq:1")
    for kind, name in (("StatefulSet", "demo-broker"), ("ConfigMap", "demo-config")):
        world.objects[kind, name]["metadata"]["annotations"][naming.APPLIED_ANNOTATION] = "of an older release"
    template = world.objects["StatefulSet", "demo-broker"]["spec"]["template"]["metadata"]["annotations"]
    template[naming.HASH_ANNOTATION] = "what an older release made of it"
    world.change_pod("demo-broker-0", restart_hash="what an older release made of it")
    cluster, plan = one_pass(cluster, world)
    assert (plan.actions, plan.pending, plan.converged) == ([], False, True)
    cluster = changed(cluster, image="automq:1", config={"num.partitions": "3"})
    for _ in range(5):
        cluster, plan = one_pass(cluster, world)
    assert world.deleted_pods == ["demo-broker-0"], "its user's change brings it up to date"


def test_a_node_port_that_is_lost_restarts_nobody() -> None:
    listeners = [{"name": "internal", "port": 9092}, {"name": "outside", "port": 9094, "type": "NodePort"}]
    cluster, world = ready(listeners=listeners)
    del world.objects["Service", "demo-kafka-outside"]
    for _ in range(5):
        cluster, _ = one_pass(cluster, world)
    assert world.deleted_pods == []
    assert decide(cluster, world).actions == []


def test_finding_02_a_refused_node_port_keeps_no_broker_from_being_made() -> None:
    listeners = [{"name": "internal", "port": 9092}, {"name": "outside", "port": 9094, "type": "NodePort"}]
    world = World()
    world.refuses["Service", "demo-kafka-outside"] = (422, "provided port is not in the valid range")
    cluster = a_cluster(listeners=listeners)
    for _ in range(6):
        cluster, _ = one_pass(cluster, world)
    assert cluster.status.ready == "1/1"
    assert reasons(cluster)["Progressing"] == ("False", "Refused")
    words = "Service/demo-kafka-outside: 422 provided port is not in the valid range"
    assert cluster.status.conditions[2].message == words, "and nothing of applying it"


def test_finding_12_a_pod_of_another_stateful_set_is_no_broker() -> None:
    cluster, world = ready()
    copied = dataclasses.replace(world.pods["demo-broker-0"], name="demo-broker-1", uid="theirs", restart_hash="old")
    world.pods["demo-broker-1"] = dataclasses.replace(copied, owner_uid="another StatefulSet")
    for _ in range(5):
        cluster, _ = one_pass(cluster, world)
    assert world.deleted_pods == []
    assert [broker.id for broker in cluster.status.brokers] == [0]


def test_a_broker_that_is_down_for_another_reason_is_not_restarted_for_adopt() -> None:
    cluster, world = ready()
    world.change_pod("demo-broker-0", readyz=Readyz(state="Recovering"), ready=False)
    cluster = changed(cluster, storage={"adopt": "abc"})
    for _ in range(5):
        cluster, _ = one_pass(cluster, world)
    assert world.deleted_pods == []


def test_finding_09_an_image_that_somebody_sets_in_the_stateful_set_is_taken_out_again() -> None:
    cluster, world = ready()
    world.objects["StatefulSet", "demo-broker"]["spec"]["template"]["spec"]["containers"][0]["image"] = "theirs:1"
    world.drifted.add(("StatefulSet", "demo-broker"))
    for _ in range(5):
        cluster, plan = one_pass(cluster, world, HELD)
    assert (_image(world), world.deleted_pods, plan.pending) == ("automq:1", [], False)


def test_finding_09_the_image_of_an_older_release_is_read_from_its_container() -> None:
    cluster, world = ready()
    template = world.objects["StatefulSet", "demo-broker"]["spec"]["template"]["metadata"]["annotations"]
    del template[naming.IMAGE_ANNOTATION]
    upgraded = dataclasses.replace(cluster, default_image="automq:2")
    for _ in range(3):
        upgraded, plan = one_pass(upgraded, world, HELD)
    assert (_image(world), world.deleted_pods, plan.pending) == ("automq:1", [], True)
