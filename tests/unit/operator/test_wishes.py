"""What people ask of a running cluster beside its spec: restart, pause, stop."""

import dataclasses
from typing import Any

import pytest

from automq_operator import api, cluster, naming
from automq_operator.cluster import Cluster
from automq_operator.plan import Permits
from tests.support.kubernetes_double import UID, World, a_cluster
from tests.support.planner import changed, converge, decide, deletions, one_pass, reasons


def _asked(cluster: Cluster, **fields: Any) -> Cluster:
    return dataclasses.replace(cluster, **fields)


def test_a_restart_that_is_asked_for_happens_once_and_broker_by_broker() -> None:
    world = World()
    found = converge(a_cluster(replicas=3), world)
    found = _asked(found, restart="today")
    most = 0
    for _ in range(12):
        found, plan = one_pass(found, world)
        most = max(most, len(deletions(plan)))
    assert most == 1
    assert sorted(world.deleted_pods) == ["demo-broker-0", "demo-broker-1", "demo-broker-2"]
    assert reasons(found)["Progressing"] == ("False", "Settled")
    converge(_asked(found, restart="tomorrow"), world)
    assert len(world.deleted_pods) == 6


def test_taking_the_wish_back_restarts_nobody() -> None:
    world = World()
    found = converge(_asked(converge(a_cluster(), world), restart="today"), world)
    world.deleted_pods.clear()
    converge(_asked(found, restart=""), world)
    converge(_asked(found, restart="today"), world)
    assert world.deleted_pods == []


def test_without_a_wish_pods_are_what_they_were() -> None:
    world = World()
    converge(a_cluster(), world)
    template = world.objects["StatefulSet", "demo-broker"]["spec"]["template"]
    assert naming.RESTART_ANNOTATION not in template["metadata"]["annotations"]


@pytest.mark.parametrize(("text", "paused"), [("true", True), ("false", False), ("", False), ("yes", False)])
def test_annotations_of_the_resource_are_read(text: str, paused: bool) -> None:
    annotations = {naming.PAUSED_ANNOTATION: text, naming.RESTART_ANNOTATION: "now"}
    metadata = {"name": "demo", "namespace": "team", "uid": UID, "annotations": annotations}
    found = cluster.parse({"metadata": metadata, "spec": {"storage": {"bucket": "abc"}}}, default_image="automq:1")
    assert (found.paused, found.restart) == (paused, "now")


def test_a_pause_by_annotation_is_a_pause() -> None:
    world = World()
    found = converge(a_cluster(), world)
    held = _asked(changed(found, config={"num.partitions": "3"}), asked_to_pause=True)
    plan = decide(held, world)
    assert plan.actions == []
    assert {item.type: item.reason for item in plan.status.conditions}["Paused"] == "Asked"
    assert plan.status.phase == "Paused"


def test_zero_stops_all_brokers_and_keeps_everything_else() -> None:
    world = World()
    found = converge(a_cluster(replicas=2), world)
    before = set(world.objects)
    found = changed(found, replicas=0)
    found, _plan = one_pass(found, world)
    assert world.objects["StatefulSet", "demo-broker"]["spec"]["replicas"] == 0
    (said,) = [item.message for item in found.status.conditions if item.type == "Progressing"]
    assert "stopping demo-broker-0, demo-broker-1" in said
    assert reasons(found)["ScalingSettled"] == ("False", "Stopping"), "its pods still end"
    found = converge(found, world)
    assert reasons(found)["Ready"] == ("False", "ScaledToZero")
    assert reasons(found)["Progressing"] == ("False", "Settled")
    assert (found.status.ready, found.status.phase) == ("0/0", "Stopped")
    assert set(world.objects) == before
    found = converge(changed(found, replicas=2), world)
    assert found.status.ready == "2/2"
    assert found.status.cluster_id == "the-cluster-id"


def test_a_cluster_at_zero_is_quiet_and_holds_no_upgrade_of_others() -> None:
    world = World()
    found = changed(converge(a_cluster(), world), replicas=0)
    one_pass(found, world)
    world.pods.clear()
    found = converge(found, world)
    plan = decide(found, world)
    assert plan.converged
    assert plan.well


def test_stopping_is_news_and_no_alarm() -> None:
    world = World()
    found = changed(converge(a_cluster(), world), replicas=0)
    (note,) = [note for note in decide(found, world).notes if note.reason == "ScaledToZero"]
    assert not note.warning


def test_from_zero_a_new_cluster_begins_without_brokers() -> None:
    world = World()
    found = converge(a_cluster(replicas=0), world)
    assert world.pods == {}
    assert found.status.phase == "Stopped"
    found = converge(changed(found), world)
    assert found.status.ready == "1/1"


def test_an_upgrade_that_waits_is_not_taken_for_a_wish_to_restart() -> None:
    world = World()
    found = converge(_asked(converge(a_cluster(), world), restart="today"), world)
    world.deleted_pods.clear()
    upgraded = dataclasses.replace(found, default_image="automq:2")
    for _ in range(3):
        upgraded, _plan = one_pass(upgraded, world, Permits(may_move=False))
    assert world.deleted_pods == []
    assert api.parse_spec({"storage": {"bucket": "abc"}, "replicas": 0}).replicas == 0
