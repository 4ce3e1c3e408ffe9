"""Pure: brokers whose pods are gone for good and that the Kafka cluster still counts as alive: it is told at once.

Failover then waits for no session. Only what Kubernetes has deleted counts: a pod by its uid, a node by its object.
That a node is not ready says nothing of a broker, whose session decides. The cluster itself sees whether the broker
still sends heartbeats, and ends none that does.
"""

from automq_operator.plan import EndBroker, Proposal
from automq_operator.planners.drain import ways
from automq_operator.view import View


def plan(view: View) -> Proposal:
    """One request for each, by the epoch of the incarnation that ran there."""
    registered = view.observed.registered or {}
    through = tuple(ways(view))
    if not through:
        return Proposal()
    actions = [
        EndBroker(name=gone.pod, uid=gone.uid, broker=gone.broker, epoch=gone.epoch, through=through)
        for gone in view.observed.gone
        if registered.get(gone.broker) is False
    ]
    return Proposal(actions=actions)
