"""The autoscaler that a cluster asked for: what is made, and what is said of it."""

from typing import Any

import pytest

from automq_operator import naming
from automq_operator.plan import Permits
from automq_operator.resources import autoscaler
from tests.support.kubernetes_double import World, a_cluster
from tests.support.planner import changed, converge, decide, deletions, one_pass, reasons

WANTED = {"maxReplicas": 1}
KEY = ("HorizontalPodAutoscaler", "demo-broker")


def _made(**fields: Any) -> dict[str, Any]:
    cluster = a_cluster(autoscaling=WANTED | fields)
    assert cluster.spec.autoscaling is not None
    spec: dict[str, Any] = autoscaler.horizontal_pod_autoscaler(cluster, cluster.spec.autoscaling)["spec"]
    return spec


def _said(*conditions: tuple[str, str, str]) -> tuple[str, str, str]:
    """(status, reason, message) of the condition after the autoscaler said these (type, status, reason)."""
    world = World()
    cluster = converge(a_cluster(autoscaling=WANTED), world)
    told = [
        {"type": kind, "status": status, "reason": word, "message": f"words of {word}"}
        for kind, status, word in conditions
    ]
    world.objects[KEY]["status"] = {"conditions": told}
    plan = decide(cluster, world)
    (found,) = [item for item in plan.status.conditions if item.type == "AutoscalingActive"]
    return found.status, found.reason, found.message


def test_it_scales_the_resource_and_never_the_stateful_set() -> None:
    assert _made()["scaleTargetRef"] == {
        "apiVersion": "automq.io/v1alpha1",
        "kind": "AutoMQCluster",
        "name": "demo",
    }


def test_cpu_is_of_the_broker_alone_and_a_default_where_nothing_is_named() -> None:
    (metric,) = _made()["metrics"]
    assert metric["containerResource"] == {
        "name": "cpu",
        "container": "broker",
        "target": {"type": "Utilization", "averageUtilization": 70},
    }
    own = {"type": "Pods", "pods": {"metric": {"name": "m"}}}
    assert _made(metrics=[own])["metrics"] == [own]
    assert len(_made(metrics=[own], targetCPU=50)["metrics"]) == 2
    assert "behavior" not in _made()
    assert _made(behavior={"scaleDown": {}})["behavior"] == {"scaleDown": {}}


def test_it_comes_and_goes_with_the_wish_and_restarts_nobody() -> None:
    world = World()
    cluster = converge(a_cluster(), world)
    assert KEY not in world.objects
    cluster = converge(changed(cluster, autoscaling=WANTED), world)
    assert KEY in world.objects
    assert "AutoscalingActive" in reasons(cluster)
    cluster = converge(changed(cluster), world)
    assert KEY not in world.objects
    assert "AutoscalingActive" not in reasons(cluster)
    assert world.deleted_pods == []


def test_it_ends_no_hold_of_an_upgrade() -> None:
    world = World()
    cluster = converge(a_cluster(), world)
    upgraded = changed(cluster, autoscaling=WANTED, default_image="automq:2")
    upgraded, plan = one_pass(upgraded, world, Permits(may_move=False))
    assert deletions(plan) == []
    assert KEY in world.objects


@pytest.mark.parametrize(
    ("conditions", "status", "reason"),
    [
        ([], "Unknown", "NotSeenYet"),
        ([("AbleToScale", "True", "SucceededGetScale")], "Unknown", "NotSeenYet"),
        ([("AbleToScale", "True", "x"), ("ScalingActive", "True", "ValidMetricFound")], "True", "Scaling"),
        ([("AbleToScale", "False", "FailedUpdateScale")], "False", "NotAble"),
        ([("ScalingActive", "False", "FailedGetContainerResourceMetric")], "False", "MetricsMissing"),
        ([("ScalingActive", "False", "AmbiguousSelector")], "False", "AutoscalersConflict"),
        ([("ScalingActive", "True", "x"), ("ScalingLimited", "True", "TooManyReplicas")], "True", "AtLimit"),
        ([("ScalingActive", "True", "x"), ("ScalingLimited", "False", "DesiredWithinRange")], "True", "Scaling"),
        ([("ScalingActive", "True", "x"), ("ScalingLimited", "True", "ScaleDownLimit")], "True", "Scaling"),
    ],
)
def test_its_words_are_the_conditions(conditions: list[tuple[str, str, str]], status: str, reason: str) -> None:
    found = _said(*conditions)
    assert found[:2] == (status, reason)
    if status == "False":
        assert conditions[-1][2] in found[2], "the autoscaler's own word is there"


def test_an_autoscaler_of_the_name_that_is_somebody_elses_is_said_and_left_alone() -> None:
    world = World()
    stranger = {"kind": "HorizontalPodAutoscaler", "metadata": {"name": "demo-broker", "uid": "theirs"}}
    world.objects[KEY] = dict(stranger)
    cluster = a_cluster(autoscaling=WANTED)
    for _ in range(3):
        cluster, _plan = one_pass(cluster, world)
    assert world.objects[KEY] == stranger
    assert reasons(cluster)["AutoscalingActive"] == ("False", "NotAble")
    assert reasons(cluster)["Ready"][0] == "True"


def test_brokers_that_are_drained_do_not_count() -> None:
    assert naming.selector("demo") == "automq.io/cluster=demo,automq.io/role=broker,!automq.io/draining"
