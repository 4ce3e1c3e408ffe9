"""Pure: Services. One gives pods names, one is the bootstrap address, one a NodePort listener."""

from typing import Any

from automq_operator import api, naming
from automq_operator.cluster import Cluster
from automq_operator.resources.meta import manifest


def services(cluster: Cluster) -> list[dict[str, Any]]:
    """All Services of the cluster."""
    listeners = cluster.spec.listeners
    outside = [listener for listener in listeners if listener.type == "NodePort"]
    return [_headless(cluster), _bootstrap(cluster), *(_node_port(cluster, listener) for listener in outside)]


def _headless(cluster: Cluster) -> dict[str, Any]:
    ports = [_port(listener) for listener in cluster.spec.listeners] + [
        {"name": "http", "port": naming.HTTP_PORT, "targetPort": naming.HTTP_PORT, "protocol": "TCP"}
    ]
    spec = {
        "clusterIP": "None",
        # A broker must be reachable by name before it is ready: clients that know it come back to it.
        "publishNotReadyAddresses": True,
        "selector": naming.broker_labels(cluster.name),
        "ports": ports,
    }
    return manifest(cluster, "v1", "Service", naming.headless_service(cluster.name), spec=spec)


def _bootstrap(cluster: Cluster) -> dict[str, Any]:
    ports = [_port(listener) for listener in cluster.spec.listeners if listener.type == "Internal"]
    spec = {"type": "ClusterIP", "selector": naming.broker_labels(cluster.name), "ports": ports}
    return manifest(cluster, "v1", "Service", naming.bootstrap_service(cluster.name), spec=spec)


def _node_port(cluster: Cluster, listener: api.Listener) -> dict[str, Any]:
    port = _port(listener) | ({"nodePort": listener.node_port} if listener.node_port else {})
    spec = {
        "type": "NodePort",
        # Clients begin at any node, and keep an address when the broker moves; what they are told then is its own.
        "externalTrafficPolicy": "Cluster",
        "selector": naming.broker_labels(cluster.name),
        "ports": [port],
    }
    return manifest(cluster, "v1", "Service", naming.node_port_service(cluster.name, listener.name), spec=spec)


def _port(listener: api.Listener) -> dict[str, Any]:
    return {"name": listener.name, "port": listener.port, "targetPort": listener.port, "protocol": "TCP"}


def bootstrap_address(cluster: Cluster) -> str:
    """For clients inside the Kubernetes cluster."""
    internal = next(listener for listener in cluster.spec.listeners if listener.type == "Internal")
    return f"{naming.bootstrap_service(cluster.name)}.{cluster.namespace}.svc:{internal.port}"
