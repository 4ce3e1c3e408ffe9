"""Pure: the brokers' settings as a ConfigMap.

`settings` is what a serving broker must be restarted for; a hash of it is on its pod. What brokers take while they run
is in their files all the same, as far as they have taken it: one that starts must not do without it. The cluster id,
learned after the first start, and `adopt`, needed once, are no reason to restart a healthy one and in no hash of a pod.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Final

from automq_operator import naming
from automq_operator.cluster import Cluster
from automq_operator.dynamic_configs import dynamic, static
from automq_operator.resources.meta import manifest

CONFIG_FOLDER: Final = "/etc/automq/config"
CREDENTIALS_FOLDER: Final = "/etc/automq/credentials"
CONFIG_FILE: Final = "broker.properties"
OWN_CONFIG_FILE: Final = "$(POD_NAME).properties"
"""As the kubelet expands it: of clusters whose brokers have settings of their own."""
CLUSTER_ID_KEY: Final = "automq.cluster.id"
TERMINATION_MESSAGE_PATH: Final = "/dev/termination-log"


def config_map(cluster: Cluster, own: Mapping[int, Mapping[str, str]]) -> dict[str, Any]:
    """The ConfigMap that the pods mount: one file for all, and one for each broker that has `own` settings."""
    files = {CONFIG_FILE: _file(all_settings(cluster))}
    files |= {f"{naming.pod(cluster.name, node_id)}.properties": _file(found) for node_id, found in own.items()}
    return manifest(cluster, "v1", "ConfigMap", naming.config_map(cluster.name), data=files)


def _file(found: Mapping[str, str]) -> str:
    return "".join(f"{key}={_escaped(value)}\n" for key, value in sorted(found.items()))


def settings(cluster: Cluster) -> dict[str, str]:
    """What a serving broker must be restarted for."""
    spec = cluster.spec
    ours = {
        "listeners": ",".join(f"{listener.name}://0.0.0.0:{listener.port}" for listener in spec.listeners),
        "listener.security.protocol.map": ",".join(f"{listener.name}:PLAINTEXT" for listener in spec.listeners),
        "automq.storage.uri": cluster.store_uri,
        "automq.cluster.owner": cluster.uid,
        "automq.wal.type": spec.wal.type.lower(),
        "automq.http.address": f"0.0.0.0:{naming.HTTP_PORT}",
        "automq.internal.listener": f"0.0.0.0:{naming.INTERNAL_PORT}",
        "automq.termination.message.path": TERMINATION_MESSAGE_PATH,
    }
    if spec.storage.credentials_secret:
        ours["automq.storage.credentials.dir"] = CREDENTIALS_FOLDER
    return {**static(spec.config), **ours}


def all_settings(cluster: Cluster) -> dict[str, str]:
    """With those that matter only to a broker that starts, or that it takes while it runs."""
    found = dynamic(cluster.spec.config) if cluster.file_configs is None else dict(cluster.file_configs)
    found |= settings(cluster)
    if cluster.status.cluster_id:
        found[CLUSTER_ID_KEY] = cluster.status.cluster_id
    if cluster.spec.storage.adopt:
        found["automq.storage.adopt"] = cluster.spec.storage.adopt
    return found


def credentials_volumes(cluster: Cluster) -> list[dict[str, Any]]:
    """The Secret as a folder. Optional: a missing one is reported by the broker and heals without a restart."""
    secret = cluster.spec.storage.credentials_secret
    if not secret:
        return []
    return [{"name": "credentials", "secret": {"secretName": secret, "optional": True, "defaultMode": 0o440}}]


def credentials_mounts(cluster: Cluster) -> list[dict[str, Any]]:
    """Where the containers see it."""
    if not cluster.spec.storage.credentials_secret:
        return []
    return [{"name": "credentials", "mountPath": CREDENTIALS_FOLDER, "readOnly": True}]


def digest(value: object) -> str:
    """A short stable hash of plain data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def written(live: Mapping[str, Any]) -> dict[str, str]:
    """The settings in a live ConfigMap, those that all brokers share."""
    text: str = (live.get("data") or {}).get(CONFIG_FILE) or ""
    lines = (line.partition("=") for line in text.splitlines())
    return {key: _unescaped(value) for key, _, value in lines if key}


def _unescaped(value: str) -> str:
    return re.sub(r"\\(.)", lambda found: {"n": "\n", "r": "\r"}.get(found[1], found[1]), value)


def _escaped(value: str) -> str:
    """A value of a Java properties file: one line, backslashes doubled."""
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
