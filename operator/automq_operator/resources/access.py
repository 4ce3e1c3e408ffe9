"""Pure: the brokers' ServiceAccount. It has no permissions: a broker never needs the Kubernetes API."""

from typing import Any

from automq_operator import naming
from automq_operator.cluster import Cluster
from automq_operator.resources.meta import manifest


def service_account(cluster: Cluster) -> dict[str, Any]:
    """An identity to hang a cloud role on, nothing more."""
    name = naming.service_account(cluster.name)
    made = manifest(cluster, "v1", "ServiceAccount", name, automountServiceAccountToken=False)
    wanted = cluster.spec.template.service_account.metadata
    made["metadata"]["labels"] = {**wanted.labels, **made["metadata"]["labels"]}
    if wanted.annotations:
        made["metadata"]["annotations"] = dict(wanted.annotations)
    return made
