"""Scaling through the resource's own scale, by Kubernetes' real controller of autoscalers."""

import yaml

from tests.e2e import clients
from tests.e2e.environment import StepFailed, get, kubectl, wait_for
from tests.e2e.story import Figure
from tests.e2e.world import World


def autoscaler_works_until_another_scales_the_same_brokers(world: World) -> None:
    world.apply("scaled", spec={"autoscaling": {"maxReplicas": 1, "targetCPU": 70}})
    world.wait_ready("scaled", 90)
    active = ("True", "Scaling"), ("True", "AtLimit")
    wait_for("the autoscaler works", lambda: world.condition("scaled", "AutoscalingActive") in active, 120)
    live = get("horizontalpodautoscaler", "scaled-broker", world.namespace)
    assert live["spec"]["scaleTargetRef"]["kind"] == "AutoMQCluster"
    other = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "another", "namespace": world.namespace},
        "spec": {**live["spec"], "minReplicas": 1, "maxReplicas": 1},
    }
    kubectl("apply", "-f", "-", stdin=yaml.safe_dump(other))
    conflict = ("False", "AutoscalersConflict")
    wait_for("the conflict is said", lambda: world.condition("scaled", "AutoscalingActive") == conflict, 90)
    assert world.condition("scaled", "Ready")[0] == "True"
    kubectl("-n", world.namespace, "delete", "horizontalpodautoscaler", "another")
    wait_for("it works again", lambda: world.condition("scaled", "AutoscalingActive") in active, 90)
    world.delete("scaled")


def cluster_at_zero_keeps_its_data_and_comes_back(world: World) -> Figure:
    world.apply("zero", listeners=True)
    world.wait_ready("zero", 90)
    clients.create_topic(world.outside("zero"), "kept")
    with clients.SteadyProducer(world.outside("zero"), "kept") as producer:
        wait_for("records are acknowledged", lambda: len(producer.acked) > 100, 30)
    _scale(world, 0)
    wait_for("no broker runs", lambda: not world.pod("zero"), 90)
    wait_for("it says so", lambda: world.condition("zero", "Ready") == ("False", "ScaledToZero"), 30)
    assert world.status("zero")["ready"] == "0/0"
    _scale(world, 1)
    seconds = world.wait_ready("zero", 90)
    clients.check_exactly_once(world.outside("zero"), "kept", producer)
    world.delete("zero")
    return Figure(seconds, 20, "back from zero")


def _scale(world: World, replicas: int) -> None:
    kubectl("-n", world.namespace, "scale", "amq", "zero", f"--replicas={replicas}")


def scale_out_of_bounds_is_refused_by_the_api_server(world: World) -> None:
    """Through the scale subresource as well, where autoscalers write."""
    for replicas, word in ((101, "less than or equal to 100"), (-1, "must be greater than or equal to 0")):
        refusal = _refusal_of_scale(world, replicas)
        if word not in refusal:
            raise StepFailed(f"{replicas} replicas: {refusal or 'accepted'}")
    assert world.spec("demo").get("replicas", 1) == 1


def _refusal_of_scale(world: World, replicas: int) -> str:
    """Empty when it was accepted."""
    try:
        kubectl("-n", world.namespace, "scale", "amq", "demo", f"--replicas={replicas}")
    except StepFailed as refused:
        return str(refused)
    return ""
