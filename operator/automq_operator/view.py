"""Pure: one cluster as planners look at it. A `Broker` per id, what each child is and should be, what is allowed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import msgspec

from automq_operator import naming
from automq_operator.children import Child, Layout, Manifest, broker_ports, children, node_ports, own_addresses
from automq_operator.cluster import Cluster
from automq_operator.dynamic_configs import dynamic, same
from automq_operator.observed import Node, Observed, Pod, owned_by
from automq_operator.plan import Limits, Permits
from automq_operator.reasons import STORE_REASONS, Reason
from automq_operator.resources import config, workload
from automq_operator.zones import ids, zone_of

SERVING: Final = "Serving"
WAITING: Final = "Waiting"
FENCED: Final = "Fenced"


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """One broker: its pod, its node and what both say."""

    id: int
    name: str
    """Of its pod."""
    pod: Pod | None
    node: Node | None
    """None when it has no node, or nothing is known of it."""
    node_gone: bool

    @property
    def answered(self) -> bool:
        """The broker itself said something."""
        return self.pod is not None and self.pod.readyz is not None

    @property
    def serving(self) -> bool:
        """It serves clients: the kubelet and the broker agree, or the only one of them that can be heard says so."""
        pod = self.pod
        if pod is None or pod.deleting:
            return False
        kubelet_reachable = not self.node_gone and (self.node is None or self.node.ready)
        if pod.readyz is None:
            return pod.ready and kubelet_reachable
        return pod.readyz.state == SERVING and (pod.ready or not kubelet_reachable)

    @property
    def draining(self) -> bool:
        """It is to be emptied, by its own word."""
        return self.pod is not None and self.pod.readyz is not None and self.pod.readyz.draining

    @property
    def broken(self) -> bool:
        """It does not serve, by its own word or the kubelet's. Silence of its /readyz alone is not a word."""
        return self.pod is not None and not self.serving

    @property
    def store_reason(self) -> tuple[str, str] | None:
        """What it says about the store, now or with its last words."""
        if self.pod is None:
            return None
        if self.pod.readyz is not None:
            reason = self.pod.readyz.reason
            return (reason, self.pod.readyz.message or "") if reason in STORE_REASONS else None
        reported = self.pod.last_words
        return reported if reported is not None and reported[0] in STORE_REASONS and not self.pod.running else None

    @property
    def refused_by_store(self) -> bool:
        """It waits for its store, or ended because of it."""
        if self.pod is not None and self.pod.readyz is not None and self.pod.readyz.state != WAITING:
            return False
        return self.store_reason is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """A child as it should be."""

    child: Child
    manifest: Manifest
    live: Mapping[str, Any] | None
    """The live object of its name, whoever owns it."""
    foreign: bool
    """The live object belongs to somebody else."""
    differs: bool
    """It is missing, or is not what the manifest says."""
    held: bool
    """It differs only by what this release of the operator renders, and that is not for it, or not yet."""


