"""Pure: brokers whose pods were made from another template than the StatefulSet has now.

A pod is deleted only when the StatefulSet that will make the new one is up to date, or the old template would come
back. Broken ones come first. No probe of the operator's own is a reason: a broker is restarted because the user or an
upgrade changed what it must be restarted for, or because it says that its store refuses it and `adopt` has changed.
"""

from collections.abc import Mapping
from typing import Any

from automq_operator.plan import DeletePod, Disruption, Finding, Proposal
from automq_operator.reasons import Reason
from automq_operator.view import SERVING, Broker, View


def plan(view: View) -> Proposal:
    """All outdated brokers, the best candidate first."""
    # One that is not wanted any more goes as it is.
    brokers = view.wanted or view.brokers
    outdated = [broker for broker in brokers if _is_outdated(broker, view)]
    if not outdated:
        return Proposal()
    outdated.sort(key=lambda broker: (not broker.broken, not broker.draining, broker.id))
    findings = [Finding(reason=Reason.ROLLING, about=[broker.name for broker in outdated])]
    if not _workload_up_to_date(view):
        return Proposal(findings=findings)
    return Proposal(disruptions=[_restart(broker) for broker in outdated], findings=findings)


def _restart(broker: Broker) -> Disruption:
    assert broker.pod is not None, "only a pod can be outdated"
    action = DeletePod(name=broker.name, uid=broker.pod.uid, force=False, why=Reason.ROLLING)
    return Disruption(broker=broker.id, action=action, voluntary=True, broken=broker.broken)


def _is_outdated(broker: Broker, view: View) -> bool:
    pod = broker.pod
    newest = view.template_hash(broker.id)
    if pod is None or pod.deleting or newest is None:
        return False
    if pod.restart_hash != newest:
        return True
    if _advertises_other_addresses(broker, view):
        return True
    return broker.refused_by_store and pod.adopt != (view.cluster.spec.storage.adopt or "")


def _advertises_other_addresses(broker: Broker, view: View) -> bool:
    """It serves, and by its own word tells clients something else than what its own Services were given.

    Not of a pod that is new: its file may have been older than the address, and a restart for a word that never
    comes may not follow a restart at once.
    """
    pod = broker.pod
    reported = pod.readyz if pod is not None else None
    if pod is None or reported is None or reported.state != SERVING or reported.advertised is None:
        return False
    if pod.seen_s < view.limits.address_s:
        return False
    # Kafka's listener names are in capitals, whatever they were written in.
    advertised = {name.casefold(): address for name, address in reported.advertised.items()}
    ports = {listener.name: listener.port for listener in view.cluster.spec.listeners}
    if any(
        advertised.get(listener.casefold(), "").rpartition(":")[2] != str(port)
        for (listener, node_id), port in view.layout.broker_ports.items()
        if node_id == broker.id
    ):
        return True
    return any(
        advertised.get(listener.casefold()) != f"{address}:{ports[listener]}"
        for (listener, node_id), address in view.layout.addresses.items()
        if node_id == broker.id
    )


def _workload_up_to_date(view: View) -> bool:
    """What shapes pods is as it should be, or is held, and its controller has seen it."""
    if any(item.child.shapes_pods and item.differs and not item.held for item in view.rendered):
        return False
    return all(live is not None and _seen_by_its_controller(live) for live in view.workloads)


def _seen_by_its_controller(live: Mapping[str, Any]) -> bool:
    seen: int = (live.get("status") or {}).get("observedGeneration", 0)
    return bool(seen >= live["metadata"].get("generation", 0))
