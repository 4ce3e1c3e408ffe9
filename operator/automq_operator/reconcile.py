"""Pure: (cluster, observed) to the actions that bring what is closer to what should be.

Level-triggered: it looks at the whole state each time and never remembers. Order of a pass: apply what differs, then
pods: replace those of lost nodes, then those that are out of date, broken ones first. A pod is deleted only when the
StatefulSet that will make the new one is up to date, or the old template would come back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from automq_operator import api, naming, status
from automq_operator.cluster import Cluster
from automq_operator.observed import Observed, Pod, owned_by, satisfied
from automq_operator.reasons import ConditionType, Reason
from automq_operator.resources import access, config, erase, network, workload
from automq_operator.status import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Apply:
    """Server-side apply of a whole child."""

    manifest: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletePod:
    """Delete one pod; `force` when its node cannot confirm (grace 0: the broker is fenced by its successor)."""

    name: str
    uid: str
    force: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteObject:
    """Delete a child that is not wanted any more. Guarded by uid."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A Kubernetes Event for what was decided."""

    reason: str
    message: str
    warning: bool = False


Action = Apply | DeletePod | DeleteObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do now, what to report, what to tell."""

    actions: Sequence[Action] = ()
    notes: Sequence[Note] = ()
    status: api.Status
    settled: bool
    """Nothing is under way: the next look may wait for an event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How patient the operator is."""

    node_lost_s: float = 5.0
    """A node that has been not ready for so long is given up; brokers are fenced in the store, so this is safe."""
    erase_s: float = 600.0
    """A deletion waits so long for the prefix to be emptied, then lets go."""


@dataclass(slots=True)
class _Draft:
    actions: list[Action] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)


def reconcile(cluster: Cluster, observed: Observed, *, now: str, limits: Limits) -> Plan:
    """One pass. `now` is an RFC 3339 time, used only for conditions that change."""
    draft = _Draft()
    node_ports = _node_ports(cluster, observed)
    missing_ports = [
        listener.name
        for listener in cluster.spec.listeners
        if listener.type == "NodePort" and listener.name not in node_ports
    ]
    desired = _desired(cluster, None if missing_ports else node_ports)
    for child in desired:
        _apply_if_needed(cluster, observed, child, draft)
    draft.actions += _unwanted(cluster, observed, desired)
    progressing = _progress(cluster, observed, draft, missing_ports, node_ports, limits)
    if cluster.spec.paused:
        draft.actions.clear()
        draft.notes.clear()
    report = _report(cluster, observed, draft, progressing, node_ports, now)
    settled = not draft.actions and progressing.reason is Reason.SETTLED and not cluster.spec.paused
    return Plan(actions=draft.actions, notes=draft.notes, status=report, settled=settled)


def _desired(cluster: Cluster, node_ports: workload.NodePorts | None) -> list[dict[str, Any]]:
    """Children in the order they are needed. Without node ports the pods cannot be rendered yet."""
    children = [access.service_account(cluster), config.config_map(cluster), *network.services(cluster)]
    if node_ports is not None:
        children += [workload.stateful_set(cluster, node_ports), workload.disruption_budget(cluster)]
    return children


def _apply_if_needed(cluster: Cluster, observed: Observed, child: dict[str, Any], draft: _Draft) -> None:
    live = observed.get(child["kind"], child["metadata"]["name"])
    if live is None:
        draft.actions.append(Apply(manifest=child))
    elif not owned_by(live, cluster.uid):
        draft.conflicts.append(f"{child['kind']} {child['metadata']['name']}")
    elif not satisfied(child, live):
        draft.actions.append(Apply(manifest=child))


def _unwanted(cluster: Cluster, observed: Observed, desired: Sequence[Mapping[str, Any]]) -> list[Action]:
    """Services of listeners that are gone. Nothing that this cluster does not own is ever deleted."""
    wanted = {(child["kind"], child["metadata"]["name"]) for child in desired}
    return [
        DeleteObject(kind=kind, name=name, uid=live["metadata"]["uid"])
        for (kind, name), live in sorted(observed.objects.items())
        if kind == "Service" and (kind, name) not in wanted and owned_by(live, cluster.uid)
    ]


def _node_ports(cluster: Cluster, observed: Observed) -> dict[str, int]:
    """The port each NodePort listener was given, from its Service."""
    found = {}
    for listener in cluster.spec.listeners:
        if listener.type != "NodePort":
            continue
        live = observed.get("Service", naming.node_port_service(cluster.name, listener.name))
        if live is None or not owned_by(live, cluster.uid):
            continue
        for port in live.get("spec", {}).get("ports", []):
            if port.get("name") == listener.name and port.get("nodePort"):
                found[listener.name] = port["nodePort"]
    return found


def _progress(
    cluster: Cluster,
    observed: Observed,
    draft: _Draft,
    missing_ports: Sequence[str],
    node_ports: workload.NodePorts,
    limits: Limits,
) -> Verdict:
    """Decides about pods, and says what is under way."""

    def verdict(holds: bool, reason: Reason, message: str) -> Verdict:
        return Verdict(type=ConditionType.PROGRESSING, holds=holds, reason=reason, message=message)

    if missing_ports:
        return verdict(True, Reason.WAITING_FOR_NODE_PORT, f"no port yet for {', '.join(missing_ports)}")
    if lost := [pod for pod in observed.pods if _is_lost(pod, observed, limits)]:
        for pod in lost:
            draft.actions.append(DeletePod(name=pod.name, uid=pod.uid, force=True))
            text = f"pod {pod.name} is on node {pod.node}, which is lost; its successor fences it in the store"
            draft.notes.append(Note(reason="ReplacingBroker", message=text, warning=True))
        return verdict(True, Reason.REPLACING, f"replacing {', '.join(pod.name for pod in lost)}: node lost")
    if draft.actions:
        return verdict(True, Reason.DEPLOYING, f"{len(draft.actions)} objects differ from the spec")
    template = workload.pod_template(cluster, node_ports)["metadata"]["annotations"]
    outdated = [pod for pod in observed.pods if not pod.deleting and _is_outdated(pod, template)]
    if outdated:
        # Broken ones first; one at a time.
        pod = min(outdated, key=lambda candidate: (candidate.serving, candidate.name))
        if _workload_ready(cluster, observed) and not any(other.deleting for other in observed.pods):
            draft.actions.append(DeletePod(name=pod.name, uid=pod.uid, force=False))
            text = f"restarting {pod.name}: its configuration or image changed"
            draft.notes.append(Note(reason="RollingBroker", message=text))
        return verdict(True, Reason.ROLLING, f"{pod.name} is out of date")
    present = sum(not pod.deleting for pod in observed.pods)
    if present < cluster.spec.replicas or any(pod.deleting for pod in observed.pods):
        return verdict(True, Reason.DEPLOYING, f"{present} of {cluster.spec.replicas} pods exist")
    return verdict(False, Reason.SETTLED, "everything is as the spec says")


def _is_lost(pod: Pod, observed: Observed, limits: Limits) -> bool:
    """Its node is gone or has been silent for too long: a StatefulSet would wait for it for ever."""
    if pod.node is None or pod.node not in observed.nodes:
        return False
    node = observed.nodes[pod.node]
    return node is None or (not node.ready and node.not_ready_s >= limits.node_lost_s)


def _is_outdated(pod: Pod, template: Mapping[str, str]) -> bool:
    if pod.restart_hash != template[naming.HASH_ANNOTATION]:
        return True
    return not pod.serving and pod.config_hash != template[workload.CONFIG_HASH_ANNOTATION]


def _workload_ready(cluster: Cluster, observed: Observed) -> bool:
    live = observed.get("StatefulSet", naming.workload(cluster.name))
    if live is None:
        return False
    seen: int = live.get("status", {}).get("observedGeneration", 0)
    return bool(seen >= live["metadata"].get("generation", 0))


def _report(
    cluster: Cluster,
    observed: Observed,
    draft: _Draft,
    progressing: Verdict,
    node_ports: workload.NodePorts,
    now: str,
) -> api.Status:
    storage = status.storage_verdict(cluster, observed)
    ready = status.ready_verdict(cluster, observed, storage, draft.conflicts)
    paused = Verdict(
        type=ConditionType.PAUSED,
        holds=cluster.spec.paused,
        reason=Reason.ASKED if cluster.spec.paused else Reason.RUNNING,
        message="spec.paused is true" if cluster.spec.paused else "the operator works on this cluster",
    )
    serving = [pod for pod in observed.pods if pod.serving]
    learned = next((pod.readyz.cluster_id for pod in serving if pod.readyz and pod.readyz.cluster_id), None)
    previous = cluster.status
    return api.Status(
        observed_generation=cluster.generation,
        phase=_phase(cluster, ready, previous),
        cluster_id=previous.cluster_id or learned,
        prefix=cluster.prefix,
        replicas=sum(not pod.deleting for pod in observed.pods),
        ready_replicas=len(serving),
        ready=f"{len(serving)}/{cluster.spec.replicas}",
        selector=naming.selector(cluster.name),
        bootstrap=network.bootstrap_address(cluster),
        listeners=status.listeners(cluster, observed, node_ports),
        brokers=status.brokers(cluster, observed),
        conditions=status.conditions(
            [ready, storage, progressing, paused], previous.conditions, generation=cluster.generation, now=now
        ),
    )


def _phase(cluster: Cluster, ready: Verdict, previous: api.Status) -> str:
    if cluster.deleting:
        return "Deleting"
    if cluster.spec.paused:
        return "Paused"
    if ready.holds:
        return "Ready"
    return "Degraded" if previous.cluster_id else "Pending"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionPlan:
    """What a resource that is being deleted still needs; `done` releases the finalizer."""

    actions: Sequence[Action] = ()
    notes: Sequence[Note] = ()
    done: bool = False


def reconcile_deletion(cluster: Cluster, observed: Observed, *, deleting_s: float, limits: Limits) -> DeletionPlan:
    """Retain: let go at once, children follow. Delete: brokers first, then the prefix, bounded in time."""
    if cluster.spec.storage.deletion_policy == "Retain" or cluster.status.cluster_id is None:
        return DeletionPlan(done=True)
    if deleting_s > limits.erase_s:
        text = (
            f"gave up emptying {cluster.store_uri} after {limits.erase_s:.0f} s; cluster {cluster.status.cluster_id} "
            f"is still there: automq erase '{cluster.store_uri}' --cluster-id {cluster.status.cluster_id} "
            f"--owner {cluster.uid}"
        )
        return DeletionPlan(done=True, notes=[Note(reason="DataLeftBehind", message=text, warning=True)])
    live = observed.get("StatefulSet", naming.workload(cluster.name))
    if live is not None and owned_by(live, cluster.uid):
        if "deletionTimestamp" in live["metadata"]:
            return DeletionPlan()
        name = naming.workload(cluster.name)
        return DeletionPlan(actions=[DeleteObject(kind="StatefulSet", name=name, uid=live["metadata"]["uid"])])
    if observed.pods:
        lost = [pod for pod in observed.pods if _is_lost(pod, observed, limits)]
        return DeletionPlan(actions=[DeletePod(name=pod.name, uid=pod.uid, force=True) for pod in lost])
    return _erase(cluster, observed)


def _erase(cluster: Cluster, observed: Observed) -> DeletionPlan:
    name = naming.erase_job(cluster.name)
    job = observed.get("Job", name)
    if job is None:
        text = f"emptying {cluster.store_uri} of cluster {cluster.status.cluster_id}"
        return DeletionPlan(
            actions=[Apply(manifest=erase.erase_job(cluster))], notes=[Note(reason="Erasing", message=text)]
        )
    finished = {item["type"] for item in job.get("status", {}).get("conditions", []) if item["status"] == "True"}
    if "Complete" in finished:
        return DeletionPlan(done=True, notes=[Note(reason="Erased", message=f"{cluster.store_uri} is empty")])
    if "Failed" in finished:  # tried several times: make it anew until the time is over
        return DeletionPlan(actions=[DeleteObject(kind="Job", name=name, uid=job["metadata"]["uid"])])
    return DeletionPlan()
