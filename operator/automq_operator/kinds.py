"""Pure: the Kubernetes kinds that the operator works with, and where the API server has them.

Paths of requests, what is watched and the permissions that the chart asks for all follow from this table.
"""

from dataclasses import dataclass
from typing import Final

from automq_operator import api
from automq_operator.topics import api as topic_api


@dataclass(frozen=True, slots=True)
class Place:
    """Where the API server has a kind."""

    group: str
    """Empty for the core group."""
    version: str
    plural: str
    namespaced: bool = True

    @property
    def path(self) -> str:
        """What every path of this kind begins with."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"


KINDS: Final = {
    api.KIND: Place(api.GROUP, api.VERSION, api.PLURAL),
    topic_api.KIND: Place(api.GROUP, api.VERSION, topic_api.PLURAL),
    "ServiceAccount": Place("", "v1", "serviceaccounts"),
    "ConfigMap": Place("", "v1", "configmaps"),
    "Service": Place("", "v1", "services"),
    "Pod": Place("", "v1", "pods"),
    "StatefulSet": Place("apps", "v1", "statefulsets"),
    "PodDisruptionBudget": Place("policy", "v1", "poddisruptionbudgets"),
    "HorizontalPodAutoscaler": Place("autoscaling", "v2", "horizontalpodautoscalers"),
    "NetworkPolicy": Place("networking.k8s.io", "v1", "networkpolicies"),
    "Job": Place("batch", "v1", "jobs"),
    "Lease": Place("coordination.k8s.io", "v1", "leases"),
    "Event": Place("", "v1", "events"),
    "Node": Place("", "v1", "nodes", namespaced=False),
}

RESOURCE_KINDS: Final = (api.KIND, topic_api.KIND)
"""The custom resources; `catalogue` says what each is."""
OPTIONAL_KINDS: Final = (topic_api.KIND,)
"""Those without whose definition the operator works as well."""

CHILD_KINDS: Final = (
    "ServiceAccount", "ConfigMap", "Service", "NetworkPolicy", "StatefulSet", "PodDisruptionBudget",
    "HorizontalPodAutoscaler", "Job",
)  # fmt: skip
"""What the operator makes, in the order in which pods need it. All carry the cluster's label and its uid as owner."""

WATCHED_KINDS: Final = (*CHILD_KINDS, "Pod")
"""Watched by the cluster's label, and kept in memory: a pass over a quiet cluster asks the API server nothing."""
