"""Pure: from what was observed to the status that is reported. Equal observations give equal statuses."""

from collections.abc import Sequence
from typing import Final

from automq_operator import api, naming
from automq_operator.cluster import Cluster
from automq_operator.plan import Finding
from automq_operator.reasons import ConditionType, Reason
from automq_operator.resources import network
from automq_operator.verdict import Verdict
from automq_operator.view import Broker, View
from automq_operator.wording import MESSAGE_CHARACTERS_MAX, in_fields, message, named
from automq_operator.zones import zone_of

IMAGE_REASONS: Final = ("ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull")


ADDRESSES_MAX: Final = 3


def broker_status(broker: Broker, cluster: Cluster) -> api.BrokerStatus:
    """One line of `status.brokers`."""
    pod, place = broker.pod, zone_of(broker.id)
    zone = cluster.zones[place] if place < len(cluster.zones) else None
    if pod is None:
        return api.BrokerStatus(id=broker.id, pod=broker.name, zone=zone)
    state = pod.readyz.state if pod.readyz else ("Unreachable" if pod.scheduled else "Pending")
    if broker.draining:
        state = "Draining"
    reason = (pod.readyz.reason if pod.readyz else None) or (
        pod.last_words[0] if pod.last_words and not pod.ready else None
    )
    leaders = pod.readyz.led_partitions if pod.readyz else None
    return api.BrokerStatus(
        id=broker.id, pod=pod.name, node=pod.node, zone=zone, state=state, reason=reason, leaders=leaders
    )


def storage_verdict(view: View) -> Verdict:
    """What the brokers say about the store: a complaint counts before praise, a present word before last words."""

    def verdict(holds: bool | None, reason: Reason, text: str) -> Verdict:
        return Verdict(type=ConditionType.STORAGE_READY, holds=holds, reason=reason, message=text)

    for answered in (True, False):
        if not answered and any(broker.answered and broker.serving for broker in view.brokers):
            return verdict(True, Reason.AVAILABLE, "the store answers")
        for broker in view.brokers:
            reported = broker.store_reason
            if reported is not None and broker.answered == answered:
                return verdict(False, Reason(reported[0]), in_fields(reported[1]))
    return verdict(None, Reason.UNKNOWN, "no broker has said anything about the store yet")


def ready_verdict(view: View, storage: Verdict) -> Verdict:
    """Whether clients are served, and if not, the one thing to look at."""
    wanted, serving = view.cluster.spec.replicas, len(view.serving)

    def verdict(holds: bool, reason: Reason, text: str) -> Verdict:
        return Verdict(type=ConditionType.READY, holds=holds, reason=reason, message=text)

    if wanted == 0:
        return verdict(False, Reason.SCALED_TO_ZERO, "spec.replicas is 0: no broker runs, the data are in the bucket")
    if (missing := _missing(view)) is not None:
        return verdict(False, *missing)
    if not serving or serving + len(view.joining) < wanted:
        if storage.holds is False:
            return verdict(False, Reason.STORE, f"{storage.reason}: {storage.message}")
        return verdict(False, *_why_not_serving(view))
    if storage.holds is False and any(broker.answered and broker.store_reason for broker in view.serving):
        return verdict(False, Reason.STORE, f"{storage.reason}: {storage.message}")
    conflicts = [named(item.child.key) for item in view.rendered if item.foreign]
    if conflicts:
        return verdict(True, Reason.NAME_CONFLICT, message(Finding(reason=Reason.NAME_CONFLICT, about=conflicts)))
    silent = [broker.name for broker in view.serving if _unobservable(broker, view)]
    if silent:
        text = f"{', '.join(silent)}: the pod is Ready, its port {naming.HTTP_PORT} does not answer the operator"
        return verdict(True, Reason.UNOBSERVABLE, f"{text}: NetworkPolicy?")
    new = f"; new and on their way: {', '.join(map(str, view.joining))}" if view.joining else ""
    return verdict(True, Reason.SERVING, f"{serving} of {wanted} brokers serve{new}")


