"""What a resource that is being deleted still needs, and what is said when its data stay."""

import dataclasses
from typing import Any

import pytest

from automq_operator import api, naming
from automq_operator.cluster import Cluster
from automq_operator.observed import Refusal
from automq_operator.plan import Apply, DeleteObject, DeletePod, DeletionPlan, Limits, Permits
from automq_operator.planners import deletion
from automq_operator.planners.deletion import UNHEARD_OF_S
from automq_operator.reasons import Reason
from automq_operator.resources import access, workload
from automq_operator.wording import message
from tests.support.kubernetes_double import UID, World, a_cluster

LIMITS = Limits()
JOB = ("Job", naming.erase_job("demo", UID))
TERMINATING = (
    'jobs.batch "x" is forbidden: unable to create new content in namespace team because it is being terminated'
)
STATUS = api.Status(cluster_id="the-cluster-id")


def a_body(policy: str = "Delete", *, cluster_id: str | None = "the-cluster-id", **storage: str) -> dict[str, Any]:
    return {
        "metadata": {"name": "demo", "namespace": "team", "uid": UID},
        "spec": {"storage": {"bucket": "demo-kafka", "deletionPolicy": policy, **storage}},
        "status": {"clusterId": cluster_id} if cluster_id else {},
    }


def deletable(**spec: Any) -> Cluster:
    status = spec.pop("status", STATUS)
    return a_cluster(status=status, deleting=True, storage={"deletionPolicy": "Delete"}, **spec)


def running(world: World, cluster: Cluster) -> None:
    """The brokers of a cluster that was deployed."""
    for child in (access.service_account(cluster), workload.stateful_set(cluster, replicas=1)):
        world.carry_out(Apply(manifest=child))
    world.settle(cluster)


def planned(cluster: Cluster, world: World) -> DeletionPlan:
    body = a_body(cluster_id=cluster.status.cluster_id)
    return deletion.plan(cluster, world.observed(), body, limits=LIMITS, permits=Permits())


def step(cluster: Cluster, world: World) -> DeletionPlan:
    plan = planned(cluster, world)
    for action in plan.actions:
        world.carry_out(action)
    return plan


def finish(world: World, kind: str, **more: str) -> None:
    world.objects[JOB]["status"] = {"conditions": [{"type": kind, "status": "True", **more}]}


def test_retain_lets_go_at_once() -> None:
    assert deletion.released(a_body("Retain"), deleting_s=0, limits=LIMITS) == DeletionPlan(done=True)


@pytest.mark.parametrize("cluster_id", ["the-cluster-id", None])
def test_op13_brokers_stop_then_a_job_erases_what_the_owner_owns(cluster_id: str | None) -> None:
    world = World()
    cluster = deletable(status=api.Status(cluster_id=cluster_id))
    running(world, cluster)
    assert deletion.released(a_body(cluster_id=cluster_id), deleting_s=0, limits=LIMITS) is None
    plan = step(cluster, world)
    assert [(a.kind, a.foreground) for a in plan.actions if isinstance(a, DeleteObject)] == [("StatefulSet", True)]
    assert plan.finding is not None
    assert plan.finding.reason is Reason.STOPPING
    world.pods.clear()
    world.settle(cluster)
    plan = step(cluster, world)
    action = plan.actions[0]
    assert isinstance(action, Apply)
    arguments = action.manifest["spec"]["template"]["spec"]["containers"][0]["args"]
    assert arguments[2:] == ["--owner", UID, "--credentials-dir", "/etc/automq/credentials"]
    assert not step(cluster, world).done
    finish(world, "Complete")
    plan = step(cluster, world)
    assert (plan.done, [note.reason for note in plan.notes]) == (True, ["Erased"])
    assert JOB not in world.objects


def test_op12_foreign_job_of_the_name_is_neither_believed_nor_deleted() -> None:
    for kind in ("Complete", "Failed"):
        world = World()
        world.objects[JOB] = {"kind": "Job", "metadata": {"name": JOB[1], "uid": "theirs"}}
        finish(world, kind)
        plan = planned(deletable(), world)
        assert not plan.done
        assert plan.actions == ()
        assert plan.finding is not None
        assert plan.finding.reason is Reason.NAME_CONFLICT


def test_op12_job_of_an_earlier_resource_of_the_name_has_another_name() -> None:
    assert naming.erase_job("demo", UID) != naming.erase_job("demo", "99999999-2222-3333-4444-555555555555")
    assert len(naming.erase_job("n" * api.MAX_NAME, UID)) <= 63


