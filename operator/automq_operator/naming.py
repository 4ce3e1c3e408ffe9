"""Names and labels of every child object. The resource's name is in each, so that clusters share a namespace."""

from typing import Final

from automq_operator import api
from automq_operator.zones import zone_of

FIELD_MANAGER: Final = "automq-operator"
STATUS_FIELD_MANAGER: Final = "automq-operator-status"
CLUSTER_LABEL: Final = f"{api.GROUP}/cluster"
ROLE_LABEL: Final = f"{api.GROUP}/role"
DRAINING_LABEL: Final = f"{api.GROUP}/draining"
"""On pods whose brokers are being drained: autoscalers do not count them."""
RESTART_ANNOTATION: Final = f"{api.GROUP}/restart"
"""On the resource, by people: brokers are restarted when its text changes. On pods: the text they were made with."""
PAUSED_ANNOTATION: Final = f"{api.GROUP}/paused"
"""On the resource, by people: "true" is as spec.paused."""
ZONE_LABEL: Final = f"{api.GROUP}/zone"
"""On pods of every zone but the first: its index, which tells StatefulSets apart."""
DRAIN_ANNOTATION: Final = f"{api.GROUP}/drain"
"""On the resource, by people: ids of brokers, between commas, that are kept empty while they stand here."""
OWNER_ANNOTATION: Final = f"{api.GROUP}/owner-uid"
"""On what outlives the resource's other children: the uid of the resource that it belongs to."""
HASH_ANNOTATION: Final = f"{api.GROUP}/restart-hash"
"""On pods: what a broker that serves must be restarted for."""
IMAGE_ANNOTATION: Final = f"{api.GROUP}/image"
"""On pods: the image that the operator chose. What somebody else puts into the StatefulSet is not it."""
ADOPT_ANNOTATION: Final = f"{api.GROUP}/adopt"
"""On pods: `storage.adopt` at the time that they were made."""
APPLIED_ANNOTATION: Final = f"{api.GROUP}/applied-hash"
"""On every child: of the manifest that was applied."""
INPUTS_ANNOTATION: Final = f"{api.GROUP}/inputs-hash"
"""On what shapes pods: of the user's wishes that it was rendered from."""
MOVED_ANNOTATION: Final = f"{api.GROUP}/moved-to"
"""On the StatefulSet: the operator's image whose upgrade last moved it."""

FINALIZER: Final = f"{api.GROUP}/finalizer"
"""On resources with policy Delete only: what retains its data can be deleted while no operator runs."""

HTTP_PORT: Final = 9404
INTERNAL_PORT: Final = 9405
"""Where brokers of a cluster reach each other."""


def broker_labels(cluster: str) -> dict[str, str]:
    """Selects the broker pods of one cluster and nothing else."""
    return {CLUSTER_LABEL: cluster, ROLE_LABEL: "broker"}


def common_labels(cluster: str) -> dict[str, str]:
    """On every child."""
    return {
        "app.kubernetes.io/name": "automq",
        "app.kubernetes.io/instance": cluster,
        "app.kubernetes.io/managed-by": FIELD_MANAGER,
        CLUSTER_LABEL: cluster,
    }


def selector(cluster: str) -> str:
    """The label selector of the scale subresource: brokers that serve, or will; those that go would dilute averages."""
    labels = [f"{key}={value}" for key, value in broker_labels(cluster).items()]
    return ",".join([*labels, f"!{DRAINING_LABEL}"])


def workload(cluster: str, zone: int = 0) -> str:
    """StatefulSet of a zone, by its index, and the prefix of its pods."""
    return f"{cluster}-broker-{zone}" if zone else f"{cluster}-broker"


def is_workload(cluster: str, name: str) -> bool:
    """Whether a StatefulSet of this name is one of the cluster's."""
    first, _, zone = name.rpartition("-")
    return name == workload(cluster) or (first == workload(cluster) and zone.isdecimal())


def pod(cluster: str, node_id: int) -> str:
    """The pod of one broker; its ordinal is its node.id."""
    return f"{workload(cluster, zone_of(node_id))}-{node_id}"


def node_id(pod_name: str) -> int:
    """The node id in a pod's name; -1 when there is none."""
    digits = pod_name.rpartition("-")[2]
    return int(digits) if digits.isdecimal() else -1


def headless_service(cluster: str) -> str:
    """Gives each broker pod a DNS name."""
    return f"{cluster}-brokers"


def bootstrap_service(cluster: str) -> str:
    """What clients inside the Kubernetes cluster connect to first."""
    return f"{cluster}-kafka"


def outside_service(cluster: str, listener: str) -> str:
    """What clients outside connect to first; one a NodePort or LoadBalancer listener."""
    return f"{cluster}-kafka-{listener}"


def broker_service(cluster: str, listener: str, node_id: int) -> str:
    """One broker's own load balancer. A listener's name has a letter, so this is no other Service's name."""
    return f"{cluster}-{listener}-{node_id}"


def network_policy(cluster: str) -> str:
    """Who may connect to the broker pods."""
    return f"{cluster}-broker"


def config_map(cluster: str) -> str:
    """The brokers' settings."""
    return f"{cluster}-config"


def service_account(cluster: str) -> str:
    """The identity of the broker pods."""
    return f"{cluster}-broker"


def disruption_budget(cluster: str) -> str:
    """Keeps evictions to one broker at a time."""
    return f"{cluster}-broker"


def autoscaler(cluster: str) -> str:
    """Scales the resource."""
    return f"{cluster}-broker"


def erase_job(cluster: str, uid: str) -> str:
    """The Job that empties the prefix when the resource is deleted with policy Delete.

    The uid keeps Jobs of others, and of an earlier resource of the name, from being taken for it.
    """
    return f"{cluster}-erase-{uid[:8]}"