def _missing(view: View) -> tuple[Reason, str] | None:
    """What clients need, or the status names, and is not there."""
    name = view.cluster.name
    workloads = [("StatefulSet", naming.workload(name, zone)) for zone in range(len(view.workloads))]
    for key in (("Service", naming.bootstrap_service(name)), *workloads):
        live = view.observed.get(*key)
        if live is not None and view.observed.owned(*key, view.cluster.uid) is not None:
            continue
        if live is not None:
            return Reason.NAME_CONFLICT, message(Finding(reason=Reason.NAME_CONFLICT, about=[named(key)]))
        refusal = view.observed.refused.get(key)
        if refusal is not None:
            about = [named(key), str(refusal.status), refusal.message]
            return Reason.REFUSED, message(Finding(reason=Reason.REFUSED, about=about))
        if view.cluster.paused:
            return Reason.PAUSED, f"{named(key)} is not there and the cluster is paused"
        return Reason.STARTING, f"{named(key)} is being made"
    return None


def _unobservable(broker: Broker, view: View) -> bool:
    return broker.pod is not None and not broker.answered and broker.pod.silent_s >= view.limits.silent_s


def _why_not_serving(view: View) -> tuple[Reason, str]:
    for broker in sorted(view.wanted, key=lambda item: item.id in view.joining):
        pod = broker.pod
        if pod is None or broker.serving:
            continue
        if not pod.scheduled:
            return Reason.POD_PENDING, f"pod {pod.name} is not placed on a node: kubectl describe pod {pod.name}"
        if broker.node_gone or (broker.node is not None and not broker.node.ready and not broker.answered):
            return Reason.NODE_NOT_READY, f"node {pod.node} of pod {pod.name} is not ready"
        if pod.waiting_reason in IMAGE_REASONS:
            return Reason.IMAGE_UNAVAILABLE, f"pod {pod.name}: {pod.waiting_reason}; check spec.image"
        if pod.readyz is not None:
            return Reason.STARTING, f"broker in {pod.name} is in state {pod.readyz.state}"
        if pod.last_words is not None:
            reason, text = pod.last_words
            known = reason in (Reason.INVALID_SETTINGS, Reason.ADDRESS_IN_USE, Reason.FENCED)
            return (Reason(reason) if known else Reason.BROKER_DOWN), f"broker in {pod.name} ended: {in_fields(text)}"
        return Reason.STARTING, f"broker in {pod.name} is being started"
    if view.cluster.paused and any(broker.pod is None for broker in view.wanted):
        return Reason.PAUSED, "a pod is missing and the cluster is paused"
    return Reason.STARTING, "a broker is being started"


PROGRESS_ORDER: Final = (
    Reason.REFUSED, Reason.NAME_CONFLICT, Reason.REPLACING, Reason.MOST_NODES_NOT_READY, Reason.NO_NODE_LEFT,
    Reason.WAITING_FOR_NODE_PORT, Reason.DEPLOYING, Reason.STARTING, Reason.FENCED, Reason.ROLLING,
    Reason.SCALING_IN, Reason.CONFIGURING,
    Reason.STOPPING, Reason.DRAINING,
    Reason.UPGRADE_PENDING, Reason.WAITING_FOR_LOAD_BALANCER,
)  # fmt: skip
"""The finding that names the condition's reason is the first of these; its message has all of them."""
STUCK: Final = frozenset({Reason.REFUSED, Reason.NAME_CONFLICT, Reason.MOST_NODES_NOT_READY, Reason.NO_NODE_LEFT})
"""Findings that somebody else must end: nothing progresses."""


def progress_verdict(findings: Sequence[Finding], *, paused: bool) -> Verdict:
    """What is under way, all of it, the most important first."""
    if paused:
        findings = [Finding(reason=Reason.PAUSED)]
    ordered = sorted(findings, key=lambda item: PROGRESS_ORDER.index(item.reason) if not paused else 0)
    if not ordered:
        ordered = [Finding(reason=Reason.SETTLED)]
    first = ordered[0].reason
    holds = first not in STUCK and first not in (Reason.SETTLED, Reason.PAUSED)
    text = "; ".join(message(item) for item in ordered)
    return Verdict(type=ConditionType.PROGRESSING, holds=holds, reason=first, message=text)


def paused_verdict(paused: bool) -> Verdict:
    """Whether the operator was told to change nothing."""
    reason = Reason.ASKED if paused else Reason.RUNNING
    text = "spec.paused or the annotation automq.io/paused is true" if paused else "the operator works on this cluster"
    return Verdict(type=ConditionType.PAUSED, holds=paused, reason=reason, message=text)


