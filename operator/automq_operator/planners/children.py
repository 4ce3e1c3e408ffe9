"""Pure: makes children what they should be and removes those that are not wanted. One child never waits for another."""

from automq_operator import naming
from automq_operator.kinds import CHILD_KINDS
from automq_operator.observed import owned_by
from automq_operator.plan import Action, Apply, DeleteObject, Finding, Note, Proposal
from automq_operator.reasons import Reason
from automq_operator.resources import network
from automq_operator.view import View
from automq_operator.wording import named, refusal_note


def plan(view: View) -> Proposal:
    """What differs is applied; what is refused is reported and tried again in time."""
    actions: list[Action] = []
    findings: list[Finding] = []
    notes: list[Note] = []
    waiting = waiting_ports(view)
    applied = []
    for item in view.rendered:
        if item.foreign or not item.differs or item.held:
            continue
        if item.child.shapes_pods and waiting:
            continue  # brokers are made, or restarted, once: with all of their addresses
        actions.append(Apply(manifest=item.manifest, uid=item.live["metadata"]["uid"] if item.live else None))
        if item.child.key not in view.observed.refused:
            applied.append(named(item.child.key))
    conflicts = [named(item.child.key) for item in view.rendered if item.foreign]
    if conflicts:
        findings.append(Finding(reason=Reason.NAME_CONFLICT, about=conflicts))
    for key, refusal in sorted(view.observed.refused.items()):
        findings.append(Finding(reason=Reason.REFUSED, about=[named(key), str(refusal.status), refusal.message]))
        notes.append(refusal_note(key, refusal))
    if waiting:
        findings.append(Finding(reason=Reason.WAITING_FOR_NODE_PORT, about=waiting))
    without_address = waiting_addresses(view)
    if without_address:
        findings.append(Finding(reason=Reason.WAITING_FOR_LOAD_BALANCER, about=without_address))
    unwanted = _unwanted(view)
    if applied or unwanted:
        names = applied + [named((item.kind, item.name)) for item in unwanted]
        findings.append(Finding(reason=Reason.DEPLOYING, about=names))
    if view.pending and not view.permits.may_move:
        findings.append(Finding(reason=Reason.UPGRADE_PENDING, about=[view.permits.waits_for or ""]))
    return Proposal(actions=[*actions, *unwanted], findings=findings, notes=notes)


def waiting_ports(view: View) -> list[str]:
    """NodePort listeners with a Service that was accepted or is being made and has no port yet."""
    found = []
    for listener in view.cluster.spec.listeners:
        if listener.type != "NodePort":
            continue
        name = view.cluster.name
        services = [naming.broker_service(name, listener.name, node_id) for node_id in view.layout.ids]
        services.append(naming.outside_service(name, listener.name))
        if any(_awaits_port(view, service, listener.name) for service in services):
            found.append(listener.name)
    return found


def _awaits_port(view: View, service: str, listener: str) -> bool:
    live = view.observed.get("Service", service)
    if ("Service", service) in view.observed.refused:
        return False
    if live is not None and not owned_by(live, view.cluster.uid):
        return False
    return network.node_port(live, listener) is None


def waiting_addresses(view: View) -> list[str]:
    """Services of load balancers without an address. Nothing waits for them: their listeners come when they do."""
    found = []
    for listener in view.cluster.spec.listeners:
        if listener.type != "LoadBalancer":
            continue
        names = [naming.broker_service(view.cluster.name, listener.name, id) for id in view.layout.ids]
        for name in [naming.outside_service(view.cluster.name, listener.name), *names]:
            live = view.observed.owned("Service", name, view.cluster.uid)
            if live is not None and network.ingress_address(live) is None:
                found.append(f"Service/{name}")
    return found


def _unwanted(view: View) -> list[DeleteObject]:
    """Children of listeners and the like that are gone. Nothing that this cluster does not own is ever deleted."""
    wanted = {item.child.key for item in view.rendered}
    return [
        DeleteObject(kind=kind, name=name, uid=live["metadata"]["uid"])
        for (kind, name), live in sorted(view.observed.objects.items())
        if kind in CHILD_KINDS
        and (kind, name) not in wanted
        and owned_by(live, view.cluster.uid)
        and "deletionTimestamp" not in live["metadata"]
    ]
