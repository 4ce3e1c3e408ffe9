"""Pure: StatefulSet, pod template and disruption budget.

The StatefulSet replaces pods only when they are gone (`OnDelete`): the operator decides when one is restarted. There is
no volume claim: a broker keeps nothing.
"""

from collections.abc import Mapping
from typing import Any, Final

from automq_operator import api, naming
from automq_operator.cluster import Cluster
from automq_operator.resources import config
from automq_operator.resources.meta import RESTRICTED_CONTAINER, RESTRICTED_POD, manifest, merge, pull_secrets
from automq_operator.zones import ZONE_IDS

CONTAINER: Final = "broker"
SHUTDOWN_KEY: Final = "automq.shutdown.timeout.ms"
SHUTDOWN_MS: Final = 20_000
# Beside the broker's own time to stop: for the preStop pause and the kubelet.
GRACE_MARGIN_S: Final = 10
# Long enough for endpoints to forget the pod before the broker stops accepting.
PRE_STOP_S: Final = 1
# A start reads the metadata and recovers logs, on a busy node: an end of the wait ends the process.
STARTUP_S: Final = 300
HOST_KEY: Final = "kubernetes.io/hostname"
SPREAD_KEYS: Final = ("topology.kubernetes.io/zone", HOST_KEY)

NodePorts = Mapping[tuple[str, int], int]
"""(listener name, broker) -> port of the nodes, as the broker's Service was given."""


def stateful_set(cluster: Cluster, *, replicas: int, zone: int = 0) -> dict[str, Any]:
    """The workload of a zone, by its index. `replicas` is the plan's word, not the spec's."""
    labels = naming.broker_labels(cluster.name) | _zone_label(zone)
    spec = {
        "replicas": replicas,
        "serviceName": naming.headless_service(cluster.name),
        "podManagementPolicy": "Parallel",
        "updateStrategy": {"type": "OnDelete"},
        "revisionHistoryLimit": 2,
        # Ordinals are node ids.
        **({"ordinals": {"start": zone * ZONE_IDS}} if zone else {}),
        "selector": {"matchLabels": labels},
        "template": pod_template(cluster, zone),
    }
    return manifest(cluster, "apps/v1", "StatefulSet", naming.workload(cluster.name, zone), spec=spec)


def _zone_label(zone: int) -> dict[str, str]:
    """The first zone has none: a cluster may have been made before its zones were named."""
    return {naming.ZONE_LABEL: str(zone)} if zone else {}


def disruption_budget(cluster: Cluster) -> dict[str, Any]:
    """Evictions take one broker at a time."""
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": naming.broker_labels(cluster.name)}}
    return manifest(cluster, "policy/v1", "PodDisruptionBudget", naming.disruption_budget(cluster.name), spec=spec)


def pod_template(cluster: Cluster, zone: int = 0) -> dict[str, Any]:
    """The pod of a zone, with the user's overrides merged in, and the hashes that tell an outdated one."""
    override = cluster.spec.template.pod
    spec = merge(_pod_spec(cluster, zone), override.spec)
    asked = {"restart": cluster.restart} if cluster.restart else {}
    restart_hash = config.digest(
        {"spec": spec, "settings": config.settings(cluster), "metadata": _plain(override.metadata), **asked}
    )
    annotations = {
        **override.metadata.annotations,
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(naming.HTTP_PORT),
        "prometheus.io/path": "/metrics",
        naming.HASH_ANNOTATION: restart_hash,
        naming.IMAGE_ANNOTATION: cluster.image,
        **({naming.RESTART_ANNOTATION: cluster.restart} if cluster.restart else {}),
        **({naming.ADOPT_ANNOTATION: cluster.spec.storage.adopt} if cluster.spec.storage.adopt else {}),
    }
    labels = {
        **override.metadata.labels,
        **naming.common_labels(cluster.name),
        **naming.broker_labels(cluster.name),
        **_zone_label(zone),
    }
    return {"metadata": {"labels": labels, "annotations": annotations}, "spec": spec}


def _plain(metadata: api.PodMetadata) -> dict[str, dict[str, str]]:
    return {"labels": metadata.labels, "annotations": metadata.annotations}


def _pod_spec(cluster: Cluster, zone: int) -> dict[str, Any]:
    return {
        **pull_secrets(cluster),
        **_placement(cluster, zone),
        "serviceAccountName": naming.service_account(cluster.name),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _grace_s(cluster),
        "securityContext": RESTRICTED_POD,
        "containers": [_container(cluster, zone)],
        "volumes": _volumes(cluster),
    }


def _placement(cluster: Cluster, zone: int) -> dict[str, Any]:
    """Where its pods may be: on nodes of its zone, if there are zones, and there, or everywhere, apart."""
    if not cluster.zones:
        return {"topologySpreadConstraints": [_spread(cluster, key) for key in SPREAD_KEYS]}
    selector = {"matchLabels": naming.broker_labels(cluster.name)}
    apart = {"weight": 100, "podAffinityTerm": {"topologyKey": HOST_KEY, "labelSelector": selector}}
    return {
        "nodeSelector": cluster.node_selector(zone),
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [apart]}},
        "topologySpreadConstraints": [_spread(cluster, HOST_KEY)],
    }


def _spread(cluster: Cluster, key: str) -> dict[str, Any]:
    """A wish, not a condition: on one node, too, brokers are better than none."""
    selector = {"matchLabels": naming.broker_labels(cluster.name)}
    return {"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": selector}


