"""Pure: brokers on nodes that are lost. A StatefulSet would wait for such a node for ever.

A node counts as lost by what Kubernetes says of it, for a time that the operator measures itself, and only while its
broker does not answer either. Even then nothing is replaced unless there is somewhere to go, nor while most nodes are
not ready: that is a fault between the nodes and the API server, and brokers serve on through it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from automq_operator.observed import Node, Taint
from automq_operator.plan import DeletePod, Disruption, Finding, Limits, Proposal
from automq_operator.reasons import Reason
from automq_operator.view import Broker, View
from automq_operator.zones import zone_of


def plan(view: View) -> Proposal:
    """At most the lost brokers, each as an involuntary disruption."""
    lost = [broker for broker in view.brokers if is_lost(broker, view.limits)]
    if not lost:
        return Proposal()
    names = [broker.name for broker in lost]
    if most_not_ready(view.observed.nodes):
        return Proposal(findings=[Finding(reason=Reason.MOST_NODES_NOT_READY, about=names)])
    found, without_node = [], []
    for broker in lost:
        assert broker.pod is not None, "only a pod can be on a lost node"
        if not has_target(view, broker):
            without_node.append(broker.name)
            continue
        action = DeletePod(name=broker.name, uid=broker.pod.uid, force=True, why=Reason.REPLACING, node=broker.pod.node)
        found.append(Disruption(broker=broker.id, action=action, voluntary=False))
    findings = [Finding(reason=Reason.REPLACING, about=[item.action.name for item in found])] if found else []
    if without_node:
        findings.append(Finding(reason=Reason.NO_NODE_LEFT, about=without_node))
    return Proposal(disruptions=found, findings=findings)


def is_lost(broker: Broker, limits: Limits) -> bool:
    """Kubernetes has said for long enough that its node is gone or not ready, and the broker does not contradict."""
    if broker.pod is None or broker.pod.node is None:
        return False
    if broker.node_gone:
        return True
    node = broker.node
    if node is None or node.ready:
        return False
    contradicted = broker.serving and not broker.pod.deleting
    return node.not_ready_s >= (limits.node_lost_serving_s if contradicted else limits.node_lost_s)


def most_not_ready(nodes: Mapping[str, Node | None]) -> bool:
    """More than half of all nodes: then it is not the nodes that are lost."""
    known = [node for node in nodes.values() if node is not None]
    return 2 * sum(not node.ready for node in known) > len(known)


def has_target(view: View, broker: Broker) -> bool:
    """A Ready, schedulable node other than its own that its pod may be placed on, as far as can be seen from here."""
    pod_spec = view.cluster.spec.template.pod.spec
    selector, tolerations = pod_spec.get("nodeSelector"), pod_spec.get("tolerations")
    selector = view.cluster.node_selector(zone_of(broker.id)) | (selector if isinstance(selector, dict) else {})
    tolerations = [item for item in tolerations if isinstance(item, dict)] if isinstance(tolerations, list) else []
    return any(
        node is not None
        and node.ready
        and node.schedulable
        and (broker.pod is None or node.name != broker.pod.node)
        and all(node.labels.get(key) == value for key, value in selector.items())
        and all(_tolerated(taint, tolerations) for taint in node.taints)
        for node in view.observed.nodes.values()
    )


def _tolerated(taint: Taint, tolerations: Sequence[Mapping[str, Any]]) -> bool:
    if taint.effect not in ("NoSchedule", "NoExecute"):
        return True
    for item in tolerations:
        if item.get("effect") not in (None, "", taint.effect):
            continue
        if item.get("operator") == "Exists" and item.get("key") in (None, "", taint.key):
            return True
        if item.get("key") == taint.key and item.get("value", "") == taint.value:
            return True
    return False
