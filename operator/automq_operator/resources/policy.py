"""Pure: the NetworkPolicy of the broker pods. Nothing is said about whom a broker may connect to."""

from typing import Any, Final

from automq_operator import api, naming
from automq_operator.cluster import Cluster
from automq_operator.resources.meta import manifest

OPERATOR_LABELS: Final = {"app.kubernetes.io/name": "automq-operator"}
NAMESPACE_LABEL: Final = "kubernetes.io/metadata.name"
EVERY_POD: Final[dict[str, Any]] = {"namespaceSelector": {}}


def network_policy(cluster: Cluster) -> dict[str, Any]:
    """Clients to the listeners, brokers to each other, the operator to listeners and probes."""
    spec = {
        "podSelector": {"matchLabels": naming.broker_labels(cluster.name)},
        "policyTypes": ["Ingress"],
        "ingress": [
            *(_clients(listener) for listener in cluster.spec.listeners),
            {
                "from": [{"podSelector": {"matchLabels": naming.broker_labels(cluster.name)}}],
                "ports": [_port(naming.INTERNAL_PORT)],
            },
            *_operator(cluster),
            {"from": cluster.spec.network_policy.metrics_from or [EVERY_POD], "ports": [_port(naming.HTTP_PORT)]},
        ],
    }
    return manifest(cluster, "networking.k8s.io/v1", "NetworkPolicy", naming.network_policy(cluster.name), spec=spec)


def _clients(listener: api.Listener) -> dict[str, Any]:
    rule: dict[str, Any] = {"ports": [_port(listener.port)]}
    return {**rule, "from": listener.allow_from} if listener.allow_from else rule


def _operator(cluster: Cluster) -> list[dict[str, Any]]:
    if not cluster.operator_namespace:
        return []
    peer = {
        "namespaceSelector": {"matchLabels": {NAMESPACE_LABEL: cluster.operator_namespace}},
        "podSelector": {"matchLabels": OPERATOR_LABELS},
    }
    ports = [_port(listener.port) for listener in cluster.spec.listeners] + [_port(naming.HTTP_PORT)]
    return [{"from": [peer], "ports": ports}]


def _port(number: int) -> dict[str, Any]:
    return {"port": number, "protocol": "TCP"}
