"""Pure: the brokers' ServiceAccount. It has no permissions: a broker never needs the Kubernetes API."""

from typing import Any

from automq_operator import naming
from automq_operator.cluster import Cluster
from automq_operator.resources.meta import manifest


def service_account(cluster: Cluster) -> dict[str, Any]:
    """An identity to hang a cloud role on, nothing more."""
    name = naming.service_account(cluster.name)
    return manifest(cluster, "v1", "ServiceAccount", name, automountServiceAccountToken=False)
