"""Pure: how many pods the StatefulSet keeps, and whether all of them are there.

The only place that decides about shrinking. It takes the drained brokers as its argument: a StatefulSet gives up its
highest ordinals, so it may shrink to just above the highest broker that still has something.
"""

from collections.abc import Set

from automq_operator.observed import Observed
from automq_operator.plan import Finding, Proposal
from automq_operator.reasons import Reason
from automq_operator.view import View


def replicas(*, wanted: int, live: int, drained: Set[int]) -> int:
    """What the StatefulSet keeps: at least what is wanted, and every broker that is not drained.

    Nobody is drained where no broker is to stay: each leaves what it has in the bucket, for whoever comes back.
    """
    if wanted == 0:
        return 0
    kept = live
    while kept > wanted and kept - 1 in drained:
        kept -= 1
    return max(wanted, kept)


def live_replicas(observed: Observed, name: str, uid: str) -> int:
    """What the live StatefulSet keeps now; 0 when there is none."""
    live = observed.owned("StatefulSet", name, uid) or {}
    return int((live.get("spec") or {}).get("replicas") or 0)


def plan(view: View) -> Proposal:
    """Reports brokers that are missing or on their way, and all when they are to end."""
    wanted = view.cluster.spec.replicas
    surplus = [broker.name for broker in view.brokers if broker.id >= wanted]
    if surplus and wanted == 0:
        return Proposal(findings=[Finding(reason=Reason.STOPPING, about=surplus)])
    missing = [item.name for item in view.wanted if item.pod is None or item.pod.deleting]
    if missing and view.workload is not None:
        return Proposal(findings=[Finding(reason=Reason.STARTING, about=missing)])
    return Proposal()