def conditions(
    verdicts: Sequence[Verdict], previous: Sequence[api.Condition], *, generation: int, now: str
) -> list[api.Condition]:
    """Verdicts with their times: the time of a condition moves only when its status does."""
    before = {condition.type: condition for condition in previous}
    words = {True: "True", False: "False", None: "Unknown"}
    found = []
    for verdict in verdicts:
        old = before.get(verdict.type)
        same = old is not None and old.status == words[verdict.holds]
        found.append(
            api.Condition(
                type=verdict.type,
                status=words[verdict.holds],  # type: ignore[arg-type]
                reason=verdict.reason,
                message=verdict.message[:MESSAGE_CHARACTERS_MAX],
                last_transition_time=old.last_transition_time if same and old else now,
                observed_generation=generation,
            )
        )
    return found


def listeners(view: View) -> list[api.ListenerStatus]:
    """Where to connect, by listener, as clients take it. A NodePort listener is reached through any node.

    What the Services do not have is not named: it may have been refused.
    """
    found = []
    cluster, node_ports = view.cluster, view.layout.node_ports
    live = view.observed.owned("Service", naming.bootstrap_service(cluster.name), cluster.uid) or {}
    inside = {port.get("port") for port in (live.get("spec") or {}).get("ports") or []}
    for listener in cluster.spec.listeners:
        if listener.type == "Internal":
            if listener.port not in inside:
                continue
            host = network.bootstrap_address(cluster).rsplit(":", 1)[0]
            found.append(api.ListenerStatus(name=listener.name, bootstrap=f"{host}:{listener.port}"))
        elif listener.type == "LoadBalancer":
            service = view.observed.owned("Service", naming.outside_service(cluster.name, listener.name), cluster.uid)
            begin = listener.bootstrap_host or network.ingress_address(service)
            if service is not None and begin:
                found.append(api.ListenerStatus(name=listener.name, bootstrap=f"{begin}:{listener.port}"))
        elif listener.name in node_ports:
            known = listener.bootstrap_host or _same_for_all(listener)
            hosts = [known] if known else node_addresses(view)
            bootstrap = ",".join(f"{host}:{node_ports[listener.name]}" for host in hosts)
            if bootstrap:
                found.append(api.ListenerStatus(name=listener.name, bootstrap=bootstrap))
    return found


def _same_for_all(listener: api.Listener) -> str | None:
    return listener.host if listener.host and api.ID_PLACE not in listener.host else None


def node_addresses(view: View) -> list[str]:
    """Of a few Ready nodes, those of brokers first: one of them may be away when a client begins."""
    homes = {broker.pod.node for broker in view.brokers if broker.pod is not None}
    ready = [node for node in view.observed.nodes.values() if node is not None and node.ready and node.address]
    ready.sort(key=lambda node: (node.name not in homes, node.name))
    found = [f"[{node.address}]" if ":" in (node.address or "") else node.address for node in ready]
    return [address for address in found if address][:ADDRESSES_MAX]


def phase(view: View, *, ready: bool) -> str:
    """Summary for people."""
    cluster = view.cluster
    if cluster.deleting:
        return "Deleting"
    if cluster.paused:
        return "Paused"
    if ready:
        return "Ready"
    if cluster.spec.replicas == 0:
        return "Stopped"
    return "Degraded" if cluster.status.cluster_id else "Pending"


def report(view: View, verdicts: Sequence[Verdict], *, dynamic_configs: list[str], now: str) -> api.Status:
    """The whole status. `verdicts` begin with Ready; `dynamic_configs` are what is set while brokers run."""
    cluster, serving = view.cluster, view.serving
    bootstrap = view.observed.owned("Service", naming.bootstrap_service(cluster.name), cluster.uid)
    return api.Status(
        observed_generation=cluster.generation,
        phase=phase(view, ready=verdicts[0].holds is True),
        cluster_id=cluster.status.cluster_id,
        prefix=cluster.prefix,
        replicas=sum(not pod.deleting for pod in view.pods),
        ready_replicas=len(serving),
        ready=f"{len(serving)}/{cluster.spec.replicas}",
        selector=naming.selector(cluster.name),
        bootstrap=network.bootstrap_address(cluster) if bootstrap is not None else None,
        listeners=listeners(view),
        brokers=[broker_status(broker, cluster) for broker in view.brokers],
        joining=view.joining,
        dynamic_configs=dynamic_configs,
        conditions=conditions(verdicts, cluster.status.conditions, generation=cluster.generation, now=now),
    )
