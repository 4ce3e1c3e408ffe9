"""Pure: the one list of what a cluster consists of. Applying, observing, pruning and ownership follow from it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from automq_operator import api, naming
from automq_operator.cluster import Cluster
from automq_operator.observed import ObjectKey, Observed
from automq_operator.resources import access, autoscaler, config, network, policy, workload
from automq_operator.zones import ids as ids_of

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What rendering needs beside the resource."""

    kept: tuple[int, ...]
    """How many pods the StatefulSet of each zone keeps: the scale planner's word, not the spec's."""
    node_ports: Mapping[str, int]
    """Port of the nodes that clients begin with, by listener, for those that have one."""
    broker_ports: Mapping[tuple[str, int], int] = field(default_factory=dict)
    """Each broker's own port of the nodes, by listener and broker, as far as they are known."""
    addresses: Mapping[tuple[str, int], str] = field(default_factory=dict)
    """Of load balancers, by listener and broker, where a listener has no host and the address is known."""

    @property
    def ids(self) -> list[int]:
        """Of the brokers whose pods are kept."""
        return sorted(ids_of(self.kept))


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """One object of a cluster."""

    kind: str
    name: str
    render: Callable[[Layout], Manifest]
    shapes_pods: bool = False
    """A changed rendering would reach brokers at their next start: it moves with the upgrade of the cluster."""
    inputs: Callable[[Layout], object] | None = None
    """What of the user's wishes the rendering is made from, where `shapes_pods`."""

    @property
    def key(self) -> ObjectKey:
        """Its place in `Observed.objects`."""
        return self.kind, self.name


def children(cluster: Cluster, layout: Layout) -> list[Child]:
    """In the order they are needed."""
    found = [
        Child(
            kind="ServiceAccount",
            name=naming.service_account(cluster.name),
            render=lambda _: access.service_account(cluster),
        ),
        Child(
            kind="ConfigMap",
            name=naming.config_map(cluster.name),
            render=lambda layout: config.config_map(reachable(cluster, layout), own_settings(cluster, layout)),
            shapes_pods=True,
            inputs=lambda layout: [
                _desired(cluster, layout),
                cluster.status.cluster_id,
                cluster.spec.storage.adopt,
                # Each broker has a file of its own. One alone was not counted by older releases.
                *(_files(cluster, layout) if workload.differ(cluster) else []),
            ],
        ),
    ]
    found += [_service(manifest) for manifest in network.services(cluster, layout.ids)]
    if cluster.spec.network_policy.enabled:
        found.append(
            Child(
                kind="NetworkPolicy",
                name=naming.network_policy(cluster.name),
                render=lambda _: policy.network_policy(cluster),
            )
        )
    found += [_workload(cluster, zone) for zone in range(len(layout.kept))]
    found += [
        Child(
            kind="PodDisruptionBudget",
            name=naming.disruption_budget(cluster.name),
            render=lambda _: workload.disruption_budget(cluster),
        ),
    ]
    if cluster.spec.autoscaling is not None:
        wanted = cluster.spec.autoscaling
        found.append(
            Child(
                kind="HorizontalPodAutoscaler",
                name=naming.autoscaler(cluster.name),
                render=lambda _: autoscaler.horizontal_pod_autoscaler(cluster, wanted),
            )
        )
    return found


def _workload(cluster: Cluster, zone: int) -> Child:
    return Child(
        kind="StatefulSet",
        name=naming.workload(cluster.name, zone),
        render=lambda layout: workload.stateful_set(reachable(cluster, layout), replicas=layout.kept[zone], zone=zone),
        shapes_pods=True,
        inputs=lambda layout: [
            _desired(cluster, layout),
            layout.kept[zone],
            cluster.spec.storage.adopt,
            *([cluster.node_selector(zone)] if cluster.zones else []),
        ],
    )


def _files(cluster: Cluster, layout: Layout) -> list[object]:
    """Who has a file of its own."""
    if cluster.zones:
        return [list(layout.kept)]
    return [layout.kept[0]] if layout.kept[0] > 1 else []


