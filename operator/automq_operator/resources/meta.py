"""Pure: what all children have in common, and the merge of users' overrides."""

from typing import Any, Final

from automq_operator import naming
from automq_operator.cluster import Cluster

USER_ID: Final = 10001

RESTRICTED_POD: Final[dict[str, Any]] = {
    "runAsNonRoot": True,
    "runAsUser": USER_ID,
    "runAsGroup": USER_ID,
    "fsGroup": USER_ID,
    "seccompProfile": {"type": "RuntimeDefault"},
}
RESTRICTED_CONTAINER: Final[dict[str, Any]] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
"""What the restricted Pod Security Standard asks for, and a root file system that cannot be written."""


def manifest(cluster: Cluster, api_version: str, kind: str, name: str, **body: Any) -> dict[str, Any]:
    """A child object: named, labelled, owned."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": cluster.namespace,
            "labels": naming.common_labels(cluster.name),
            "ownerReferences": [cluster.owner_reference],
        },
        **body,
    }


def detached(cluster: Cluster, child: dict[str, Any]) -> dict[str, Any]:
    """The object as nobody's dependent: Kubernetes does not remove it with the resource, the operator must."""
    metadata = {key: value for key, value in child["metadata"].items() if key != "ownerReferences"}
    metadata["annotations"] = {**metadata.get("annotations", {}), naming.OWNER_ANNOTATION: cluster.uid}
    return {**child, "metadata": metadata}


def pull_secrets(cluster: Cluster) -> dict[str, Any]:
    """The part of a pod's spec that lets nodes get the operator's image; nothing where none is needed."""
    return {"imagePullSecrets": [{"name": name} for name in cluster.pull_secrets]} if cluster.pull_secrets else {}


def merge(base: Any, override: Any) -> Any:
    """`override` over `base`: maps merge by key, lists of named things by name, everything else is replaced."""
    if isinstance(base, dict) and isinstance(override, dict):
        return {**base, **{key: merge(base[key], value) if key in base else value for key, value in override.items()}}
    if _is_named(base) and _is_named(override):
        named = {item["name"]: item for item in base}
        for item in override:
            named[item["name"]] = merge(named.get(item["name"], {}), item)
        return list(named.values())
    return override


def _is_named(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) and "name" in item for item in value)