def _grace_s(cluster: Cluster) -> int:
    """So long that the kubelet does not kill a broker that stops within its own time."""
    text = cluster.spec.config.get(SHUTDOWN_KEY, "")
    stop_ms = int(text) if text.isdecimal() else SHUTDOWN_MS  # the broker says what it thinks of other texts
    return -(-stop_ms // 1000) + GRACE_MARGIN_S


def _container(cluster: Cluster, zone: int) -> dict[str, Any]:
    http = {"port": "http", "scheme": "HTTP"}
    return {
        "name": CONTAINER,
        "image": cluster.image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["broker", "--config", f"{config.CONFIG_FOLDER}/{_config_file(cluster)}"],
        "env": _environment(cluster, zone),
        # The internal port is not named here: its name could be that of a listener.
        "ports": [{"name": "http", "containerPort": naming.HTTP_PORT, "protocol": "TCP"}]
        + [
            {"name": listener.name, "containerPort": listener.port, "protocol": "TCP"}
            for listener in cluster.spec.listeners
        ],
        "resources": {
            "requests": dict(cluster.spec.resources.requests),
            "limits": dict(cluster.spec.resources.limits),
        },
        # A broker that waits for its store is alive and not ready, so it is never restarted for that.
        "startupProbe": {"httpGet": {"path": "/livez", **http}, "periodSeconds": 1, "failureThreshold": STARTUP_S},
        "readinessProbe": {"httpGet": {"path": "/readyz", **http}, "periodSeconds": 1, "failureThreshold": 2},
        "livenessProbe": {
            "httpGet": {"path": "/livez", **http},
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 3,
        },
        "lifecycle": {"preStop": {"sleep": {"seconds": PRE_STOP_S}}},
        "terminationMessagePath": config.TERMINATION_MESSAGE_PATH,
        "securityContext": RESTRICTED_CONTAINER,
        "volumeMounts": _mounts(cluster),
    }


def _environment(cluster: Cluster, zone: int) -> list[dict[str, Any]]:
    """Downward values first: later ones refer to them as $(NAME)."""
    found = [
        _downward("POD_NAME", "metadata.name"),
        _downward("HOST_IP", "status.hostIP"),
        _downward("POD_IP", "status.podIP"),
        _downward("KAFKA_NODE_ID", "metadata.labels['apps.kubernetes.io/pod-index']"),
        # Not the pod's name: for a while after a restart DNS gives the address that it had before.
        {"name": "AUTOMQ_INTERNAL_ADVERTISED_LISTENER", "value": f"[$(POD_IP)]:{naming.INTERNAL_PORT}"},
    ]
    if cluster.zones:
        found.append({"name": "KAFKA_BROKER_RACK", "value": cluster.zones[zone]})
    if not differ(cluster):
        found.append({"name": "KAFKA_ADVERTISED_LISTENERS", "value": ",".join(_advertised(cluster))})
    return found


def differ(cluster: Cluster) -> bool:
    """Brokers advertise what only a file of their own can say."""
    return any(
        listener.type == "NodePort" or (listener.type == "LoadBalancer" and not listener.host)
        for listener in cluster.spec.listeners
    )


def _config_file(cluster: Cluster) -> str:
    return config.OWN_CONFIG_FILE if differ(cluster) else config.CONFIG_FILE


def _downward(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _advertised(cluster: Cluster) -> list[str]:
    """The same text for all brokers; the kubelet puts in what differs."""
    found = []
    for listener in cluster.spec.listeners:
        if listener.type == "LoadBalancer":
            host = (listener.host or "").replace(api.ID_PLACE, "$(KAFKA_NODE_ID)")
            found.append(f"{listener.name}://{host}:{listener.port}")
        else:
            found.append(f"{listener.name}://{_inside(cluster, '$(POD_NAME)')}:{listener.port}")
    return found


def advertised_by(
    cluster: Cluster, node_ports: NodePorts, addresses: Mapping[tuple[str, int], str], node_id: int
) -> list[str]:
    """The text of one broker. Every NodePort listener must have its port, a LoadBalancer listener a host or address."""
    found = []
    for listener in cluster.spec.listeners:
        host = (listener.host or "").replace(api.ID_PLACE, str(node_id))
        if listener.type == "NodePort":
            # Any node leads to the broker; its own is there as long as it is.
            found.append(f"{listener.name}://{host or '[${env:HOST_IP}]'}:{node_ports[listener.name, node_id]}")
        elif listener.type == "LoadBalancer":
            found.append(f"{listener.name}://{host or addresses[listener.name, node_id]}:{listener.port}")
        else:
            found.append(f"{listener.name}://{_inside(cluster, naming.pod(cluster.name, node_id))}:{listener.port}")
    return found


def _inside(cluster: Cluster, pod: str) -> str:
    return f"{pod}.{naming.headless_service(cluster.name)}.{cluster.namespace}.svc"


def _volumes(cluster: Cluster) -> list[dict[str, Any]]:
    settings = {"name": "config", "configMap": {"name": naming.config_map(cluster.name)}}
    return [settings, {"name": "tmp", "emptyDir": {}}, *config.credentials_volumes(cluster)]


def _mounts(cluster: Cluster) -> list[dict[str, Any]]:
    settings = {"name": "config", "mountPath": config.CONFIG_FOLDER, "readOnly": True}
    return [settings, {"name": "tmp", "mountPath": "/tmp"}, *config.credentials_mounts(cluster)]
