"""Pure: the Job that empties the prefix when the resource is deleted with policy Delete.

It is the broker's own command, which removes one cluster's keys and only if cluster id and owner both match: never a
whole bucket, never what another resource adopted meanwhile.
"""

from typing import Any

from automq_operator import naming
from automq_operator.cluster import Cluster
from automq_operator.resources import config, workload
from automq_operator.resources.meta import manifest


def erase_job(cluster: Cluster) -> dict[str, Any]:
    """Runs until it has ended or the finalizer's time is over; a store that is away is tried again."""
    command = ["erase", cluster.store_uri, "--cluster-id", cluster.status.cluster_id or "", "--owner", cluster.uid]
    container = {
        "name": "erase",
        "image": cluster.image,
        "imagePullPolicy": "IfNotPresent",
        "args": command,
        "terminationMessagePath": config.TERMINATION_MESSAGE_PATH,
        "env": [{"name": "AUTOMQ_TERMINATION_MESSAGE_PATH", "value": config.TERMINATION_MESSAGE_PATH}],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    volumes: list[dict[str, Any]] = [{"name": "tmp", "emptyDir": {}}]
    if cluster.spec.storage.credentials_secret:
        container["env"].append({"name": "AUTOMQ_STORAGE_CREDENTIALS_DIR", "value": config.CREDENTIALS_FOLDER})  # type: ignore[attr-defined]
        container["volumeMounts"].append(  # type: ignore[attr-defined]
            {"name": "credentials", "mountPath": config.CREDENTIALS_FOLDER, "readOnly": True}
        )
        secret = {"secretName": cluster.spec.storage.credentials_secret, "optional": True, "defaultMode": 0o440}
        volumes.append({"name": "credentials", "secret": secret})
    pod = {
        "restartPolicy": "Never",
        "serviceAccountName": naming.service_account(cluster.name),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": workload.USER_ID,
            "runAsGroup": workload.USER_ID,
            "fsGroup": workload.USER_ID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": volumes,
    }
    spec = {"backoffLimit": 6, "template": {"metadata": {"labels": naming.common_labels(cluster.name)}, "spec": pod}}
    return manifest(cluster, "batch/v1", "Job", naming.erase_job(cluster.name), spec=spec)
