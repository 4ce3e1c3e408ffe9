"""Pure: the autoscaler, on the resource itself: one writer of `spec.replicas`, and a drain before each scale-in."""

from typing import Any, Final

from automq_operator import api, naming
from automq_operator.cluster import Cluster
from automq_operator.resources import workload
from automq_operator.resources.meta import manifest

TARGET_CPU: Final = 70
"""Percent of the request: a broker uses one core, and the rest is for what comes before there are more."""


def horizontal_pod_autoscaler(cluster: Cluster, wanted: api.Autoscaling) -> dict[str, Any]:
    """Never on the StatefulSet: that is the operator's."""
    target = {"apiVersion": f"{api.GROUP}/{api.VERSION}", "kind": api.KIND, "name": cluster.name}
    spec = {
        "scaleTargetRef": target,
        "minReplicas": wanted.min_replicas,
        "maxReplicas": wanted.max_replicas,
        "metrics": [*_cpu(wanted), *wanted.metrics],
        **({"behavior": wanted.behavior} if wanted.behavior else {}),
    }
    return manifest(cluster, "autoscaling/v2", "HorizontalPodAutoscaler", naming.autoscaler(cluster.name), spec=spec)


def _cpu(wanted: api.Autoscaling) -> list[dict[str, Any]]:
    """Of the broker's container alone: sidecars need no requests."""
    target = wanted.target_cpu or (None if wanted.metrics else TARGET_CPU)
    if target is None:
        return []
    resource = {
        "name": "cpu",
        "container": workload.CONTAINER,
        "target": {"type": "Utilization", "averageUtilization": target},
    }
    return [{"type": "ContainerResource", "containerResource": resource}]
