"""Pure: the Job that empties the prefix when the resource is deleted with policy Delete.

It is the broker's own command, which removes one cluster's keys and only if cluster id and owner both match: never a
whole bucket, never what another resource adopted meanwhile.
"""

from typing import Any

from automq_operator import naming
from automq_operator.cluster import Cluster
from automq_operator.resources import config
from automq_operator.resources.meta import RESTRICTED_CONTAINER, RESTRICTED_POD, manifest


def erase_job(cluster: Cluster) -> dict[str, Any]:
    """Runs until it has ended or the finalizer's time is over; a store that is away is tried again."""
    command = ["erase", cluster.store_uri, "--cluster-id", cluster.status.cluster_id or "", "--owner", cluster.uid]
    if cluster.spec.storage.credentials_secret:
        command += ["--credentials-dir", config.CREDENTIALS_FOLDER]
    container = {
        "name": "erase",
        "image": cluster.image,
        "imagePullPolicy": "IfNotPresent",
        "args": command,
        # Its last line says why it failed.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": RESTRICTED_CONTAINER,
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, *config.credentials_mounts(cluster)],
    }
    pod = {
        "restartPolicy": "Never",
        "serviceAccountName": naming.service_account(cluster.name),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": RESTRICTED_POD,
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}, *config.credentials_volumes(cluster)],
    }
    spec = {"backoffLimit": 6, "template": {"metadata": {"labels": naming.common_labels(cluster.name)}, "spec": pod}}
    return manifest(cluster, "batch/v1", "Job", naming.erase_job(cluster.name), spec=spec)