class View:
    """Everything a planner may look at. Immutable; what is derived is computed once."""

    def __init__(
        self, cluster: Cluster, observed: Observed, *, limits: Limits, permits: Permits, kept: tuple[int, ...]
    ) -> None:
        self.observed, self.limits, self.permits = observed, limits, permits
        self.pods = _own_pods(cluster, observed)
        self.cluster = _with_what_is_known(cluster, observed, self.pods, permits)
        kept_ids = ids(kept)
        self.layout = Layout(
            kept=kept,
            node_ports=node_ports(self.cluster, observed),
            broker_ports=broker_ports(self.cluster, observed, ids=kept_ids),
            addresses=own_addresses(self.cluster, observed, ids=kept_ids),
        )

    @cached_property
    def brokers(self) -> list[Broker]:
        """By id: those that are wanted, and those beyond that still have a pod."""
        by_name = {pod.name: pod for pod in self.pods}
        known = self.wanted_ids | {naming.node_id(pod.name) for pod in self.pods}
        return [self._broker(node_id, by_name.get(naming.pod(self.cluster.name, node_id))) for node_id in sorted(known)]

    def _broker(self, node_id: int, pod: Pod | None) -> Broker:
        known = pod is not None and pod.node is not None and pod.node in self.observed.nodes
        node = self.observed.nodes[pod.node] if known and pod is not None and pod.node is not None else None
        name = naming.pod(self.cluster.name, node_id)
        return Broker(id=node_id, name=name, pod=pod, node=node, node_gone=known and node is None)

    @cached_property
    def wanted_ids(self) -> frozenset[int]:
        """Ids of the brokers that the spec asks for."""
        return ids(self.cluster.wanted_by_zone())

    @cached_property
    def kept_empty(self) -> frozenset[int]:
        """Ids that the annotation names, as far as it is followed: somebody must be left to take what they have."""
        named = self.cluster.drain if self.cluster.spec.replicas else frozenset()
        return named - self.wanted_ids if self.wanted_ids <= named else named

    @property
    def wanted(self) -> list[Broker]:
        """The brokers that the spec asks for."""
        return [broker for broker in self.brokers if broker.id in self.wanted_ids]

    @property
    def serving(self) -> list[Broker]:
        """Those of them that serve."""
        return [broker for broker in self.wanted if broker.serving]

    @cached_property
    def joining(self) -> list[int]:
        """Ids of wanted brokers that were added to a cluster with others and have not served since.

        Nothing of the cluster depends on them yet. Of a status that was wiped nobody is said to be new.
        """
        status = self.cluster.status
        before = {broker.id for broker in status.brokers}
        new = set(status.joining) | ({broker.id for broker in self.wanted} - before if before else set())
        return [broker.id for broker in self.wanted if broker.id in new and not broker.serving]

    @cached_property
    def rendered(self) -> list[Rendered]:
        """Every child as it should be, in order."""
        return [self._rendered(child) for child in children(self.cluster, self.layout)]

    def _rendered(self, child: Child) -> Rendered:
        manifest = child.render(self.layout)
        annotations = dict(manifest["metadata"].get("annotations") or {})
        if child.inputs is not None:
            annotations[naming.INPUTS_ANNOTATION] = config.digest(child.inputs(self.layout))
        if child.kind == "StatefulSet" and self.moved_by is not None:
            annotations[naming.MOVED_ANNOTATION] = self.moved_by
        digest = config.digest([manifest, annotations])
        annotations[naming.APPLIED_ANNOTATION] = digest
        manifest = {**manifest, "metadata": {**manifest["metadata"], "annotations": annotations}}
        live = self.observed.get(*child.key)
        foreign = live is not None and not owned_by(live, self.cluster.uid)
        same = live is not None and _annotations(live).get(naming.APPLIED_ANNOTATION) == digest
        differs = not same or child.key in self.observed.drifted
        held = (
            differs
            and child.shapes_pods
            and self.rendered_anew
            and (self.pinned or not self.permits.may_move)
            and self._as_wished(live, annotations[naming.INPUTS_ANNOTATION])
        )
        return Rendered(child=child, manifest=manifest, live=live, foreign=foreign, differs=differs, held=held)

    def _as_wished(self, live: Mapping[str, Any] | None, inputs: str) -> bool:
        """The live object was made from what the user wishes now. An older release did not write down from what."""
        if live is None:
            return False
        written = _annotations(live).get(naming.INPUTS_ANNOTATION)
        if written is None:
            return self.cluster.status.observed_generation in (0, self.cluster.generation)
        return written == inputs

    @cached_property
    def workloads(self) -> Sequence[Mapping[str, Any] | None]:
        """The live StatefulSet of each zone, if it is the cluster's own."""
        return own_workloads(self.cluster, self.observed)

    @property
    def workload(self) -> Mapping[str, Any] | None:
        """That of the first zone, by which the cluster is known."""
        return self.workloads[0]

    def template_hash(self, node_id: int) -> str | None:
        """What a pod that is made now for this broker would be made from."""
        zone = zone_of(node_id)
        live = self.workloads[zone] if zone < len(self.workloads) else None
        return _template_annotations(live).get(naming.HASH_ANNOTATION)

    @property
    def pinned(self) -> bool:
        """Its user chose the image: only its user changes what its brokers run."""
        return self.cluster.spec.image is not None

    @property
    def pending(self) -> bool:
        """An upgraded operator wants to move it."""
        return self.rendered_anew and not self.pinned

    @cached_property
    def rendered_anew(self) -> bool:
        """Without a change of the user's this release would render other pods than those that are."""
        if self.workload is None:
            return False
        newest = replace(self.cluster, deployed_image=None)
        child = next(item for item in children(newest, self.layout) if item.kind == "StatefulSet")
        manifest = child.render(self.layout)
        if _template_annotations(manifest).get(naming.HASH_ANNOTATION) == self.template_hash(0):
            return False
        assert child.inputs is not None, "a StatefulSet shapes pods"
        if self._as_wished(self.workload, config.digest(child.inputs(self.layout))):
            return True
        return newest.image != image_of(self.workload) and not self.pinned

    @property
    def moved_by(self) -> str | None:
        """The release that an upgrade moved this cluster to; None while it runs what it was made with."""
        if self.pending and self.permits.may_move:
            return self.cluster.default_image
        return _annotations(self.workload).get(naming.MOVED_ANNOTATION)


