"""Pure: the Job that empties the prefix when the resource is deleted with policy Delete, and the account it runs as.

It is the broker's own command, which removes what this resource's UID is recorded for and nothing else: never a whole
bucket, never what another resource adopted meanwhile. It runs where brokers ran and as what they ran: with their
account, pull secrets, tolerations and the user's overrides of the broker's container.

The Job is detached: nobody's dependent, or a deletion in the foreground would have Kubernetes remove it before it has
done its work. An annotation says whose it is; the operator removes it, and if that is gone, its own time does.
"""

from collections.abc import Mapping
from typing import Any, Final

from automq_operator import naming
from automq_operator.cluster import Cluster
from automq_operator.resources import access, config
from automq_operator.resources.meta import RESTRICTED_CONTAINER, RESTRICTED_POD, detached, manifest, merge, pull_secrets

CONTAINER: Final = "erase"
BROKER: Final = "broker"
TRIES: Final = 6
KEPT_S: Final = 3600
# Exit codes of the command that another try cannot change: InvalidSettings, StoreDamaged.
HOPELESS_EXIT_CODES: Final = (2, 6)
# What of the broker's container reaches the command; its ports, probes and arguments do not.
_CONTAINER_FIELDS: Final = ("image", "imagePullPolicy", "env", "envFrom", "volumeMounts", "securityContext")
# A broker's neighbours and its place among them mean nothing here.
_POD_FIELDS_LEFT_OUT: Final = ("topologySpreadConstraints", "readinessGates", "schedulingGates", "setHostnameAsFQDN")


def erase_job(cluster: Cluster) -> dict[str, Any]:
    """Runs until it has ended or the finalizer's time is over; a store that is away is tried again."""
    override = cluster.spec.template.pod
    labels = {**override.metadata.labels, **naming.common_labels(cluster.name), naming.ROLE_LABEL: "erase"}
    template = {
        "metadata": {"labels": labels, "annotations": dict(override.metadata.annotations)},
        "spec": merge(_pod(cluster), _override(override.spec)),
    }
    spec = {
        "backoffLimit": TRIES,
        "ttlSecondsAfterFinished": KEPT_S,
        "podFailurePolicy": {
            "rules": [
                {
                    "action": "FailJob",
                    "onExitCodes": {
                        "containerName": CONTAINER,
                        "operator": "In",
                        "values": list(HOPELESS_EXIT_CODES),
                    },
                }
            ]
        },
        "template": template,
    }
    name = naming.erase_job(cluster.name, cluster.uid)
    return detached(cluster, manifest(cluster, "batch/v1", "Job", name, spec=spec))


def erase_account(cluster: Cluster, job: Mapping[str, Any]) -> dict[str, Any] | None:
    """The brokers' account as the live Job's own, gone when that goes; None where the user named another account."""
    if cluster.spec.template.pod.spec.get("serviceAccountName"):
        return None
    made = access.service_account(cluster)
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": job["metadata"]["name"], "uid": job["metadata"]["uid"]}
    made["metadata"]["ownerReferences"] = [owner]
    return made


def _pod(cluster: Cluster) -> dict[str, Any]:
    command = ["erase", cluster.store_uri, "--owner", cluster.uid]
    if cluster.spec.storage.credentials_secret:
        command += ["--credentials-dir", config.CREDENTIALS_FOLDER]
    container = {
        "name": CONTAINER,
        "image": cluster.image,
        "imagePullPolicy": "IfNotPresent",
        "args": command,
        # Its last line says why it failed.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": RESTRICTED_CONTAINER,
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, *config.credentials_mounts(cluster)],
    }
    return {
        **pull_secrets(cluster),
        "restartPolicy": "Never",
        "serviceAccountName": naming.service_account(cluster.name),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": RESTRICTED_POD,
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}, *config.credentials_volumes(cluster)],
    }


def _override(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The user's overrides as far as they are about where and as what a broker runs. Sidecars would never end."""
    kept = {key: value for key, value in spec.items() if key not in (*_POD_FIELDS_LEFT_OUT, "containers")}
    for container in spec.get("containers", []):
        if container["name"] == BROKER:
            fields = {key: container[key] for key in _CONTAINER_FIELDS if key in container}
            kept["containers"] = [{"name": CONTAINER, **fields}]
    return kept
