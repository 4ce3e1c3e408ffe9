"""Pure: who is to be emptied, who is empty, and who is to be forgotten.

What is known comes from the brokers' own answers in this very pass: an operator that died in the middle of a drain is
followed by one that sees the same. A wish that is taken back is taken back with the broker. Three things ask for a
drain: fewer replicas, the annotation, and a restart that would otherwise take partitions away from their clients.
"""

from collections.abc import Sequence
from typing import Final

from automq_operator import naming
from automq_operator.plan import Action, Finding, LabelPod, Limits, Note, Proposal, SetDraining, Unregister
from automq_operator.planners.lost import is_lost
from automq_operator.reasons import Reason
from automq_operator.view import Broker, View

THROUGH_MAX: Final = 3
"""Brokers that are asked one after the other until one answers."""
EMPTYING: Final = ("Serving", "Recovering", "Draining")
"""States of a broker that has, or will have, something to give away."""


def victims(view: View) -> list[Broker]:
    """Brokers beyond what is wanted. Where none is to stay there is nobody to take anything: all just end."""
    return [broker for broker in view.brokers if broker.id not in view.wanted_ids] if view.wanted_ids else []


def leaving(view: View, restarting: int | None = None) -> frozenset[int]:
    """Ids of all that are to be emptied."""
    alone = {restarting} if restarting is not None else set()
    return frozenset({broker.id for broker in victims(view)} | view.kept_empty | alone)


def is_drained(broker: Broker, limits: Limits) -> bool:
    """It has nothing that would be missed: by its own word, or because nothing of it runs.

    Silence is no word: a broker that runs and does not answer may well serve its clients.
    """
    pod = broker.pod
    if pod is None or pod.deleting or not pod.running or is_lost(broker, limits):
        return True
    if pod.readyz is None:
        return False
    return pod.readyz.empty or pod.readyz.state not in EMPTYING


def drained(view: View) -> frozenset[int]:
    """Ids of the victims that can go."""
    return frozenset(broker.id for broker in victims(view) if is_drained(broker, view.limits))


def is_worth_it(view: View, node_id: int) -> bool:
    """Whether a restart of this broker begins with emptying it: it serves, says so, and another can take over."""
    broker = next(item for item in view.brokers if item.id == node_id)
    if broker.pod is None or broker.pod.readyz is None or not broker.serving:
        return False
    return any(other.id not in leaving(view, node_id) and other.serving for other in view.brokers)


def is_done(view: View, node_id: int) -> bool:
    """The restart waits no longer. What cannot be given away (a damaged log) keeps no update from a broker for ever."""
    broker = next(item for item in view.brokers if item.id == node_id)
    return is_drained(broker, view.limits) or (broker.pod is not None and broker.pod.draining_s >= view.limits.drain_s)


def plan(view: View, *, restarting: int | None) -> Proposal:
    """`restarting` is the broker whose restart waits for its drain."""
    wanted_out = leaving(view, restarting)
    actions: list[Action] = []
    for broker in view.brokers if view.cluster.spec.replicas else []:
        actions += _actions(view, broker, broker.id in wanted_out)
    actions += _forgotten(view, ways(view, restarting))
    return Proposal(actions=actions, findings=_findings(view), notes=_notes(view))


def _actions(view: View, broker: Broker, out: bool) -> list[Action]:
    pod = broker.pod
    if pod is None or pod.deleting:
        return []
    found: list[Action] = []
    # Autoscalers stop counting it before it has less to do, and count it again only when it has its share again.
    counted_out = broker.id not in view.wanted_ids or broker.id in view.kept_empty
    if pod.labelled_draining != counted_out and (counted_out or not broker.draining):
        found.append(LabelPod(name=pod.name, uid=pod.uid, draining=counted_out))
    if pod.readyz is None or pod.address is None or broker.draining == out:
        return found
    if pod.readyz.state in EMPTYING:
        # Kafka's rule: a broker's configs are altered through that broker.
        itself = ((pod.address, view.cluster.inside_port),)
        found.append(SetDraining(name=broker.name, broker=broker.id, on=out, through=itself))
    return found


def _forgotten(view: View, through: Sequence[tuple[str, int]]) -> list[Action]:
    """Brokers that the cluster still knows and whose pods are gone for good."""
    if view.observed.registered is None or not view.cluster.spec.replicas or not through:
        return []
    there = {broker.id for broker in view.brokers if broker.pod is not None} | set(view.layout.ids)
    return [
        Unregister(name=naming.pod(view.cluster.name, node_id), broker=node_id, through=tuple(through))
        for node_id, fenced in sorted(view.observed.registered.items())
        if fenced and node_id not in there
    ]


def ways(view: View, restarting: int | None = None) -> list[tuple[str, int]]:
    """Addresses of brokers that can be asked, those that stay first."""
    port = view.cluster.inside_port
    out = leaving(view, restarting)
    serving = sorted((broker.id in out, broker.id) for broker in view.brokers if broker.serving)
    by_id = {broker.id: broker.pod for broker in view.brokers}
    found = [pod.address for _, node_id in serving if (pod := by_id[node_id]) is not None and pod.address]
    return [(address, port) for address in found[:THROUGH_MAX]]


def _findings(view: View) -> list[Finding]:
    found = []
    going = [f"{broker.name}{_why(broker, view)}" for broker in victims(view)]
    if going:
        found.append(Finding(reason=Reason.SCALING_IN, about=going))
    asked = [broker for broker in view.wanted if broker.id in view.kept_empty]
    # A StatefulSet gives up its highest ordinals only: one that is named and below them stays.
    stays = " (stays, as fewer replicas take the highest ids)" if going else ""
    busy = [f"{item.name}{_why(item, view)}{stays}" for item in asked if going or not is_drained(item, view.limits)]
    if busy:
        found.append(Finding(reason=Reason.DRAINING, about=busy))
    return found


def _why(broker: Broker, view: View) -> str:
    """What keeps a broker, in its own words."""
    if is_drained(broker, view.limits):
        return ""
    reason = broker.pod.readyz.not_empty if broker.pod is not None and broker.pod.readyz is not None else None
    return f" ({reason or 'it does not answer the operator'})"


def _notes(view: View) -> list[Note]:
    wanted = view.cluster.spec.replicas
    if not victims(view):
        return []
    return [Note(reason="ScalingIn", message=f"emptying the brokers beyond {wanted} before they end")]
