"""Pure: brokers that were given up by their cluster while they were cut off, and do not come back by themselves.

A fenced broker begins anew as soon as it has read what became of it; one that cannot, or that waits for a successor,
serves nobody, so that two supervisors do not make two processes fence each other for ever. Whose pod is the one that
Kubernetes knows has no other process that it would fence: it starts anew. A pod that was replaced is not seen here any
more, whatever still runs of it.
"""

from automq_operator.plan import DeletePod, Disruption, Finding, Proposal
from automq_operator.reasons import Reason
from automq_operator.view import FENCED, Broker, View


def plan(view: View) -> Proposal:
    """All of them, each as a disruption of a broker that serves nobody anyway."""
    fenced = [broker for broker in view.wanted if _is_fenced(broker, view)]
    if not fenced:
        return Proposal()
    return Proposal(
        disruptions=[_restart(broker) for broker in fenced],
        findings=[Finding(reason=Reason.FENCED, about=[broker.name for broker in fenced])],
    )


def _is_fenced(broker: Broker, view: View) -> bool:
    pod = broker.pod
    if pod is None or pod.deleting or pod.readyz is None or pod.readyz.state != FENCED:
        return False
    return pod.fenced_s >= view.limits.fenced_s


def _restart(broker: Broker) -> Disruption:
    assert broker.pod is not None, "only a pod's broker can be fenced"
    action = DeletePod(name=broker.name, uid=broker.pod.uid, force=False, why=Reason.FENCED)
    return Disruption(broker=broker.id, action=action, voluntary=True, broken=True)
