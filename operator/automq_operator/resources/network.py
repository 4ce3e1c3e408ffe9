"""Pure: Services. One gives pods names, one is the bootstrap address, one each where clients outside begin.

Those have one more for each broker: a client must reach the very broker that leads a partition.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from automq_operator import api, naming
from automq_operator.cluster import Cluster
from automq_operator.resources.meta import manifest

POD_NAME_LABEL: Final = "statefulset.kubernetes.io/pod-name"
DNS_ANNOTATION: Final = "external-dns.alpha.kubernetes.io/hostname"
ADDRESS: Final = re.compile(r"^([0-9.]+|\[.*\])$")


def services(cluster: Cluster, ids: Sequence[int]) -> list[dict[str, Any]]:
    """All Services of a cluster whose brokers have these ids."""
    found = [_headless(cluster), _bootstrap(cluster)]
    for listener in cluster.spec.listeners:
        if listener.type != "Internal":
            found.append(_outside(cluster, listener))
            found += [_own(cluster, listener, node_id) for node_id in ids]
    return found


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


def _outside(cluster: Cluster, listener: api.Listener) -> dict[str, Any]:
    """Where clients outside begin: any broker answers."""
    port = _port(listener) | ({"nodePort": listener.node_port} if listener.node_port else {})
    spec = {
        "type": listener.type,
        # Clients begin at any node, and keep an address when the broker moves; what they are told then is its own.
        "externalTrafficPolicy": "Cluster",
        "selector": naming.broker_labels(cluster.name),
        "ports": [port],
        **_load_balancer(listener),
    }
    given = {key: value for key, value in listener.annotations.items() if api.ID_PLACE not in key + value}
    name = naming.outside_service(cluster.name, listener.name)
    return _annotated(manifest(cluster, "v1", "Service", name, spec=spec), _dns(listener.bootstrap_host) | given)


def _own(cluster: Cluster, listener: api.Listener, node_id: int) -> dict[str, Any]:
    """The way to one broker: what comes there reaches this broker and no other."""
    spec = {
        "type": listener.type,
        "externalTrafficPolicy": "Cluster",
        # A broker that is not ready yet is the only one that can answer here.
        "publishNotReadyAddresses": True,
        "selector": naming.broker_labels(cluster.name) | {POD_NAME_LABEL: naming.pod(cluster.name, node_id)},
        "ports": [_port(listener)],
        **_load_balancer(listener),
    }
    given = {_of(key, node_id): _of(value, node_id) for key, value in listener.annotations.items()}
    host = listener.host and _of(listener.host, node_id)
    name = naming.broker_service(cluster.name, listener.name, node_id)
    return _annotated(manifest(cluster, "v1", "Service", name, spec=spec), _dns(host) | given)


def _load_balancer(listener: api.Listener) -> dict[str, Any]:
    if listener.type != "LoadBalancer":
        return {}
    blocks = [block for peer in listener.allow_from if isinstance(block := peer.get("ipBlock"), dict)]
    found: dict[str, Any] = {"loadBalancerClass": listener.load_balancer_class} if listener.load_balancer_class else {}
    if blocks:
        found["loadBalancerSourceRanges"] = [block["cidr"] for block in blocks]
    return found


def _dns(host: str | None) -> dict[str, str]:
    """What external-dns makes a record from; addresses have none."""
    return {DNS_ANNOTATION: host} if host and not ADDRESS.match(host) else {}


def _of(text: str, node_id: int) -> str:
    return text.replace(api.ID_PLACE, str(node_id))


def _annotated(service: dict[str, Any], annotations: dict[str, str]) -> dict[str, Any]:
    if annotations:
        service["metadata"]["annotations"] = annotations
    return service


def _port(listener: api.Listener) -> dict[str, Any]:
    return {"name": listener.name, "port": listener.port, "targetPort": listener.port, "protocol": "TCP"}


def bootstrap_address(cluster: Cluster) -> str:
    """For clients inside the Kubernetes cluster."""
    internal = next(listener for listener in cluster.spec.listeners if listener.type == "Internal")
    return f"{naming.bootstrap_service(cluster.name)}.{cluster.namespace}.svc:{internal.port}"


def node_port(live: Mapping[str, Any] | None, listener: str) -> int | None:
    """The port of the nodes that a live Service was given for a listener."""
    for port in ((live or {}).get("spec") or {}).get("ports") or []:
        if port.get("name") == listener and port.get("nodePort"):
            found: int = port["nodePort"]
            return found
    return None


def ingress_address(live: Mapping[str, Any] | None) -> str | None:
    """The address that a live Service's load balancer was given, as a client takes it."""
    for ingress in (((live or {}).get("status") or {}).get("loadBalancer") or {}).get("ingress") or []:
        found: str | None = ingress.get("hostname") or ingress.get("ip")
        if found:
            return f"[{found}]" if ":" in found else found
    return None
