"""Pure: from what was observed to the status that is reported. Equal observations give equal statuses."""

from collections.abc import Sequence
from dataclasses import dataclass

from automq_operator import api, naming
from automq_operator.cluster import Cluster
from automq_operator.observed import Observed, Pod
from automq_operator.reasons import MEANINGS, STORE_REASONS, ConditionType, Reason
from automq_operator.resources import network, workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One condition before it gets its times."""

    type: ConditionType
    holds: bool | None
    reason: Reason
    message: str

    def __post_init__(self) -> None:
        assert (self.type, self.reason) in MEANINGS, (self.type, self.reason)


def brokers(cluster: Cluster, observed: Observed) -> list[api.BrokerStatus]:
    """One line a wanted broker, by id."""
    by_name = {pod.name: pod for pod in observed.pods}
    found = []
    for node_id in range(cluster.spec.replicas):
        name = naming.pod(cluster.name, node_id)
        pod = by_name.get(name)
        if pod is None:
            found.append(api.BrokerStatus(id=node_id, pod=name))
            continue
        state = pod.readyz.state if pod.readyz else ("Unreachable" if pod.scheduled else "Pending")
        reason = (pod.readyz.reason if pod.readyz else None) or (pod.last_words[0] if pod.last_words else None)
        found.append(api.BrokerStatus(id=node_id, pod=name, node=pod.node, state=state, reason=reason))
    return found


def storage_verdict(cluster: Cluster, observed: Observed) -> Verdict:
    """What the brokers say about the store; the first that has something to say counts."""
    for pod in observed.pods:
        if pod.readyz is not None and pod.readyz.reason in STORE_REASONS:
            message = pod.readyz.message or ""
            return Verdict(
                type=ConditionType.STORAGE_READY, holds=False, reason=Reason(pod.readyz.reason), message=message
            )
    if any(pod.serving for pod in observed.pods):
        return Verdict(
            type=ConditionType.STORAGE_READY, holds=True, reason=Reason.AVAILABLE, message="the store answers"
        )
    for pod in observed.pods:
        if pod.readyz is None and pod.last_words is not None and pod.last_words[0] in STORE_REASONS:
            reason, message = pod.last_words
            return Verdict(type=ConditionType.STORAGE_READY, holds=False, reason=Reason(reason), message=message)
    message = "no broker has said anything about the store yet"
    return Verdict(type=ConditionType.STORAGE_READY, holds=None, reason=Reason.UNKNOWN, message=message)


def ready_verdict(cluster: Cluster, observed: Observed, storage: Verdict, conflicts: Sequence[str]) -> Verdict:
    """Whether clients are served, and if not, the one thing to look at."""
    wanted, serving = cluster.spec.replicas, sum(pod.serving for pod in observed.pods)
    if conflicts:
        message = f"{', '.join(conflicts)} exists and is not this cluster's; rename or remove it"
        return Verdict(type=ConditionType.READY, holds=serving >= wanted, reason=Reason.NAME_CONFLICT, message=message)
    if serving >= wanted:
        message = f"{serving} of {wanted} brokers serve"
        return Verdict(type=ConditionType.READY, holds=True, reason=Reason.SERVING, message=message)
    if storage.holds is False:
        message = f"{storage.reason}: {storage.message}"
        return Verdict(type=ConditionType.READY, holds=False, reason=Reason.STORE, message=message)
    reason, message = _why_not_serving(observed.pods)
    return Verdict(type=ConditionType.READY, holds=False, reason=reason, message=message)


def _why_not_serving(pods: Sequence[Pod]) -> tuple[Reason, str]:
    for pod in pods:
        if pod.serving:
            continue
        if not pod.scheduled:
            return Reason.POD_PENDING, f"pod {pod.name} is not placed on a node: kubectl describe pod {pod.name}"
        if pod.waiting_reason in ("ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull"):
            return Reason.IMAGE_UNAVAILABLE, f"pod {pod.name}: {pod.waiting_reason}; check spec.image"
        if pod.readyz is not None:
            return Reason.STARTING, f"broker in {pod.name} is in state {pod.readyz.state}"
        if pod.last_words is not None:
            reason, message = pod.last_words
            known = reason in (Reason.INVALID_SETTINGS, Reason.ADDRESS_IN_USE, Reason.FENCED)
            return (Reason(reason) if known else Reason.BROKER_DOWN), f"broker in {pod.name} ended: {message}"
    return Reason.STARTING, "a broker is being started"


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
                message=verdict.message[:1024],
                last_transition_time=old.last_transition_time if same and old else now,
                observed_generation=generation,
            )
        )
    return found


def listeners(cluster: Cluster, observed: Observed, node_ports: workload.NodePorts) -> list[api.ListenerStatus]:
    """Where to connect, by listener. A NodePort listener is reached through any broker's node."""
    found = []
    for listener in cluster.spec.listeners:
        if listener.type == "Internal":
            host = network.bootstrap_address(cluster).rsplit(":", 1)[0]
            found.append(api.ListenerStatus(name=listener.name, bootstrap=f"{host}:{listener.port}"))
        elif listener.name in node_ports:
            host = listener.host or "<node address>"
            found.append(api.ListenerStatus(name=listener.name, bootstrap=f"{host}:{node_ports[listener.name]}"))
    return found
