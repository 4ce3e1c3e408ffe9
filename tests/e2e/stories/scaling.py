"""Scaling through the resource's own scale, by Kubernetes' real controller of autoscalers."""

import yaml

from tests.e2e.environment import get, kubectl, wait_for
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