def test_op13_terminating_namespace_is_noticed_at_once_and_said_before_the_end() -> None:
    world = World()
    world.refused[JOB] = Refusal(status=403, message=TERMINATING)
    plan = planned(deletable(), world)
    assert plan.done
    assert plan.finding is not None
    assert plan.finding.reason is Reason.DATA_LEFT_BEHIND
    text = message(plan.finding)
    assert "its namespace is being deleted" in text
    assert f"automq erase 's3://demo-kafka/team/demo' --owner {UID}" in text
    assert "spec.storage.adopt" in text


def test_op13_refused_job_is_said_and_tried_again() -> None:
    world = World()
    world.refused[JOB] = Refusal(status=403, message="exceeded quota: pods=0")
    plan = planned(deletable(), world)
    assert not plan.done
    assert len(plan.actions) == 1
    assert plan.finding is not None
    assert "exceeded quota" in message(plan.finding)


def test_op13_job_is_nobodys_dependent_so_a_foreground_deletion_leaves_it_alone() -> None:
    world = World()
    cluster = deletable()
    step(cluster, world)
    assert "ownerReferences" not in world.objects[JOB]["metadata"]


def test_op13_account_that_a_foreground_deletion_took_is_made_again_for_the_job() -> None:
    world = World()
    cluster = deletable()
    step(cluster, world)
    (action,) = step(cluster, world).actions
    assert isinstance(action, Apply)
    account = action.manifest["metadata"]
    assert account["name"] == naming.service_account("demo")
    assert [owner["uid"] for owner in account["ownerReferences"]] == [world.objects[JOB]["metadata"]["uid"]]
    assert step(cluster, world).actions == []


def test_op13_account_of_the_cluster_becomes_the_jobs() -> None:
    world = World()
    cluster = deletable()
    world.carry_out(Apply(manifest=access.service_account(cluster)))
    step(cluster, world)
    step(cluster, world)
    owners = world.objects["ServiceAccount", naming.service_account("demo")]["metadata"]["ownerReferences"]
    assert [owner["kind"] for owner in owners] == ["Job"]


def test_op13_failure_that_another_try_cannot_change_ends_it_at_once() -> None:
    world = World()
    cluster = deletable()
    step(cluster, world)
    finish(world, "Failed", reason="PodFailurePolicy")
    plan = step(cluster, world)
    assert (plan.done, [note.reason for note in plan.notes]) == (True, ["DataLeftBehind"])
    assert JOB in world.objects, "its log says why"


def test_failed_job_is_made_anew_until_the_time_is_over() -> None:
    world = World()
    cluster = deletable()
    step(cluster, world)
    finish(world, "Failed", reason="BackoffLimitExceeded")
    plan = step(cluster, world)
    assert not plan.done
    assert JOB not in world.objects
    step(cluster, world)
    assert JOB in world.objects


def test_op13_end_of_the_time_says_what_is_left_and_how_to_remove_it() -> None:
    body = a_body(endpoint="http://minio.example:9000", region="us-east-1")
    plan = deletion.released(body, deleting_s=LIMITS.erase_s + 1, limits=LIMITS)
    assert plan is not None
    assert plan.done
    assert plan.finding is not None
    uri = "s3://demo-kafka/team/demo?endpoint=http://minio.example:9000&region=us-east-1&path_style=true"
    assert f"automq erase '{uri}' --owner {UID}" in message(plan.finding)


def test_op13_cluster_that_never_had_an_id_is_not_waited_for_as_long() -> None:
    body = a_body(cluster_id=None)
    assert deletion.released(body, deleting_s=UNHEARD_OF_S - 1, limits=LIMITS) is None
    plan = deletion.released(body, deleting_s=UNHEARD_OF_S + 1, limits=LIMITS)
    assert plan is not None
    assert plan.done


def test_broker_on_a_lost_node_does_not_hold_the_deletion_up() -> None:
    world = World()
    cluster = deletable()
    running(world, cluster)
    step(cluster, world)
    pod = next(iter(world.pods.values()))
    assert pod.node is not None
    world.lose_node(pod.node)
    world.pass_time(LIMITS.node_lost_serving_s + 1)
    plan = planned(dataclasses.replace(cluster), world)
    assert [(type(action), action.name) for action in plan.actions if isinstance(action, DeletePod)] == [
        (DeletePod, pod.name)
    ]