def _service(manifest: Manifest) -> Child:
    return Child(kind="Service", name=manifest["metadata"]["name"], render=lambda _: manifest)


def reachable(cluster: Cluster, layout: Layout) -> Cluster:
    """The cluster without NodePort listeners that have no port: brokers could not advertise them."""
    kept = [item for item in cluster.spec.listeners if item.type != "NodePort" or item.name in layout.node_ports]
    if len(kept) == len(cluster.spec.listeners):
        return cluster
    return replace(cluster, spec=msgspec.structs.replace(cluster.spec, listeners=kept))


def _desired(cluster: Cluster, layout: Layout) -> object:
    """What the user asked for, as far as pods are made from it; not what this release makes of it."""
    spec: dict[str, Any] = msgspec.to_builtins(cluster.spec)
    for name in ("replicas", "paused", "networkPolicy", "autoscaling", "topology"):
        spec.pop(name, None)
    for listener in spec["listeners"]:
        for name in ("bootstrapHost", "annotations", "loadBalancerClass", "allowFrom"):
            listener.pop(name, None)
    for name in ("adopt", "deletionPolicy"):
        spec["storage"].pop(name, None)
    return [spec, dict(layout.node_ports), *([cluster.restart] if cluster.restart else [])]


def node_ports(cluster: Cluster, observed: Observed) -> dict[str, int]:
    """The port each NodePort listener was given, from its Service."""
    found = {}
    for listener in cluster.spec.listeners:
        if listener.type != "NodePort":
            continue
        live = observed.owned("Service", naming.outside_service(cluster.name, listener.name), cluster.uid)
        port = network.node_port(live, listener.name)
        if port is not None:
            found[listener.name] = port
    return found


def broker_ports(cluster: Cluster, observed: Observed, *, ids: Iterable[int]) -> dict[tuple[str, int], int]:
    """The port that each broker was given for each NodePort listener, from its Service."""
    found = {}
    for listener in cluster.spec.listeners:
        for node_id in ids if listener.type == "NodePort" else ():
            name = naming.broker_service(cluster.name, listener.name, node_id)
            port = network.node_port(observed.owned("Service", name, cluster.uid), listener.name)
            if port is not None:
                found[listener.name, node_id] = port
    return found


def own_addresses(cluster: Cluster, observed: Observed, *, ids: Iterable[int]) -> dict[tuple[str, int], str]:
    """What each broker's load balancer was given, from its Service, for listeners that name no host."""
    found = {}
    for listener in with_own_addresses(cluster):
        for node_id in ids:
            name = naming.broker_service(cluster.name, listener.name, node_id)
            address = network.ingress_address(observed.owned("Service", name, cluster.uid))
            if address is not None:
                found[listener.name, node_id] = address
    return found


def with_own_addresses(cluster: Cluster) -> list[api.Listener]:
    """Listeners whose address differs from broker to broker and is known only when Kubernetes has given it."""
    return [item for item in cluster.spec.listeners if item.type == "LoadBalancer" and not item.host]


def own_settings(cluster: Cluster, layout: Layout) -> dict[int, dict[str, str]]:
    """Settings by broker, where they differ: a listener without an address yet is one that its broker does not have."""
    if not workload.differ(cluster):
        return {}
    found = {}
    for node_id in layout.ids:
        here = _with_known_addresses(cluster, layout, node_id)
        advertised = workload.advertised_by(here, layout.broker_ports, layout.addresses, node_id)
        found[node_id] = {**config.all_settings(here), "advertised.listeners": ",".join(advertised)}
    return found


def _with_known_addresses(cluster: Cluster, layout: Layout, node_id: int) -> Cluster:
    waiting = {item.name for item in with_own_addresses(cluster) if (item.name, node_id) not in layout.addresses}
    waiting |= {
        item.name
        for item in cluster.spec.listeners
        if item.type == "NodePort" and (item.name, node_id) not in layout.broker_ports
    }
    reached = reachable(cluster, layout)
    kept = [item for item in reached.spec.listeners if item.name not in waiting]
    return replace(reached, spec=msgspec.structs.replace(reached.spec, listeners=kept))