def image_of(live: Mapping[str, Any] | None) -> str | None:
    """The image of a live StatefulSet as the operator chose it. Older releases did not write it down."""
    written = _template_annotations(live).get(naming.IMAGE_ANNOTATION)
    if written:
        return written
    pod_spec = _template(live).get("spec") or {}
    for container in pod_spec.get("containers") or []:
        if container.get("name") == workload.CONTAINER:
            found: str | None = container.get("image")
            return found
    return None


def _template(live: Mapping[str, Any] | None) -> Mapping[str, Any]:
    found: Mapping[str, Any] = ((live or {}).get("spec") or {}).get("template") or {}
    return found


def _template_annotations(live: Mapping[str, Any] | None) -> Mapping[str, str]:
    return _annotations(_template(live))


def _annotations(live: Mapping[str, Any] | None) -> Mapping[str, str]:
    found: Mapping[str, str] = ((live or {}).get("metadata") or {}).get("annotations") or {}
    return found


def _own_pods(cluster: Cluster, observed: Observed) -> Sequence[Pod]:
    """Pods that the cluster's own StatefulSets control: two labels make no broker of a stranger."""
    uids = {live["metadata"]["uid"] for live in own_workloads(cluster, observed) if live is not None}
    return [pod for pod in observed.pods if pod.owner_uid in uids and naming.node_id(pod.name) >= 0]


def own_workloads(cluster: Cluster, observed: Observed) -> list[Mapping[str, Any] | None]:
    """The live StatefulSet of each zone, None where there is none of the cluster's own."""
    names = [naming.workload(cluster.name, zone) for zone in range(len(cluster.wanted_by_zone()))]
    return [observed.owned("StatefulSet", name, cluster.uid) for name in names]


def _with_what_is_known(cluster: Cluster, observed: Observed, pods: Sequence[Pod], permits: Permits) -> Cluster:
    """The image is read from the StatefulSet, the id from a broker that serves: the status only shows them."""
    live = observed.owned("StatefulSet", naming.workload(cluster.name), cluster.uid)
    asked = cluster.restart or _template_annotations(live).get(naming.RESTART_ANNOTATION, "")
    found = replace(
        cluster,
        restart=asked,
        deployed_image=None if permits.may_move else image_of(live),
        file_configs=_file_configs(cluster, observed, pods),
    )
    if cluster.status.cluster_id is not None:
        return found
    reported = [pod.readyz.cluster_id for pod in pods if pod.readyz is not None and pod.readyz.state == SERVING]
    known = next(filter(None, reported), None) or _written_id(cluster, observed)
    return replace(found, status=msgspec.structs.replace(found.status, cluster_id=known))


def _file_configs(cluster: Cluster, observed: Observed, pods: Sequence[Pod]) -> Mapping[str, str] | None:
    """A value that brokers refuse while they run must not meet one that starts: it would not.

    So their file keeps what it has until all brokers that were asked have the new one. A file that none of them starts
    with is another matter: what the spec says can only be better.
    """
    live = observed.owned("ConfigMap", naming.config_map(cluster.name), cluster.uid)
    refused = any(pod.last_words is not None and pod.last_words[0] == Reason.INVALID_SETTINGS for pod in pods)
    serving = any(pod.readyz is not None and pod.readyz.state == SERVING for pod in pods)
    if live is None or (refused and not serving):
        return None
    written = config.written(live)
    if config.CLUSTER_ID_KEY not in written:
        return None
    found = {}
    for name, value in dynamic(cluster.spec.config).items():
        heard = [configs[name].shared for configs in observed.configs.values() if name in configs]
        if heard and all(same(value, shared) for shared in heard):
            found[name] = value
        elif name in written:
            found[name] = written[name]
    return found


def _written_id(cluster: Cluster, observed: Observed) -> str | None:
    """The id as the brokers' settings have it: a status that was wiped does not make a cluster forget who it is."""
    live = observed.owned("ConfigMap", naming.config_map(cluster.name), cluster.uid)
    return config.written(live or {}).get(config.CLUSTER_ID_KEY) or None
